"""What a pretraining needs beside its data set: masks by attention, a backbone that suits."""

from cp2.errors import UserError
from cp2.plan.graph import Run, make_run
from cp2.plan.recipes import MasksRecipe
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.load import Configuration
from cp2.settings.masks import DinoMaskSettings
from cp2.settings.methods import CopyPasteSettings
from cp2.settings.models import PATCH, BackboneSettings, ViTSettings
from cp2.settings.tables import Pretraining


def check_pretraining(
    method: PretrainingSettings, backbone: BackboneSettings, micro_batches: int
) -> None:
    """Refuse what the job would refuse, or would do otherwise than it is written.

    Args:
        backbone: at the output stride that it is pretrained with.
        micro_batches: `execution.accumulate.pretrain`.
    Raises:
        UserError: a backbone or micro-batches that do not suit the method, or masks and crops
            that can hardly be drawn.
    """
    check_crop(backbone, (method.views.crop_size,) * 2, f"method {method.name!r}: views.crop_size")
    if reason := method.misfit(backbone.stride, micro_batches):
        raise UserError(f"method {method.name!r}: {reason} (backbone {backbone.name!r})")
    # Imported here: numpy is most of a plan's start, and only these plans need it.
    if method.views.min_overlap:
        from cp2.drawing.crops import crop_misfit

        if reason := crop_misfit(method.views):
            raise UserError(f"method {method.name!r}: {reason}")
    if isinstance(method, CopyPasteSettings):
        from cp2.drawing.masks import mask_misfit

        if reason := mask_misfit(method.mask, method.views.crop_size):
            raise UserError(f"method {method.name!r}: {reason}")


def check_crop(backbone: BackboneSettings, size: tuple[int, int], where: str) -> None:
    """Refuse crops that hold no patch of a vision transformer.

    Raises:
        UserError: names the smallest that does.
    """
    if isinstance(backbone, ViTSettings) and min(size) < PATCH:
        raise UserError(
            f"{where} {size[0]} x {size[1]} is less than a patch of backbone {backbone.name!r}; "
            f"write {PATCH} pixels a side or more"
        )


def attention_of(method: PretrainingSettings) -> DinoMaskSettings | None:
    """The method's mask settings where its masks are cut by attention."""
    if isinstance(method, CopyPasteSettings) and isinstance(method.mask, DinoMaskSettings):
        return method.mask
    return None


def mask_checkpoint(configuration: Configuration, pretraining: Pretraining | None) -> str | None:
    """Name of the checkpoint that a pretraining's masks need, if they need one."""
    if pretraining is None:
        return None
    method = configuration.method(
        configuration.used(pretraining.method), pretraining.settings or None
    )
    mask = attention_of(method)
    return mask.checkpoint if mask else None


def attending_backbone(configuration: Configuration, mask: DinoMaskSettings) -> ViTSettings:
    """The vision transformer that the masks come from.

    Raises:
        UserError: the checkpoint is of another kind of backbone.
    """
    checkpoint = configuration.checkpoint(configuration.used(mask.checkpoint))
    backbone = configuration.backbone(checkpoint.backbone)
    if not isinstance(backbone, ViTSettings):
        raise UserError(
            f"mask.checkpoint {mask.checkpoint!r}: {checkpoint.name} is of backbone "
            f"{backbone.name!r}, a {backbone.family}; masks of kind dino need a vision transformer "
            "(family vit)"
        )
    return backbone


def masks_run(dataset: Run, checkpoint: Run, backbone: ViTSettings, mask: DinoMaskSettings) -> Run:
    """The run that computes the attention maps of one data set."""
    recipe = MasksRecipe(
        dataset=dataset.id,
        checkpoint=checkpoint.key,
        backbone=backbone,
        magnification=mask.magnification,
        blur=mask.blur,
    )
    tags = {"dataset": dataset.id, "backbone": backbone.name, "checkpoint": checkpoint.id}
    return make_run("masks", f"{dataset.id}-{checkpoint.id}", recipe, [dataset, checkpoint], tags)
