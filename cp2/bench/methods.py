"""Pretraining methods as they are planned, and the MoCo v2 that each is measured beside."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cp2.bench.arithmetic import pretraining_flops
from cp2.bench.scratch import DATASET
from cp2.bench.sizes import Sizes
from cp2.errors import UserError
from cp2.methods.registry import build_encoder
from cp2.models.backbones import Backbone, build_backbone
from cp2.models.encoders import DenseEncoder, DenseProjection
from cp2.models.heads import Head, build_head
from cp2.plan.graph import Plan
from cp2.plan.recipes import PretrainRecipe
from cp2.plan.stages import Stages
from cp2.settings.contrastive import ContrastiveSettings
from cp2.settings.load import Configuration, load_campaign
from cp2.settings.tables import Pretraining
from cp2.training.pretrain import EncoderMaker, build

CP2, MOCO = "cp2", "moco-v2"
ON_THAT_NETWORK = "moco-v2 on cp2's network"


@dataclass(frozen=True)
class Measured:
    """A pretraining that is timed.

    Attributes:
        name: of the way.
        make_encoder: as `pretrain` takes it.
        baseline: name of the MoCo v2 that it is measured beside; None: there is none.
    """

    name: str
    recipe: PretrainRecipe
    make_encoder: EncoderMaker = build_encoder
    baseline: str | None = None

    @cached_property
    def flops(self) -> float:
        """Of a sample's step."""
        made = partial(build, self.recipe, Path(), make_encoder=self.make_encoder)
        return pretraining_flops(lambda: made()[0], self.recipe.method.views.crop_size)


def configuration() -> Configuration:
    """The paper campaign's settings, by name."""
    return load_campaign("paper")


def pretrain_recipe(
    config: Configuration, method: str, sizes: Sizes, **changes: Any
) -> PretrainRecipe:
    """What the plan makes of a method, from random weights at these sizes.

    So it has the backbone's output stride and the head that a campaign gives it, or none.

    Args:
        changes: keys of the method.

    Raises:
        UserError: unknown names; sizes that do not suit the method.
    """
    settings = {
        "views": {"crop_size": sizes.crop},
        "batch_size": sizes.batch,
        "queue_size": sizes.queue,
        "amp": sizes.amp,
        "compile": sizes.compile,
        **changes,
    }
    pretraining = Pretraining(method=method, epochs=1, dataset="imagenet", settings=settings)
    run = Stages(config, Plan()).pretrain(
        pretraining, sizes.backbone, sizes.head, seed=0, as_written=True
    )
    assert isinstance(run.recipe, PretrainRecipe)
    return run.recipe.model_copy(update={"dataset": DATASET})


def all_methods(config: Configuration, backbone: str) -> list[str]:
    """Methods of configs/methods/ that train such a backbone: CP², the MoCo v2s, the others."""
    family = config.backbone(backbone).family
    found = {name: config.method(name) for name in config.names("methods")}
    order = {"cp2": 0, "moco-v2": 1}
    names = [name for name, method in found.items() if family in method.optimizer]
    return sorted(names, key=lambda name: (order.get(found[name].kind, 2), name))


def measured(config: Configuration, names: list[str], sizes: Sizes) -> list[Measured]:
    """These methods, and for CP² also MoCo v2 on CP²'s network.

    The baseline of a method is the first of these MoCo v2s that has the same backbone, output
    stride included; CP²'s is that on its own network.
    """
    recipes = {name: pretrain_recipe(config, name, sizes) for name in dict.fromkeys(names)}
    mocos = [name for name, recipe in recipes.items() if recipe.method.kind == "moco-v2"]
    found = []
    for name, recipe in recipes.items():
        if recipe.head is not None:
            beside = moco_on(recipe, pretrain_recipe(config, MOCO, sizes))
            found += [Measured(name, recipe, baseline=beside.name), beside]
            continue
        same = (moco for moco in mocos if recipes[moco].backbone == recipe.backbone)
        baseline = None if name in mocos else next(same, None)
        found.append(Measured(name, recipe, baseline=baseline))
    if len({one.name for one in found}) < len(found):
        raise UserError("bench step: more than one of these methods has a head; name one of them")
    return found


def moco_on(recipe: PretrainRecipe, moco: PretrainRecipe) -> Measured:
    """MoCo v2 on the backbone, head and projection of another recipe."""
    both = moco.model_copy(update={"backbone": recipe.backbone, "head": recipe.head})
    return Measured(ON_THAT_NETWORK, both, averaging_encoder)


class AveragingEncoder(nn.Module):
    """The dense encoder's cells averaged: one vector an image, for methods without cells.

    Images (N, 3, S, S) -> (N, dim). So MoCo v2 is timed on the very network that CP² trains.
    """

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.backbone = encoder.backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images).mean((2, 3))


def averaging_encoder(
    settings: ContrastiveSettings, backbone: Backbone, head: Head | None
) -> AveragingEncoder:
    """CP²'s network as `pretrain` makes encoders."""
    assert head is not None
    projection = DenseProjection(head.channels, settings.dim)
    return AveragingEncoder(DenseEncoder(backbone, head, projection))


def query_encoder(recipe: PretrainRecipe) -> nn.Module:
    """The recipe's query encoder alone, with random weights."""
    settings = recipe.method
    backbone = build_backbone(recipe.backbone, zero_init_residual=settings.zero_init_residual)
    head = build_head(recipe.head, backbone.channels) if recipe.head else None
    return build_encoder(settings, backbone, head)
