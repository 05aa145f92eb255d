"""GFLOP, weights and saved states, asked of the networks that training builds.

They are built on torch's meta device, whose tensors have a shape but no content, and run there
under torch.utils.flop_counter: convolutions and matrix products, a multiply-add is two. Backward
passes are put at twice their forward pass. Losses, augmentation and optimisers are left out.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from cp2.costs.method_step import GIGA, LEARNS, step_gflop
from cp2.methods.registry import build_networks
from cp2.models.backbones import Backbone, build_backbone
from cp2.models.segmentor_files import build_segmentor
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.networks import Detector
from cp2.protocols.detection.roi_heads import MOST, POSITIVES
from cp2.protocols.segmentation.auxiliary import DeeplySupervised
from cp2.settings.models import BackboneSettings, HeadSettings, trained_as
from cp2.settings.optimization import OptimizerSettings, SgdSettings
from cp2.training.optimizers import build_optimizer

META = torch.device("meta")
LANDSCAPE = 4 / 3  # width of most photographs, in heights
Size = tuple[int, int]  # height, width in pixels
T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Counts:
    """Of a training.

    Attributes:
        gflop: of a sample's step.
        weights: bytes of the model that is kept.
        state: bytes of a saved state: all networks and queues, what the optimiser keeps.
        learnt: bytes of the parameters that have a gradient, which is as large.
    """

    gflop: float
    weights: int
    state: int
    learnt: int


_KNOWN: dict[str, Any] = {}  # by what of a recipe shapes its networks


def once(what: str, shape: Any, count: Callable[[], T]) -> T:
    """What `count` gives on the meta device; networks of equal shape are counted once."""
    key = json.dumps([what, shape])
    with META:
        known: T = _KNOWN.get(key) or _KNOWN.setdefault(key, count())
    return known


def count_training(recipe: Any) -> Counts | None:
    """Counts of what a recipe trains; None where it trains no network."""
    match recipe:
        case PretrainRecipe():
            return count_pretraining(recipe)
        case SegmentationFinetuneRecipe():
            return count_finetuning(recipe)
        case DetectionFinetuneRecipe():
            return count_detector(recipe)
    return None


def count_pretraining(recipe: PretrainRecipe) -> Counts:
    """Counts of a pretraining, by one step of its method.

    Networks with a gradient cost three forward passes, others one, as often as the step runs them.

    Raises:
        UserError: method, backbone and head do not suit each other.
    """

    def count() -> Counts:
        method = _countable(build_networks(recipe))
        parts = [method.exported.state_dict(), *method.extras.values()]
        weights = sum(_bytes(part.values()) for part in parts)
        optimizer = recipe.method.optimizer[trained_as(recipe.backbone)]
        return Counts(step_gflop(method), weights, *_state_bytes(method, optimizer))

    return once("pretraining", shaping(recipe), count)


def shaping(recipe: PretrainRecipe) -> Any:
    """What of a recipe can shape networks: no fractions, and nothing of images before them."""
    method = recipe.method.model_dump(mode="json", exclude={"name", "title", "mask", "reading"})
    method["views"] = method["views"]["crop_size"]
    backbone, head = (part and part.model_dump() for part in (recipe.backbone, recipe.head))
    return [_without_fractions(method), backbone, head]


def _without_fractions(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_fractions(v) for k, v in tree.items() if not isinstance(v, float)}
    return tree


def count_finetuning(recipe: SegmentationFinetuneRecipe) -> Counts:
    """Counts of a finetuning; the auxiliary head is trained and saved in states, but not kept."""
    second = recipe.auxiliary and recipe.auxiliary.head
    optimizer, size = recipe.optimization.optimizer, recipe.augmentation.crop

    def count() -> Counts:
        kept = build_segmentor(recipe.backbone, recipe.head, recipe.classes)
        trained = _countable(DeeplySupervised(kept, second) if second else kept)
        forward, _ = _forward(trained, torch.empty(1, 3, *size))
        weights = _bytes(kept.state_dict().values())
        return Counts(LEARNS * forward, weights, *_state_bytes(trained, optimizer))

    parts = [_shape(recipe.backbone), recipe.head.model_dump(), second and second.model_dump()]
    return once("finetuning", [*parts, recipe.classes, size, optimizer.kind], count)


def count_detector(recipe: DetectionFinetuneRecipe) -> Counts:
    """Counts of a detector's finetuning, on images of its middle size."""
    short = recipe.training.usual_side
    regions = recipe.detector.regions
    size = (short, round(short * LANDSCAPE))
    forward = detector_gflop(recipe, size, regions, round(regions * POSITIVES))
    model = _detector(recipe)
    state = _state_bytes(model, SgdSettings(kind="sgd", lr=1.0, weight_decay=0.0))
    return Counts(LEARNS * forward, _bytes(model.state_dict().values()), *state)


def detector_gflop(
    recipe: DetectionFinetuneRecipe, size: Size, regions: int, objects: int = MOST
) -> float:
    """Forward pass of an image with so many regions, and masks of so many objects."""
    shape = [_detector_shape(recipe), size, regions, objects]
    run = partial(run_detector, _detector(recipe), 1, size, regions, objects)
    return once("detector's GFLOP", shape, lambda: _forward(run)[0])


def _detector_shape(recipe: DetectionFinetuneRecipe) -> list[Any]:
    return [recipe.detector.model_dump(), _shape(recipe.backbone), recipe.classes]


def _detector(recipe: DetectionFinetuneRecipe) -> Detector:
    def build() -> Detector:
        return _countable(build_detector(recipe.detector, recipe.backbone, recipe.classes))

    return once("detector", _detector_shape(recipe), build)


def run_detector(model: Detector, images: int, size: Size, regions: int, objects: int) -> list[Any]:
    """What a forward pass of some images makes, with so many regions and masks of all of them."""
    sides = (-(-side // model.divisible) * model.divisible for side in size)
    maps = model.maps(torch.empty(images, 3, *sides))
    pooled = torch.empty(regions, maps[0].shape[1], model.pooled, model.pooled)
    made = [model.rpn(maps), model.predictor(model.features(pooled))]
    if model.mask_head is not None:
        shape = (maps[0].shape[1], 2 * model.pooled, 2 * model.pooled)
        made.append(model.mask_head(torch.empty(objects, *shape)))
    return made


def segmentor_gflop(
    backbone: BackboneSettings, head: HeadSettings, classes: int, size: Size
) -> float:
    """Forward pass of backbone, head and classifier on an image."""

    def count() -> float:
        model = _countable(build_segmentor(backbone, head, classes))
        return _forward(model, torch.empty(1, 3, *size))[0]

    return once("segmentor's GFLOP", [_shape(backbone), head.model_dump(), classes, size], count)


def backbone_gflop(backbone: BackboneSettings, size: Size) -> float:
    """Forward pass of an image."""
    return _gflop_and_map(backbone, size)[0]


def backbone_map(backbone: BackboneSettings, size: Size) -> Tensor:
    """The map of an image, (1, channels, h, w), without content.

    Raises:
        UserError: timm cannot build it; other errors are the network's own.
    """
    return _gflop_and_map(backbone, size)[1]


def backbone_bytes(backbone: BackboneSettings) -> int:
    """Of its weights."""
    return _bytes(_backbone(backbone).state_dict().values())


def _shape(backbone: BackboneSettings) -> dict[str, Any]:
    """The settings that count: how the border is padded and colours are scaled does not.

    The name does, because refusals say it.
    """
    return backbone.model_dump(mode="json", exclude={"title", "padding", "input"})


def _backbone(settings: BackboneSettings) -> Backbone:
    return once("backbone", _shape(settings), lambda: _countable(build_backbone(settings)))


def _gflop_and_map(backbone: BackboneSettings, size: Size) -> tuple[float, Tensor]:
    network = _backbone(backbone)
    shape = [_shape(backbone), size]
    return once("map", shape, lambda: _forward(network, torch.empty(1, 3, *size)))


@torch.no_grad()
def _forward(network: Callable[..., Any], *inputs: Tensor) -> tuple[float, Any]:
    """GFLOP of a pass, and what it makes."""
    with FlopCounterMode(display=False) as counter:
        made = network(*inputs)
    return counter.get_total_flops() / GIGA, made


def _state_bytes(module: nn.Module, settings: OptimizerSettings) -> tuple[int, int]:
    """Of the module and what its optimiser keeps, and of the parameters that it updates."""
    learnt = _bytes(parameter for parameter in module.parameters() if parameter.requires_grad)
    return _bytes(module.state_dict().values()) + _slots(settings) * learnt, learnt


def _slots(settings: OptimizerSettings) -> int:
    """Tensors that an optimiser keeps for each parameter, seen after a step on a small one."""
    probe = nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(settings, probe)
    probe.weight.grad = torch.zeros_like(probe.weight)
    optimizer.step()
    kept = optimizer.state[probe.weight].values()
    return sum(isinstance(v, Tensor) and v.shape == probe.weight.shape for v in kept)


def _bytes(values: Iterable[Any]) -> int:
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))


def _countable(network: Network) -> Network:
    """The network to count: in evaluation, and norms hand on what they get.

    Nothing of a norm is counted, and without content it takes longer than all the rest.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            # of this one alone, hence no method of the class, as the type checker would have it
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    return network.eval()
