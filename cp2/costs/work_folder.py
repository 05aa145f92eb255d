"""Temporary results folders with a data set of images, to measure the stages' loops in."""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cp2.data.index import DatasetRecord, Item, Split, write_index, write_record
from cp2.data.pillow import image_suffixes, open_image, reading
from cp2.errors import UserError

SYNTHETIC = 64  # images, where none are given
WIDTH, HEIGHT = 500, 375  # of a synthetic image: the usual size in ImageNet
QUALITY = 92  # of its JPEG
OPENED = 1000  # given files whose header is read; all others are judged by their names


class WorkFolder:
    """Images and results folders that share one data set; see `work_folder`.

    Attributes:
        folder: what they lie in.
        paths: the images.
    """

    def __init__(self, folder: Path, paths: Sequence[Path] | None) -> None:
        if paths is not None and not paths:
            raise UserError("no images to measure with; name a folder of images")
        self.folder = folder
        self._numbers = itertools.count()
        self.synthetic = paths is None
        (folder / "images").mkdir()
        self.paths = write_images(folder / "images", SYNTHETIC) if paths is None else list(paths)

    @property
    def description(self) -> str:
        return f"{len(self.paths)} {'synthetic' if self.synthetic else 'given'} images"

    def repeated(self, n: int) -> list[Path]:
        """n images, over and over the same."""
        return list(itertools.islice(itertools.cycle(self.paths), n))

    def pairs(self, n: int, classes: int) -> list[tuple[Path, Path]]:
        """n images with labels, drawn to their size: patches of so many classes."""
        folder = self.folder / f"labels-{classes}"
        labels = [folder / f"{number:04d}.png" for number in range(len(self.paths))]
        if not folder.exists():
            folder.mkdir()
            for number, (image, label) in enumerate(zip(self.paths, labels, strict=True)):
                _write_label(image, label, classes, number)
        return list(itertools.islice(itertools.cycle(zip(self.paths, labels, strict=True)), n))

    def results(self, dataset: str, images: int, split: str, classes: int | None = None) -> Path:
        """A new results folder in which a data set is prepared, as its stage would.

        Args:
            images: of the split.
            classes: of the labels; None: unlabelled.
        """
        folder = self.folder / f"results-{next(self._numbers)}"
        prepared = folder / "datasets" / dataset
        prepared.mkdir(parents=True)
        labels = [""] * images
        if classes is not None:
            labels = [str(label.absolute()) for _, label in self.pairs(images, classes)]
        items = []
        for number, (path, label) in enumerate(zip(self.repeated(images), labels, strict=True)):
            link = prepared / f"{number}{path.suffix}"  # an index names no image twice
            link.symlink_to(path.absolute())
            items.append(Item(split, link.name, label))
        write_index(prepared, items)
        numbers = range(classes or 0)
        record = DatasetRecord(
            name=dataset,
            kind="images" if classes is None else "labelled",
            title="images to measure with",
            digest="0" * 64,
            splits={split: Split(images=images)},
            classes=None if classes is None else tuple(f"class {i}" for i in numbers),
            palette=None if classes is None else tuple((i % 256, i % 256, 0) for i in numbers),
            archives=(),
            created="2000-01-01T00:00:00+00:00",
        )
        write_record(prepared, record)
        return folder


@contextmanager
def work_folder(paths: Sequence[Path] | None) -> Iterator[WorkFolder]:
    """Images and results folders that are gone at the end; None: synthetic images are made.

    Raises:
        UserError: an empty list of paths.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield WorkFolder(Path(folder), paths)


@contextmanager
def silent() -> Iterator[None]:
    """The stages' loops without their log lines."""
    nothing = io.StringIO()
    with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield


def given_images(folder: Path) -> list[Path]:
    """All files below a folder, sorted.

    Raises:
        UserError: there are none, or one is no image.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise UserError(f"{folder}: no files; name a folder of images")
    for path in paths:
        if path.suffix.lower() not in image_suffixes():
            raise UserError(
                f"{path}: not an image by its name; every file below {folder} is used, so "
                f"name a folder that holds only {', '.join(sorted(image_suffixes()))}"
            )
    for path in some(paths):
        image_format(path)
    return paths


def image_format(path: Path) -> str:
    """By the file's header: JPEG, PNG, ...

    Raises:
        UserError: not readable as an image.
    """
    with reading(path), open_image(path) as image:
        return image.format or "unknown"


def some(paths: Sequence[Path]) -> list[Path]:
    """At most OPENED of them, evenly spread."""
    return list(paths[:: max(1, -(-len(paths) // OPENED))])


def write_images(folder: Path, n: int, seed: int = 0) -> list[Path]:
    """n JPEG files of 500 x 375 pixels, which decode about as slowly as real photographs.

    Noise whose contrast falls with its frequency, as in natural images, under a few filled shapes;
    about 70 kB each.
    """
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(n):
        path = folder / f"image-{number:04d}.jpg"
        _synthetic_image(rng).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def _synthetic_image(rng: np.random.Generator) -> Image.Image:
    image = _noise(rng)
    shapes = image.copy()
    draw = ImageDraw.Draw(shapes)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
        w, h = rng.integers(30, 200, size=2)
        color = tuple(int(c) for c in rng.integers(0, 256, size=3))
        draw.ellipse((int(x - w), int(y - h), int(x + w), int(y + h)), fill=color)
    return Image.blend(image, shapes, 0.5)  # half transparent: the shapes keep a texture


def _noise(rng: np.random.Generator) -> Image.Image:
    total = np.full((HEIGHT, WIDTH, 3), 128.0)
    for octave in range(8):
        cell = 2**octave
        size = (WIDTH // cell + 2, HEIGHT // cell + 2)
        coarse = rng.integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += (np.asarray(layer, dtype=np.float64) - 128) * 0.08 * (octave + 1)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _write_label(image: Path, label: Path, classes: int, seed: int) -> None:
    with open_image(image) as file:
        width, height = file.size
    rng = np.random.default_rng(seed)
    patches = rng.integers(classes, size=(4, 5), dtype=np.uint8)
    Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST).save(label)
