"""A campaign for images of one's own, written from their number and size."""

import colorsys
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from cp2.data.labels import read_label
from cp2.data.members import images_below, read_bytes
from cp2.data.pillow import open_image, reading
from cp2.data.walk import LeftOut, files_below
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.record.files import write_text
from cp2.settings.based_files import check_project
from cp2.settings.campaign import CampaignSettings
from cp2.settings.contrastive import ContrastiveSettings, PretrainingSettings
from cp2.settings.load import Configuration, load_campaign

_FEWEST = 32  # images that are worth a pretraining
_LOOKED_AT = 200  # images whose size is read, spread evenly
_FEW = 2_000
_STEPS = 20_000  # that a pretraining of a small set is to have, within 100 and 800 epochs


def new_campaign(
    name: str,
    images: Path,
    labelled: Path | None,
    method: str,
    backbone: str,
    start: str | None,
    epochs: int | None,
) -> list[str]:
    """Write configs/<name>.yaml and, with labels, its table and classes; returns what to say.

    Args:
        images: folder of images, at any depth.
        labelled: folder with images/, labels/, train.txt, val.txt.
        start: a checkpoint, for Quick Tuning.
        epochs: None: by the number of images.
    Raises:
        UserError: a name that is taken or unknown, too few images, labels of one class.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r}: write a small letter, then small letters, digits and _")
    configs = Path("configs")
    check_project(configs)
    files = {configs / f"{name}.yaml": ""}
    if labelled is not None:
        files[configs / "classes" / f"{name}.yaml"] = _classes(labelled)
        files[configs / "tables" / f"{name}.yaml"] = ""
    for path in files:
        if path.exists():
            raise UserError(f"{path} is there already; give another name, or remove it")
    found = Found.look(images)
    plan = Sizes.fit(found, epochs, start is not None)
    model = Model(method, backbone, start, "aspp-small" if plan.crop < 192 else "deeplabv3")
    files[configs / f"{name}.yaml"] = _campaign(name, images, labelled, model, found, plan)
    if labelled is not None:
        files[configs / "tables" / f"{name}.yaml"] = _table(name, model, plan)
    try:
        for path, text in files.items():
            write_text(path, text)
        build_plan(load_campaign(name))
    except UserError:
        for path in files:
            path.unlink(missing_ok=True)
        raise
    said = [f"{found.count} images, short side {found.side} pixels (median)"]
    said += [f"  {note}" for note in found.notes]
    said.append(f"wrote {', '.join(map(str, files))}")
    if labelled is not None:
        said.append(f"write your classes' names into configs/classes/{name}.yaml")
    if found.count < _FEW and start is None:
        said.append(
            f"{found.count} images are few; published weights to start from help most: "
            "--start moco-v2-r50-200 (configs/checkpoints.yaml has more)"
        )
    said += ["", f"cp2 plan --campaign {name}"]
    said += [f"snakemake --workflow-profile workflow/profiles/local --config campaign={name}"]
    return said


@dataclass(frozen=True)
class Found:
    """A folder's images: how many, their median short side in pixels, what was left out."""

    count: int
    side: int
    notes: tuple[str, ...]

    @classmethod
    def look(cls, folder: Path) -> "Found":
        """Walk a folder.

        Raises:
            UserError: there are too few images, or none can be read.
        """
        if not folder.is_dir():
            raise UserError(f"--images {folder}: is no folder")
        left_out = LeftOut()
        files = images_below(folder, left_out)
        if len(files) < _FEWEST:
            raise UserError(
                f"--images {folder}: {len(files)} images; a pretraining needs {_FEWEST} at least, "
                "and says little below a thousand" + "".join(f"\n{n}" for n in left_out.notes())
            )
        sides = []
        for file in files[:: max(1, len(files) // _LOOKED_AT)]:
            # What cannot be read, the data set stage counts and names.
            with (
                suppress(UserError),
                reading(file),
                open_image(io.BytesIO(read_bytes(file))) as image,
            ):
                sides.append(min(image.size))
        if not sides:
            raise UserError(f"--images {folder}: none of the images that were tried can be read")
        return cls(len(files), int(median(sides)), tuple(left_out.notes()))


class Sizes(NamedTuple):
    """Settings that follow from the number and the size of the images."""

    crop: int
    batch: int
    group: int
    queue: int
    momentum: float
    epochs: int

    @classmethod
    def fit(cls, found: Found, epochs: int | None, tuning: bool) -> "Sizes":
        """What suits so many images.

        Args:
            epochs: as asked for; None: by the number of images.
            tuning: published weights are the start (CP² sec. 3.3: 20 epochs).
        """
        batch = _power_of_two(min(256, found.count // 8))
        steps = found.count // batch
        if epochs is None:
            epochs = 20 if tuning else max(100, min(800, _STEPS // steps))
        return cls(
            crop=max(64, min(224, found.side // 32 * 32)),
            batch=batch,
            group=min(64, batch // 2),
            queue=min(65_536, max(2 * batch, _power_of_two(found.count // 4))),
            momentum=0.999 if steps * epochs > _STEPS else 0.99,
            epochs=epochs,
        )


class Model(NamedTuple):
    """What is pretrained, and how: names in configs/."""

    method: str
    backbone: str
    start: str | None
    head: str

    def pretraining(self, dataset: str, epochs: int) -> str:
        """Keys of a pretraining, in YAML."""
        start = f", checkpoint: {self.start}" if self.start else ""
        return f"method: {self.method}, epochs: {epochs}, dataset: {dataset}{start}"


def _campaign(
    name: str, images: Path, labelled: Path | None, model: Model, found: Found, plan: Sizes
) -> str:
    """The campaign's file."""
    photos, scenes = f"{name}-photos", f"{name}-scenes"
    lines = [
        f"# Made by `cp2 new` for {found.count} images; what else can be set: docs/own-data.md.",
        f"title: Pretraining on {name}",
        "scale: mini",
    ]
    if labelled is None:
        lines += [
            "tables: []",
            "pretrainings:",
            f"  - {{backbone: {model.backbone}, head: {model.head}, "
            f"{model.pretraining(photos, plan.epochs)}}}",
        ]
    else:
        lines += [f"tables: [{name}]", f"substitute: {{labelled: {scenes}}}"]
    lines += [
        "overrides:",
        "  datasets:",
        f"    {photos}: {{kind: images, root: {_quoted(images)}, title: {name}}}",
    ]
    if labelled is not None:
        lines.append(
            f"    {scenes}: {{kind: labelled, root: {_quoted(labelled)}, classes: {name}, "
            f"title: {name}}}"
        )
    lines += [
        "  methods:",
        f"    {model.method}:",
        *(f"      {line}" for line in _overrides(_usual(name, model.method), plan)),
        "execution:",
        f"  snapshot_every: {max(1, plan.epochs // 5)}  # epochs between kept weights",
        f"  log_every: {min(50, found.count // plan.batch)}  # steps; an epoch at most",
        "resources:",
        *(
            f"  {stage}: {{cpus: 4, mem_mb: 16000, minutes: {minutes}, gpus: 1}}"
            for stage, minutes in (("pretrain", 1440), ("finetune", 240), ("evaluate", 60))
        ),
    ]
    return "\n".join(lines) + "\n"


def _usual(name: str, method: str) -> PretrainingSettings:
    """The method as configs/ has it.

    Raises:
        UserError: there is none of this name.
    """
    campaign = CampaignSettings(name=name, title=name, scale="mini", tables=(name,))
    return Configuration(campaign, Path("configs"), (), {}, {}, name).method(method)


def _overrides(usual: PretrainingSettings, plan: Sizes) -> Iterator[str]:
    """What of a method suits the images, as far as the method has it."""
    yield f"views: {{crop_size: {plan.crop}}}  # a multiple of 32, not above their sides"
    yield f"batch_size: {plan.batch}  # at least eight steps an epoch"
    if usual.bn_group_size is not None:
        yield f"bn_group_size: {plan.group}  # images normalised together"
    if isinstance(usual, ContrastiveSettings):
        if "queue_size" not in usual.unread:
            yield f"queue_size: {plan.queue}  # a quarter of the images at most"
        yield f"momentum: {plan.momentum}  # of the key encoder; short runs: 0.99"


def _table(name: str, model: Model, plan: Sizes) -> str:
    """A table of random weights beside the pretraining, all labels and a tenth of them."""
    pretraining = model.pretraining(f"{name}-photos", plan.epochs)
    return f"""\
title: Segmentation of {name}
source: this project
protocol: small
head: {model.head}
columns:
  - {{name: mIoU, dataset: labelled}}
  - {{name: 10% mIoU, dataset: labelled, label_fraction: 0.1}}
rows:
  - {{name: random init, backbone: {model.backbone}}}
  - {{name: {model.method}, backbone: {model.backbone}, pretrain: {{{pretraining}}}}}
"""


def _quoted(path: Path) -> str:
    """An absolute path as YAML text."""
    return json.dumps(str(path.absolute()), ensure_ascii=False)


def _power_of_two(most: int) -> int:
    """The largest one that is not more."""
    return 1 << max(1, most).bit_length() - 1


def _classes(root: Path) -> str:
    """A class list of as many classes as the labels that were looked at have."""
    labels = files_below(root / "labels", LeftOut(), frozenset({".png"}))
    values: set[int] = set()
    for file in labels[:: max(1, len(labels) // _LOOKED_AT)]:
        values |= {int(value) for value in np.unique(read_label(file))}
    count = 1 + max(values - {255}, default=0)
    if count < 2:
        raise UserError(
            f"--labelled {root}: the PNGs below {root / 'labels'} have not two classes; "
            "docs/own-data.md says how they must look"
        )
    colours = [colorsys.hsv_to_rgb(number / count, 0.7, 0.9) for number in range(count)]
    palette = [[round(255 * part) for part in colour] for colour in colours]
    names = [f"class-{number}" for number in range(count)]
    return f"classes: {json.dumps(names)}\npalette: {json.dumps(palette)}\n"
