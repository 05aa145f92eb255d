"""Frozen feature maps of labelled images, and scores of class maps; what probes share."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from cp2.augment.distortion import normalize
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, label_fraction, read_index
from cp2.data.labels import IGNORE, decode_label
from cp2.data.loading import Batches
from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.models.checkpoints import load_head
from cp2.models.encoders import DenseProjection
from cp2.models.heads import build_head
from cp2.plan.graph import Run
from cp2.plan.protocols.linear_segmentation import ProbeRecipe
from cp2.protocols.registry import Scored
from cp2.protocols.segmentation.samples import LabelledPair, decode_pair
from cp2.protocols.segmentation.scores import ConfusionMatrix, score
from cp2.record.files import whole_file
from cp2.settings.campaign import Execution
from cp2.training.pretrained import PretrainedWeights

BATCH = 32
PARTS = ("backbone", "head", "projection")  # in the order that features pass them


class LabelledImage(NamedTuple):
    """An image, and its label's file or its class."""

    image: Path
    label: Path | int

    def pixels(self) -> Tensor:
        """Label uint8 (H, W); (1, 1) where the image as a whole has a class."""
        if isinstance(self.label, int):
            return torch.full((1, 1), self.label, dtype=torch.uint8)
        return decode_label(self.label)

    def decoded(self) -> tuple[Tensor, Tensor]:
        """Image uint8 (3, H, W), and label."""
        if isinstance(self.label, int):
            return decode_rgb(self.image), self.pixels()
        return decode_pair(LabelledPair(self.image, self.label))


class Positions(NamedTuple):
    """A split's maps: features (N, C, h, w) float32, classes (N, h, w) uint8, IGNORE: none."""

    features: Tensor
    classes: Tensor

    def labelled(self, images: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Features (P, C) and classes (P), int64, of the labelled positions of images."""
        classes = self.classes[images].flatten()
        features = self.features[images].permute(0, 2, 3, 1).flatten(0, 2)
        return features[classes != IGNORE], classes[classes != IGNORE].long()


def frozen_network(recipe: ProbeRecipe, weights: PretrainedWeights | None, seed: int) -> nn.Module:
    """Backbone, and what of head and projection the features pass; random without weights.

    Raises:
        WrongFile: the weights do not fit.
        UserError: they have no such part.
    """
    torch.manual_seed(seed)
    backbone = build_backbone(recipe.backbone)
    layers: list[nn.Module] = [backbone]
    if weights is None:
        return nn.Sequential(*layers).eval()
    weights.load_into(backbone)
    for part in PARTS[1 : 1 + PARTS.index(recipe.schedule.features)]:
        state = weights.parts.get(part)
        if state is None:
            raise UserError(
                f"{weights.path} has no {part}, only {', '.join(weights.parts)}; write another of "
                f"features: {', '.join(PARTS)}"
            )
        if part == "head":
            assert recipe.head is not None
            module: nn.Module = build_head(recipe.head, backbone.channels)
        else:
            convs = [tensor for tensor in state.values() if tensor.ndim == 4]
            module = DenseProjection(convs[0].shape[1], len(convs[-1]), len(convs) - 1)
        load_head(module, state, weights.path)
        layers.append(module)
    return nn.Sequential(*layers).eval()


class _Images(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, pairs: Sequence[LabelledImage], size: tuple[int, int]) -> None:
        self._pairs, self._size = pairs, size

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image uint8 (3, *size), and label uint8 (H, W) of its own size."""
        image, label = self._pairs[index].decoded()
        pixels = image[None].contiguous(memory_format=torch.channels_last)
        return F.interpolate(pixels, size=self._size, mode="bilinear", antialias=True)[0], label


def label_cells(label: Tensor, shape: tuple[int, int], classes: int) -> Tensor:
    """The class that most labelled pixels of each position have, uint8 (h, w); IGNORE: none.

    Of equally many the first class. A pixel is of the position that its centre lies in.
    """
    height, width = label.shape
    rows = (torch.arange(height) * 2 + 1) * shape[0] // (2 * height)
    columns = (torch.arange(width) * 2 + 1) * shape[1] // (2 * width)
    cells = (rows[:, None] * shape[1] + columns) * classes + label
    counts = torch.bincount(cells[label != IGNORE], minlength=shape[0] * shape[1] * classes)
    most, best = counts.view(*shape, classes).max(2)
    return torch.where(most > 0, best, IGNORE).to(torch.uint8)


@dataclass(frozen=True)
class Extraction:
    """How a split's maps are made: a frozen network on a device."""

    network: nn.Module
    recipe: ProbeRecipe
    index: DatasetIndex
    device: torch.device
    workers: int

    def pairs(self, split: str) -> list[LabelledImage]:
        """Images of a split; of train the share that `label_fraction` says."""
        whole = self.index.image_labels
        labels: Sequence[Path | int] = (
            self.index.image_classes(split) if whole else self.index.labels(split)
        )
        pairs = list(map(LabelledImage, self.index.paths(split), labels))
        share = self.recipe.schedule.label_fraction if split == "train" else 1.0
        return label_fraction(pairs, share, seed=0)

    def both(self, kept: Path | None = None) -> tuple[Positions, Positions]:
        """Maps of the training and of the scored split; see `positions`."""
        train, scored = (
            self.positions(split, kept / f"{split}.pt" if kept else None)
            for split in ("train", self.recipe.split)
        )
        return train, scored

    @torch.inference_mode()
    def positions(self, split: str, kept: Path | None = None) -> Positions:
        """The maps of a split, on the CPU; their means where images as a whole have a class.

        Args:
            kept: a file for them, which is read where it is there.
        Raises:
            UserError: a feature is not finite.
        """
        if kept is not None and kept.is_file():
            return Positions(*torch.load(kept, weights_only=True))
        pairs = self.pairs(split)
        images = _Images(pairs, self.recipe.schedule.size)
        loaded: Batches[tuple[Tensor, list[Tensor]]] = Batches(
            images, self.workers, batch_size=BATCH, collate_fn=_collate
        )
        classes = len(self.index.classes or ())
        maps: list[Tensor] = []
        cells: list[Tensor] = []
        self.network.to(self.device)
        for pixels, labels in tqdm(loaded, desc=f"features of {split}", disable=None):
            inputs = normalize(pixels.to(self.device).float().div_(255))
            found = self.network(inputs).float().cpu()
            self._check(found, inputs, pairs[len(cells) :])
            if self.index.image_labels:
                found = found.mean((2, 3), keepdim=True)
            maps.append(found)
            shape = (found.shape[2], found.shape[3])
            cells += [label_cells(label, shape, classes) for label in labels]
        made = Positions(torch.cat(maps), torch.stack(cells))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(kept) as temporary, temporary.open("wb") as stream:
                torch.save(tuple(made), stream)
        return made

    def _check(self, maps: Tensor, inputs: Tensor, pairs: Sequence[LabelledImage]) -> None:
        finite = maps.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            image, layer = pairs[int(finite.int().argmin())].image, self.recipe.schedule.features
            raise UserError(
                f"features (last map of the {layer}) of {image} are not finite, the first in layer "
                f"{_first_not_finite(self.network, inputs)}: the weights are damaged, or the "
                "pretraining diverged; look at its losses, and at an earlier snapshot"
            )

    def scored(self, class_maps: Iterable[Tensor], more: dict[str, object]) -> Scored:
        """Scores of one map (K, h, w) a validation image, enlarged to the label's own size."""
        names, pairs = self.index.classes or (), self.pairs(self.recipe.split)
        confusion = ConfusionMatrix(len(names), torch.device("cpu"))
        for pair, found in zip(pairs, class_maps, strict=True):
            label = pair.pixels()
            size = (label.shape[0], label.shape[1])
            logits = F.interpolate(found[None], size=size, mode="bilinear", align_corners=False)
            confusion.add(logits[0].argmax(0), label)
        metrics, iou = score(confusion.matrix())
        shown = "accuracy" if self.index.image_labels else None
        return Scored(
            metrics, len(pairs), dict(zip(names, iou, strict=True)), dict(more), shown=shown
        )


def _first_not_finite(network: nn.Module, inputs: Tensor) -> str:
    """Name of the first layer whose output is not finite."""
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, given: object, output: object) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return hook

    layers = [(name, one) for name, one in network.named_modules() if not list(one.children())]
    hooks = [one.register_forward_hook(look(name)) for name, one in layers]
    try:
        network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "none"


def _collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    return torch.stack([image for image, _ in items]), [label for _, label in items]


def present_classes(classes: Tensor, index: DatasetIndex) -> tuple[Tensor, dict[str, object]]:
    """Classes that training positions have, and a note on the others for scores.json.

    Raises:
        UserError: they have fewer than two.
    """
    present = classes.unique()
    names = index.classes or ()
    if len(present) < 2:
        raise UserError(
            f"data set {index.record.name}: the training positions show "
            f"{len(present)} of {len(names)} classes, a probe needs two; label more images, or "
            "raise label_fraction"
        )
    lacking = [name for number, name in enumerate(names) if number not in present]
    return present, {"without_training_positions": lacking} if lacking else {}


def score_run(
    run: Run,
    results: Path,
    execution: Execution,
    device: torch.device,
    probe: Callable[[Extraction, Positions, Positions], Scored],
) -> Scored:
    """Score the backbone of an evaluate run; its features stay in state/ until they are scored.

    Raises:
        UserError: the weights or the data set are missing or damaged, too few classes or positions.
    """
    recipe, state = run.recipe, run.folder(results).state
    assert isinstance(recipe, ProbeRecipe)
    weights = PretrainedWeights(run.pretrained, results) if run.pretrained else None
    network = frozen_network(recipe, weights, run.seed or 0)
    index = read_index(run.needed_folder("dataset", results).path)
    extraction = Extraction(network, recipe, index, device, execution.workers)
    found = probe(extraction, *extraction.both(state))
    shutil.rmtree(state, ignore_errors=True)
    return found
