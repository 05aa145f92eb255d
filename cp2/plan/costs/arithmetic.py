"""Floating point operations of a recipe's work on one sample, from its settings.

Losses, augmentation, batch norm and activations are left out, as `torch.utils.flop_counter` does;
a test counts the models again.
"""

import math

from cp2.plan.costs.layers import (
    Layer,
    auxiliary_layers,
    classifier_layer,
    head_layers,
    predictor_layers,
    projection_layers,
)
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.base import Size
from cp2.settings.contrastive import PlusSettings
from cp2.settings.dense import DenseSettings
from cp2.settings.models import PATCH, BackboneSettings

COUNTED = 224  # pixels of a side that `gflop` of a backbone's settings is of
BEFORE_LAST = 16  # most output stride of a ResNet's last stage but one
LANDSCAPE = 4 / 3  # width of most photographs, in heights
GIGA = 1e9


def pretraining_gflop(recipe: PretrainRecipe) -> float | None:
    """Query forward and backward (twice the forward), key forward; symmetric methods twice.

    None where the backbone's settings do not say its `gflop` and `channels`.
    """
    settings, backbone = recipe.method, recipe.backbone
    size = (settings.views.crop_size, settings.views.crop_size)
    body = backbone_gflop(backbone, size)
    if body is None or backbone.channels is None:
        return None
    cells, channels, layers = cells_of(backbone, size), backbone.channels, []
    if recipe.head is not None:
        layers = head_layers(recipe.head, channels)
        channels = recipe.head.channels
    grid = settings.grid if isinstance(settings, DenseSettings) else None
    pooled = grid * grid if grid else cells
    encoder = body + _gflop([*layers, *projection_layers(recipe, channels)], cells, pooled)
    step = 4 * encoder + 3 * _gflop(predictor_layers(recipe), cells, pooled)
    return step * (2 if is_symmetric(recipe) else 1)


def is_symmetric(recipe: PretrainRecipe) -> bool:
    return isinstance(recipe.method, PlusSettings) and recipe.method.symmetric


def finetuning_gflop(recipe: SegmentationFinetuneRecipe) -> float | None:
    """Forward and backward (twice the forward) of a crop, with the auxiliary head."""
    size, backbone = recipe.augmentation.crop, recipe.backbone
    model = segmentor_gflop(recipe, size)
    if model is None:
        return None
    second = _gflop(auxiliary_layers(recipe), _cells(size, min(backbone.stride, BEFORE_LAST)))
    return 3 * (model + second)


def evaluation_gflop(
    recipe: SegmentationEvaluateRecipe, trained: SegmentationFinetuneRecipe
) -> float | None:
    """Forward pass of an image, or of all its windows."""
    size, inference = seen_size(recipe.resize), recipe.inference
    if inference.window is None or inference.stride is None:
        return segmentor_gflop(trained, size)
    steps = zip(size, inference.window, inference.stride, strict=True)
    count = math.prod(1 + max(0, math.ceil((side - w) / s)) for side, w, s in steps)
    window = segmentor_gflop(trained, inference.window)
    return None if window is None else count * window


def seen_size(resize: Size) -> Size:
    """Height and width of an image that is fitted into a short and a long side.

    Most photographs are 4:3. A long side of at most twice the short one is taken for the images'
    own shape: such is Cityscapes' protocol.
    """
    short, long = resize
    return (short, long) if long <= 2 * short else (short, round(short * LANDSCAPE))


def segmentor_gflop(recipe: SegmentationFinetuneRecipe, size: Size) -> float | None:
    """Forward pass of backbone, head and classifier."""
    body = backbone_gflop(recipe.backbone, size)
    if body is None or recipe.backbone.channels is None:
        return None
    layers = head_layers(recipe.head, recipe.backbone.channels)
    layers.append(classifier_layer(recipe.head, recipe.classes))
    return body + _gflop(layers, cells_of(recipe.backbone, size))


def backbone_gflop(backbone: BackboneSettings, size: Size) -> float | None:
    """Forward pass of an image. A ResNet's grows with its area, a vision transformer's with its
    cells and with their square.

    Each stage of a ResNet rounds a side up to a multiple of its stride; half the last one's is
    about the mean of them (within 4 % at 513 and 769 pixels).
    """
    if backbone.gflop is None:
        return None
    if backbone.family == "vit":
        linear, square = backbone.gflop
        share = cells_of(backbone, size) / (COUNTED // PATCH) ** 2
        return linear * share + square * share**2
    half = backbone.output_stride // 2
    counted = {int(stride): gflop for stride, gflop in backbone.gflop.items()}
    gflop = counted.get(backbone.output_stride)
    return None if gflop is None else gflop * _cells(size, half) / (COUNTED // half) ** 2


def cells_of(backbone: BackboneSettings, size: Size) -> int:
    """Cells of the map of an image."""
    if backbone.family == "vit":
        return (size[0] // PATCH) * (size[1] // PATCH)
    return _cells(size, backbone.stride)


def _cells(size: Size, stride: int) -> int:
    return math.ceil(size[0] / stride) * math.ceil(size[1] / stride)


def _gflop(layers: list[Layer], cells: int, grid: int = 0) -> float:
    places = {"map": cells, "grid": grid, "image": 1}
    return sum(layer.flop(places[layer.place]) for layer in layers) / GIGA
