"""Layers on top of a backbone, from their settings: what they weigh and what they compute."""

from dataclasses import dataclass
from typing import Literal

from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.contrastive import PlusSettings
from cp2.settings.dense import DenseSettings
from cp2.settings.methods import Cp2Settings
from cp2.settings.models import AsppSettings, FcnSettings, HeadSettings

Place = Literal["map", "grid", "image"]  # once a cell of the map or of a pooled grid, once an image


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer.

    Attributes:
        kernel: its area.
        vectors: parameters besides the weights, of `after` numbers each: bias, batch norm's two.
    """

    before: int
    after: int
    kernel: int
    vectors: int
    place: Place = "map"

    @property
    def parameters(self) -> int:
        return self.before * self.after * self.kernel + self.vectors * self.after

    def flop(self, places: int) -> float:
        """A multiply-add is two."""
        return 2.0 * self.before * self.after * self.kernel * places


def head_layers(head: HeadSettings, channels: int) -> list[Layer]:
    """A head on a map of so many channels, its classifier aside."""
    return _aspp(head, channels) if isinstance(head, AsppSettings) else _fcn(head, channels)


def classifier_layer(head: HeadSettings, classes: int) -> Layer:
    return Layer(head.channels, classes, 1, 1)


def auxiliary_layers(recipe: SegmentationFinetuneRecipe) -> list[Layer]:
    """The second head with its classifier, on the last stage but one; none without it."""
    if recipe.auxiliary is None or recipe.backbone.channels is None:
        return []
    head = recipe.auxiliary.head
    layers = head_layers(head, recipe.backbone.channels // 2)
    return [*layers, classifier_layer(head, recipe.classes)]


def projection_layers(recipe: PretrainRecipe, channels: int) -> list[Layer]:
    """What a method puts on the backbone's, or its head's, last map of so many channels."""
    settings = recipe.method
    if isinstance(settings, Cp2Settings):
        hidden = [Layer(channels, channels, 1, 1)] * settings.projection_hidden_layers
        return [*hidden, Layer(channels, settings.dim, 1, 1)]
    norm = isinstance(settings, PlusSettings) and settings.projector_norm
    layers = _mlp(channels, channels, settings.dim, norm, "image")
    if isinstance(settings, DenseSettings):
        layers += _mlp(channels, channels, settings.dim, norm, "grid")
    return layers


def predictor_layers(recipe: PretrainRecipe) -> list[Layer]:
    """What stands behind the query encoder only."""
    settings = recipe.method
    if not isinstance(settings, PlusSettings) or not settings.predictor:
        return []
    dim, width = settings.dim, settings.predictor_width
    places: list[Place] = ["image", "grid"] if isinstance(settings, DenseSettings) else ["image"]
    return [layer for place in places for layer in _mlp(dim, width, dim, True, place)]


def parameters(layers: list[Layer]) -> int:
    return sum(layer.parameters for layer in layers)


def _mlp(before: int, hidden: int, after: int, norm: bool, place: Place) -> list[Layer]:
    first = Layer(before, hidden, 1, 3 if norm else 1, place)
    return [first, Layer(hidden, after, 1, 1, place)]


def _aspp(head: AsppSettings, channels: int) -> list[Layer]:
    width = head.channels
    branches = [_block(channels, width, 1 if rate == 1 else 9) for rate in head.dilations]
    fusion = _block(width * (1 + len(branches)), width, 9)
    return [_block(channels, width, 1, "image"), *branches, fusion]


def _fcn(head: FcnSettings, channels: int) -> list[Layer]:
    width = head.channels
    convs = [_block(channels if n == 0 else width, width, 9) for n in range(head.convs)]
    return convs + ([_block(channels + width, width, 9)] if head.concat_input else [])


def _block(before: int, after: int, kernel: int, place: Place = "map") -> Layer:
    """Without bias, with batch norm."""
    return Layer(before, after, kernel, 2, place)
