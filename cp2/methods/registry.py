"""From a recipe to a method: kind `moco-v2` is made by `cp2/methods/moco_v2.py`.

Such a file has two functions:

    encoder(settings, backbone, head or None) -> the network of one view
    method(settings, encoder, micro_batches) -> Method

Which kinds there are says `cp2.settings.methods`.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from cp2.methods.step import Method
from cp2.models.backbones import Backbone, build_backbone
from cp2.models.heads import Head, build_head
from cp2.plan.pretraining import check_pretraining
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.joined import module_of


def build_encoder(
    settings: PretrainingSettings, backbone: Backbone, head: Head | None
) -> nn.Module:
    """The encoder of a method.

    Args:
        head: a segmentation head, for methods that pretrain one.

    Raises:
        UserError: the method needs a head.
    """
    encoder: nn.Module = _file(settings).encoder(settings, backbone, head)
    return encoder


def build_method(
    settings: PretrainingSettings, encoder: nn.Module, micro_batches: int = 1
) -> Method:
    """The method around an encoder.

    With more than one process, call it after `torch.distributed` is initialised.

    Raises:
        UserError: batch norm's groups do not fit the processes and micro-batches.
    """
    method: Method = _file(settings).method(settings, encoder, micro_batches)
    return method


def build_networks(
    recipe: PretrainRecipe,
    micro_batches: int = 1,
    load: Callable[[Backbone], None] | None = None,
    checked: bool = True,
) -> Method:
    """All networks of a pretraining, on torch's default device (`with torch.device("meta")`).

    Args:
        load: gives the backbone its starting weights, before other networks copy it.
        checked: whether the batch is one to train with; False: a few images of it, for costs.

    Raises:
        UserError: method, backbone, head and micro-batches do not suit each other.
    """
    settings = recipe.method
    if checked:
        check_pretraining(settings, recipe.backbone, micro_batches)
    backbone = build_backbone(recipe.backbone, settings.zero_init_residual, settings.conv_init)
    if load:
        load(backbone)
    head = build_head(recipe.head, backbone.channels) if recipe.head else None
    return build_method(settings, build_encoder(settings, backbone, head), micro_batches)


def _file(settings: PretrainingSettings) -> Any:
    return module_of("cp2.methods", settings.kind, settings.module)
