"""Backbones as runs left them, and what they make of views of one image."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cp2.augment.distortion import normalize
from cp2.augment.views import crop
from cp2.drawing import counters
from cp2.drawing.crops import Box, draw_crop, overlap
from cp2.errors import UserError
from cp2.methods.registry import build_networks
from cp2.models.backbones import Backbone, ViTBackbone, build_backbone
from cp2.models.checkpoints import load_backbone
from cp2.models.weights import State, load_weights
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import CheckpointRecipe, PretrainRecipe
from cp2.settings.models import BackboneSettings
from cp2.stages import weights_of

SIDE = 14  # positions a side of a view; views are enlarged until they have as many
SHARED = 0.15  # of the smaller view that two views must have in common at least
TRIES = 100  # pairs of views that are drawn for it
MARGIN = 8  # positions by which a view is continued on all sides, mirrored, before it is encoded
_STRIDE = 16  # of ResNets here, whatever they were trained with: a finer map


@dataclass(frozen=True)
class Moment:
    """A backbone at one moment of its training."""

    title: str
    backbone: Backbone


class Views(NamedTuple):
    """Two crops of one image."""

    pixels: Tensor  # uint8 (2, 3, size, size), as the backbone sees them
    boxes: Tensor  # int64 (2, 7); see cp2.augment.view_boxes


def moments(run: Run, results: Path) -> list[Moment]:
    """The backbone before training, after the epochs that were kept, and now.

    A pretraining that is not done is shown as its last save has it. Which epochs are kept says
    `execution.keeps`. Checkpoints and finetunings have one moment.

    Raises:
        UserError: the run has no weights yet, or is of a stage without a backbone.
        WrongFile: weights are damaged.
    """
    recipe = run.recipe
    if isinstance(recipe, PretrainRecipe):
        kept = [
            _moment(f"epoch {epoch}", recipe.backbone, path)
            for epoch, path in run.folder(results).snapshots().items()
        ]
        return [_before(run, recipe, results), *kept, _now(run, recipe, results)]
    if not isinstance(recipe, SegmentationFinetuneRecipe | CheckpointRecipe):
        raise UserError(f"{run.key} has no backbone; give a pretrain, checkpoint or finetune run")
    if not run.is_done(results):
        raise UserError(f"{run.key} is not done yet, so that there are no weights to look through")
    path = run.outputs(results)["model"]
    return [_moment(run.id, recipe.backbone, path)]


def latest(run: Run, results: Path) -> Moment:
    """The newest of the moments."""
    return moments(run, results)[-1]


def _finer(settings: BackboneSettings) -> BackboneSettings:
    if settings.family == "resnet" and settings.output_stride > _STRIDE:
        return settings.model_copy(update={"output_stride": _STRIDE})
    return settings


def _moment(title: str, settings: BackboneSettings, path: Path) -> Moment:
    parts, metadata = load_weights(path)
    return _loaded(title, settings, parts["backbone"], path, metadata)


def _loaded(
    title: str,
    settings: BackboneSettings,
    state: State,
    source: Path,
    metadata: dict[str, str] | None = None,
) -> Moment:
    backbone = build_backbone(_finer(settings))
    load_backbone(backbone, state, source, metadata)
    return Moment(title, backbone.eval())


def _before(run: Run, recipe: PretrainRecipe, results: Path) -> Moment:
    """Random weights as the run drew them, or those that it started from."""
    if recipe.start:
        name = recipe.start.partition("/")[2]
        return _moment(f"start: {name}", recipe.backbone, weights_of(recipe.start, results))
    torch.manual_seed(run.seed or 0)
    method = recipe.method
    backbone = build_backbone(_finer(recipe.backbone), method.zero_init_residual, method.conv_init)
    return Moment("random weights", backbone.eval())


def _now(run: Run, recipe: PretrainRecipe, results: Path) -> Moment:
    folder = run.folder(results)
    if run.is_done(results):
        return _moment(f"epoch {recipe.epochs}", recipe.backbone, folder.model)
    state = newest_weights(folder.state)
    if state is None:
        raise UserError(
            f"{run.key} has neither finished nor saved its state yet; wait for the first save "
            "(execution.save_minutes)"
        )
    step, module = state
    prefix = _exported(recipe)
    weights = {k.removeprefix(prefix): v for k, v in module.items() if k.startswith(prefix)}
    return _loaded(f"step {step}", recipe.backbone, weights, folder.state)


def _exported(recipe: PretrainRecipe) -> str:
    """Beginning of the names, in a state, of the backbone that the method will export."""
    with torch.device("meta"):
        method = build_networks(recipe, checked=False)
    parts = dict(method.exported.named_children())
    return next(f"{n}." for n, module in method.named_modules() if module is parts["backbone"])


def newest_weights(folder: Path) -> tuple[int, State] | None:
    """Step and module of the last whole save in a state folder; None where there is none."""
    for path in (folder / name for name in ("new.pt", "last.pt", "previous.pt")):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            return int(saved["step"]), saved["module"]
        except Exception:  # it is not there, or damaged, of which torch raises many kinds
            continue
    return None


def view_size(backbone: Backbone) -> int:
    """Pixels a side of a view of SIDE x SIDE positions."""
    return SIDE * backbone.stride


def two_views(image: Tensor, size: int, seed: int) -> Views:
    """Two crops of one image (3, H, W) that have a part in common, each mirrored or not.

    Crops as in MoCo v2; of up to TRIES pairs the first with enough in common, else the one with
    the most. A function of the seed.
    """
    rng = counters.generator(seed, counters.VIEWS, 0, 0)
    height, width = image.shape[1:]
    best: tuple[float, Box, Box] | None = None
    for _ in range(TRIES):
        boxes = [draw_crop(rng, height, width, (0.2, 0.6), (0.75, 4 / 3)) for _ in range(2)]
        shared = min(overlap(*boxes), overlap(*boxes[::-1]))
        if best is None or shared > best[0]:
            best = (shared, boxes[0], boxes[1])
        if shared >= SHARED:
            break
    assert best is not None
    pixels, view_boxes = [], []
    for box in best[1:]:
        mirrored = bool(rng.random() < 0.5)
        cut = crop(image, box, size)
        pixels.append(cut.flip(2) if mirrored else cut)
        view_boxes.append([*box, int(mirrored), height, width])
    return Views(torch.stack(pixels), torch.tensor(view_boxes))


@torch.inference_mode()
def features(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Unit vectors of all positions: uint8 (N, 3, H, W) -> float32 (N, channels, h, w).

    A ResNet sees zeros beyond an image's edge, and positions that see them match each other
    whatever they show. So it gets mirrored margins, whose positions are cut off; a vision
    transformer pads nothing.
    """
    images = normalize(pixels.float() / 255)
    margin = 0 if isinstance(backbone, ViTBackbone) else MARGIN
    if margin:
        beyond = margin * backbone.stride
        images = F.pad(images, (beyond,) * 4, mode="reflect")
    maps = F.normalize(backbone(images).float(), dim=1)
    height, width = maps.shape[2:]
    return maps[:, :, margin : height - margin, margin : width - margin]


def to_show(pixels: Tensor) -> np.ndarray:
    """uint8 (3, H, W) -> (H, W, 3)."""
    return pixels.permute(1, 2, 0).numpy()
