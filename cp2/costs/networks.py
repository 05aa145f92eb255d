"""GFLOP, weights and saved states, asked of the networks that training builds.

They are built on torch's meta device, whose tensors have a shape but no content, and run there
under torch.utils.flop_counter: convolutions and matrix products, a multiply-add is two. Backward
passes are put at twice their forward pass. Losses, augmentation and optimisers are left out.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from cp2.costs.method_step import GIGA, LEARNS, step_gflop
from cp2.methods.registry import build_networks
from cp2.models.backbones import Backbone, build_backbone
from cp2.models.encoders import Segmentor
from cp2.models.heads import build_head
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.networks import Detector
from cp2.protocols.detection.roi_heads import MOST, POSITIVES
from cp2.protocols.segmentation.auxiliary import DeeplySupervised
from cp2.settings.models import BackboneSettings, HeadSettings, ResNetSettings, trained_as
from cp2.settings.optimization import OptimizerSettings, SgdSettings
from cp2.settings.protocols.detection import DetectorSettings
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


def once(shape: Any, count: Callable[[], T]) -> T:
    """What `count` gives on the meta device; networks of equal shape are counted once."""
    key = json.dumps(shape)
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

    return once(shaping(recipe), count)


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
    head, second = recipe.head.model_dump(), recipe.auxiliary and recipe.auxiliary.head.model_dump()
    optimizer = recipe.optimization.optimizer
    size = recipe.augmentation.crop

    def count() -> Counts:
        kept = _segmentor(_text(recipe.backbone), recipe.head.model_dump_json(), recipe.classes)
        trained: nn.Module = kept
        forward = segmentor_gflop(recipe.backbone, recipe.head, recipe.classes, size)
        if recipe.auxiliary:
            trained = _countable(DeeplySupervised(kept, recipe.auxiliary.head))
            forward = _forward(trained, torch.empty(1, 3, *size))[0]
        weights = _bytes(kept.state_dict().values())
        return Counts(LEARNS * forward, weights, *_state_bytes(trained, optimizer))

    shape = [_text(recipe.backbone), head, second, recipe.classes, size, optimizer.kind]
    return once(shape, count)


def count_detector(recipe: DetectionFinetuneRecipe) -> Counts:
    """Counts of a detector's finetuning, on images of its middle size."""
    short = recipe.training.usual_side
    regions = recipe.detector.regions
    size = (short, round(short * LANDSCAPE))
    forward = detector_gflop(recipe, size, regions, round(regions * POSITIVES))
    model = _detector(*_shape(recipe))
    state = _state_bytes(model, SgdSettings(kind="sgd", lr=1.0, weight_decay=0.0))
    return Counts(LEARNS * forward, _bytes(model.state_dict().values()), *state)


def detector_gflop(
    recipe: DetectionFinetuneRecipe, size: Size, regions: int, objects: int = MOST
) -> float:
    """Forward pass of an image with so many regions, and masks of so many objects."""
    return _detector_gflop(*_shape(recipe), size, regions, objects)


def _shape(recipe: DetectionFinetuneRecipe) -> tuple[str, str, int]:
    """What shapes a detector."""
    return recipe.detector.model_dump_json(), _text(recipe.backbone), recipe.classes


@cache
@torch.no_grad()
def _detector_gflop(
    detector: str, backbone: str, classes: int, size: Size, regions: int, objects: int
) -> float:
    model = _detector(detector, backbone, classes)
    with FlopCounterMode(display=False) as counter:
        run_detector(model, 1, size, regions, objects)
    return counter.get_total_flops() / GIGA


def run_detector(model: Detector, images: int, size: Size, regions: int, objects: int) -> list[Any]:
    """What a forward pass of some images makes, with so many regions and masks of all of them."""
    sides = (-(-side // model.divisible) * model.divisible for side in size)
    maps = model.maps(torch.empty(images, 3, *sides, device=META))
    pooled = torch.empty(regions, maps[0].shape[1], model.pooled, model.pooled, device=META)
    made = [model.rpn(maps), model.predictor(model.features(pooled))]
    if model.mask_head is not None:
        shape = (maps[0].shape[1], 2 * model.pooled, 2 * model.pooled)
        made.append(model.mask_head(torch.empty(objects, *shape, device=META)))
    return made


@cache
def _detector(detector: str, backbone: str, classes: int) -> Detector:
    read, body = DetectorSettings.model_validate_json, ResNetSettings.model_validate_json
    with META:
        return _countable(build_detector(read(detector), body(backbone), classes))


def segmentor_gflop(
    backbone: BackboneSettings, head: HeadSettings, classes: int, size: Size
) -> float:
    """Forward pass of backbone, head and classifier on an image."""
    text = _text(backbone)
    body, features = _map(text, size)
    return body + _logits_gflop(text, head.model_dump_json(), classes, tuple(features.shape))


def backbone_gflop(backbone: BackboneSettings, size: Size) -> float:
    """Forward pass of an image."""
    return _map(_text(backbone), size)[0]


def backbone_map(backbone: BackboneSettings, size: Size) -> Tensor:
    """The map of an image, (1, channels, h, w), without content.

    Raises:
        UserError: timm cannot build it; other errors are the network's own.
    """
    return _map(_text(backbone), size)[1]


def backbone_bytes(backbone: BackboneSettings) -> int:
    """Of its weights."""
    return _bytes(_backbone(_text(backbone)).state_dict().values())


def _text(backbone: BackboneSettings) -> str:
    """The settings that count: how the border is padded and colours are scaled does not.

    The name does, because refusals say it.
    """
    return json.dumps(
        backbone.model_dump(mode="json", exclude={"padding", "input"}) | {"title": ""}
    )


@cache
def _backbone(text: str) -> Backbone:
    settings = TypeAdapter[BackboneSettings](BackboneSettings).validate_json(text)
    with META:
        return _countable(build_backbone(settings))


@cache
def _map(text: str, size: Size) -> tuple[float, Tensor]:
    """GFLOP of a backbone on an image, and the map that it makes, without content."""
    return _forward(_backbone(text), torch.empty(1, 3, *size, device=META))


@cache
def _segmentor(backbone: str, head: str, classes: int) -> Segmentor:
    settings = TypeAdapter[HeadSettings](HeadSettings).validate_json(head)
    body = _backbone(backbone)
    with META:
        built = build_head(settings, body.channels)
        return _countable(Segmentor(body, built, classes, settings.dropout))


@cache
def _logits_gflop(backbone: str, head: str, classes: int, shape: tuple[int, ...]) -> float:
    logits = _segmentor(backbone, head, classes).logits
    return _forward(logits, torch.empty(shape, device=META))[0]


@torch.no_grad()
def _forward(network: Callable[[Tensor], Any], images: Tensor) -> tuple[float, Any]:
    with FlopCounterMode(display=False) as counter:
        made = network(images)
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
