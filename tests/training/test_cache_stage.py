"""The stage `cache`: what it stores, resumes, refuses, and pretraining on top of it."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from attempts import StopAfter
from noise import write_noise
from PIL import Image

from cp2.augment.pipeline import batches
from cp2.augment.samples import PretrainDataset
from cp2.data.derived import AppendedFiles
from cp2.data.image_cache import PIXELS, RECORD, ROWS, CachedImages, check_pixels
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, read_index
from cp2.errors import UserError, WrongFile
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.settings.load import Configuration, load_campaign
from cp2.settings.methods import Cp2Settings
from cp2.settings.views import ViewSettings
from cp2.training.cache import make_cache, shrink
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain

SIDE = 32
IMAGES = 12


@pytest.fixture
def cached(tmp_path: Path) -> tuple[Configuration, Plan]:
    """Twelve pictures of 48 x 40 pixels, and a plan whose CP² reads them from a cache."""
    write_noise(tmp_path)
    configuration = load_campaign(
        str(tmp_path / "tiny.yaml"), [f"methods.cp2.reading.cache={SIDE}"]
    )
    return configuration, build_plan(configuration)


def _only(plan: Plan) -> Run:
    (run,) = plan.stage("cache")
    return run


def _make(configuration: Configuration, run: Run, deadline: Deadline | None = None) -> Path:
    make_cache(run, configuration.results, configuration.campaign.execution, deadline or Deadline())
    return run.folder(configuration.results).path


def _index(configuration: Configuration) -> DatasetIndex:
    return read_index(configuration.results / "datasets" / "photos")


def test_only_the_method_that_reads_it_needs_the_cache(cached: tuple[Configuration, Plan]) -> None:
    _, plan = cached
    run = _only(plan)
    assert run.id.startswith(f"photos-{SIDE}-")
    for pretraining in plan.stage("pretrain"):
        needs_it = run.key in pretraining.needs
        assert needs_it == pretraining.tags["method"].startswith("cp2")


def test_it_holds_every_image_shrunk(cached: tuple[Configuration, Plan]) -> None:
    configuration, plan = cached
    folder = _make(configuration, _only(plan))
    index = _index(configuration)
    images = CachedImages(folder, index)
    assert len(images) == IMAGES
    for number, path in enumerate(index.paths("train")):
        opened = images.open(number)
        expected = shrink(decode_rgb(path), SIDE)
        assert (opened.height, opened.width) == tuple(expected.shape[1:]) == (SIDE, 38)
        assert torch.equal(opened.pixels(), expected)
        assert images.name(number) == str(path)
    done = json.loads((folder / "done.json").read_text())
    assert done["images"] == IMAGES
    assert done["bytes"] == IMAGES * SIDE * 38 * 3 == (folder / PIXELS).stat().st_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 48), (32, 38)), ((64, 32), (64, 32)), ((20, 500), (20, 500)), ((1000, 33), (970, 32))],
)
def test_shrinking_keeps_the_aspect_and_never_enlarges(size, expected) -> None:
    image = torch.full((3, *size), 7, dtype=torch.uint8)
    assert shrink(image, 32).shape == (3, *expected)
    assert (shrink(image, 32) == 7).all()


def test_shrinking_equals_pils(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(pixels).resize((43, 32), Image.Resampling.BILINEAR))
    ours = shrink(torch.from_numpy(pixels).permute(2, 0, 1), 32).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("images", [1, 5, 11])
@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_equals_uninterrupted(
    cached: tuple[Configuration, Plan], images: int, workers: int
) -> None:
    configuration, plan = cached
    run = _only(plan)
    whole = (_make(configuration, run) / PIXELS).read_bytes()
    folder = run.folder(configuration.results).path
    (folder / PIXELS).unlink()
    execution = configuration.campaign.execution.model_copy(update={"workers": workers})
    with pytest.raises(StoppedForResumeError, match=f"saved after {images} of {IMAGES} images"):
        make_cache(run, configuration.results, execution, StopAfter(images))
    assert not (folder / "done.json").exists()
    with (folder / "state" / PIXELS).open("ab") as file:
        file.write(b"what a power cut left")
    make_cache(run, configuration.results, execution, Deadline())
    assert (folder / PIXELS).read_bytes() == whole
    CachedImages(folder, _index(configuration))


def test_a_state_that_is_not_whole_starts_again(cached: tuple[Configuration, Plan]) -> None:
    configuration, plan = cached
    run = _only(plan)
    with pytest.raises(StoppedForResumeError):
        _make(configuration, run, StopAfter(6))
    state = run.folder(configuration.results).state
    (state / PIXELS).write_bytes(b"short")
    assert len(CachedImages(_make(configuration, run), _index(configuration))) == IMAGES


def test_a_full_disk_says_so_and_keeps_what_was_saved(
    cached: tuple[Configuration, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, plan = cached
    run = _only(plan)
    with pytest.raises(StoppedForResumeError):
        _make(configuration, run, StopAfter(6))

    def full(self: AppendedFiles, name: str) -> object:
        return FullDisk((self.folder / name).open("ab"), self.sizes[name])

    with monkeypatch.context() as patch:
        patch.setattr(AppendedFiles, "_open", full)
        with pytest.raises(UserError, match=r"no space left on the disk after \d+ images .*again"):
            _make(configuration, run)
    state = run.folder(configuration.results).state
    assert json.loads((state / "count.json").read_text())["images"] == 6
    assert len(CachedImages(_make(configuration, run), _index(configuration))) == IMAGES


class FullDisk:
    """A file that takes nothing more."""

    def __init__(self, file, size):
        self._file = file
        file.truncate(size)

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self._file.close()


def test_pretraining_reads_the_cache_and_nothing_else(
    cached: tuple[Configuration, Plan],
) -> None:
    configuration, plan = cached
    _make(configuration, _only(plan))
    for path in _index(configuration).paths("train"):
        path.unlink()
    run = next(r for r in plan.stage("pretrain") if r.tags["method"] == "cp2")
    pretrain(run, configuration.results, configuration.campaign.execution, Deadline())
    assert run.is_done(configuration.results)


def test_batches_from_a_cache_do_not_depend_on_workers(
    cached: tuple[Configuration, Plan],
) -> None:
    configuration, plan = cached
    images = CachedImages(_make(configuration, _only(plan)), _index(configuration))
    settings = Cp2Settings(
        name="t", title="", kind="cp2", optimizer={}, views=ViewSettings(crop_size=16)
    )
    alone, others = (
        list(batches(PretrainDataset(images, settings, 0), 0, 0, 4, workers, pin=False))
        for workers in (0, 2)
    )
    for one, other in zip(alone, others, strict=True):
        assert torch.equal(one.crops, other.crops)


def test_unreadable_images_are_left_out_named_and_replaced(
    cached: tuple[Configuration, Plan],
) -> None:
    configuration, plan = cached
    paths = _index(configuration).paths("train")
    paths[3].write_bytes(b"")
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    run = _only(plan)
    folder = _make(configuration, run)
    images = CachedImages(folder, _index(configuration))
    assert images.record.unreadable == 2
    log = (folder / "log.txt").read_text()
    for number in (3, 7):
        assert f"left out: {paths[number]}: is " in log
        with pytest.raises(WrongFile, match=r"not readable as an image when .* was made"):
            images.open(number)
    trained = next(r for r in plan.stage("pretrain") if r.tags["method"] == "cp2")
    pretrain(trained, configuration.results, configuration.campaign.execution, Deadline())
    done = json.loads((trained.folder(configuration.results).done).read_text())
    assert any(note.startswith("2 of 12 images could not be read") for note in done["notes"])
    listed = trained.folder(configuration.results).unreadable.read_text().splitlines()
    assert sorted(listed) == sorted(str(paths[number]) for number in (3, 7))


def _change(folder: Path, **values: object) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: _change(folder, version=99), "version 99, this program reads version 1"),
        (lambda folder: _change(folder, digest="0" * 64), "made from data set photos"),
        (lambda folder: _change(folder, images=11), "11 images of train"),
        (lambda folder: (folder / RECORD).unlink(), "is not there; run: cp2 cache photos-32"),
        (lambda folder: (folder / RECORD).write_text("{"), "is not a whole record"),
        (lambda folder: (folder / PIXELS).write_bytes(b"123"), "has 3 bytes"),
        (lambda folder: (folder / PIXELS).unlink(), "has 0 bytes"),
        (lambda folder: (folder / ROWS).write_bytes(b"123"), "is damaged"),
    ],
)
def test_wrong_caches_are_refused(cached: tuple[Configuration, Plan], damage, text: str) -> None:
    configuration, plan = cached
    folder = _make(configuration, _only(plan))
    damage(folder)
    with pytest.raises(WrongFile, match=text) as error:
        CachedImages(folder, _index(configuration))
    assert "cp2 cache photos-32" in str(error.value)


def test_reading_back_finds_a_flipped_byte(cached: tuple[Configuration, Plan]) -> None:
    configuration, plan = cached
    folder = _make(configuration, _only(plan))
    rows = np.frombuffer((folder / ROWS).read_bytes(), dtype=np.int64).reshape(-1, 4)
    check_pixels(folder / PIXELS, rows)
    data = bytearray((folder / PIXELS).read_bytes())
    data[SIDE * 38 * 3 * 4 + 5] ^= 1
    (folder / PIXELS).write_bytes(data)
    with pytest.raises(WrongFile, match="image 4 is not what was written"):
        check_pixels(folder / PIXELS, rows)


def test_scaled_decoding_of_a_cache_is_refused(tmp_path: Path) -> None:
    write_noise(tmp_path)
    assignments = ["methods.cp2.reading={scaled: true, cache: 32}"]
    with pytest.raises(UserError, match="scaled has no effect on a cache"):
        build_plan(load_campaign(str(tmp_path / "tiny.yaml"), assignments))
