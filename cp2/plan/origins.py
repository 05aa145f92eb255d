"""What a run takes over from the checkpoint or pretraining that it starts from."""

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.recipes import CheckpointRecipe, PretrainRecipe
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.models import BackboneSettings, HeadSettings
from cp2.settings.protocols.segmentation import DatasetSchedule
from cp2.settings.tables import Row


def as_trained(backbone: BackboneSettings, checkpoint: CheckpointSettings) -> BackboneSettings:
    """The backbone with the padding, the input and the attention heads of a published file.

    Raises:
        UserError: a vision transformer whose file states no number of heads or another one, or
            whose file asks for what only ResNets have.
    """
    if backbone.family == "resnet":
        return backbone.model_copy(
            update={"padding": checkpoint.padding, "input": checkpoint.input}
        )
    where = f"checkpoint {checkpoint.name!r} of backbone {backbone.name!r}"
    if checkpoint.padding != "symmetric" or checkpoint.input != "imagenet":
        raise UserError(f"{where}: padding and input are for ResNets; remove them")
    if checkpoint.attention_heads is None:
        raise UserError(
            f"{where}: attention_heads is missing in configs/checkpoints.yaml; a wrong number "
            "cannot be seen from the file, so write what the model was trained with"
        )
    if checkpoint.attention_heads != backbone.heads:
        raise UserError(
            f"{where} was trained with attention_heads {checkpoint.attention_heads}, the backbone "
            f"has heads: {backbone.heads}; give the checkpoint a backbone of its own in "
            "configs/models/backbones/"
        )
    return backbone


def backbone_of(origin: Run | None, configured: BackboneSettings) -> BackboneSettings:
    """The backbone that a run goes on with: the one that its origin was trained as."""
    if origin is not None and isinstance(origin.recipe, CheckpointRecipe | PretrainRecipe):
        return origin.recipe.backbone
    return configured


def as_pretrained(
    backbone: BackboneSettings, configured: BackboneSettings, method: PretrainingSettings
) -> BackboneSettings:
    """The backbone at the stride that a method wants it; its origin's is no matter."""
    if backbone.family == "resnet" and configured.family == "resnet":
        stride = method.output_stride or configured.output_stride
        return backbone.model_copy(update={"output_stride": stride})
    return backbone


def as_finetuned(
    backbone: BackboneSettings, configured: BackboneSettings, schedule: DatasetSchedule
) -> BackboneSettings:
    """The backbone as a data set's schedule wants it; its pretraining's stride is no matter.

    Raises:
        UserError: the schedule asks for what this backbone does not have.
    """
    if backbone.family == "resnet" and configured.family == "resnet":
        if schedule.augmentation.normalization == "legacy" and backbone.input != "imagenet":
            raise UserError(
                f"backbone {backbone.name!r} sees input {backbone.input!r}, which cannot be "
                "combined with augmentation.normalization: legacy; write imagenet"
            )
        stride = schedule.output_stride or configured.output_stride
        return backbone.model_copy(update={"output_stride": stride})
    if schedule.output_stride or schedule.auxiliary:
        raise UserError(
            f"backbone {backbone.name!r} is a vision transformer: output_stride and auxiliary of "
            "a protocol are for ResNets; take another protocol or backbone"
        )
    return backbone


def head_is_pretrained(row: Row, origin: Run | None, head: HeadSettings) -> bool:
    """Whether finetuning takes the head from its origin, too.

    Raises:
        UserError: a checkpoint's head is another one than the table's.
    """
    if row.head_init == "random" or origin is None:
        return False
    recipe = origin.recipe
    if not isinstance(recipe, CheckpointRecipe | PretrainRecipe) or recipe.head is None:
        return False
    if recipe.head != head:
        raise UserError(
            f"row {row.name!r}: {origin.key} comes with head {recipe.head.name!r}, the table asks "
            f"for {head.name!r}; write head_init: random in the row to take the backbone alone"
        )
    return True


def source_name(origin: Run | None) -> str:
    """What a finetuning's id and tags call its origin."""
    if origin is None:
        return "random"
    return origin.tags["method"] if origin.stage == "pretrain" else origin.id
