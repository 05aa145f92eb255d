"""What a pretraining asks of its backbone, and of how it is executed; said before anything runs."""

from cp2.errors import UserError
from cp2.settings.dense import DenseSettings, PixConSettings
from cp2.settings.methods import MethodSettings
from cp2.settings.models import BackboneSettings


def check_pretraining(
    method: MethodSettings, backbone: BackboneSettings, micro_batches: int
) -> None:
    """Refuse what the job would refuse, or would do otherwise than it is written.

    Args:
        backbone: at the output stride that it is pretrained with.
        micro_batches: `execution.accumulate.pretrain`.
    Raises:
        UserError: views that are no whole cells, a grid larger than the map, or micro-batches
            with a loss that needs the whole batch.
    """
    stride = backbone.stride
    if method.kind == "cp2" and method.views.crop_size % stride:
        raise UserError(
            f"method {method.name!r}: views.crop_size {method.views.crop_size} is no multiple "
            f"of {stride}, the output stride of backbone {backbone.name!r}; masks are sampled "
            "once a cell"
        )
    reasons = [method.grid_misfit(stride)] if isinstance(method, DenseSettings) else []
    if isinstance(method, PixConSettings):
        reasons.append(method.micro_batch_misfit(micro_batches))
    for reason in filter(None, reasons):
        raise UserError(f"{reason} (backbone {backbone.name!r})")
