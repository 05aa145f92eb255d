"""timm's networks by name: what may be asked of them, and what they refuse, in words."""

import difflib
import inspect
from typing import Any

from cp2.errors import UserError
from cp2.settings.models import BackboneSettings, TimmSettings

# Arguments of timm's constructors that this module sets itself, and where the user sets them.
_RESERVED = {
    "output_stride": "output_stride: beside args",
    "num_heads": "heads: beside args",
    "final_norm": "final_norm: beside args",
    "zero_init_last": "zero_init_residual in the pretraining recipe",
    "pretrained": "a checkpoint in configs/checkpoints.yaml",
    "checkpoint_path": "a checkpoint in configs/checkpoints.yaml",
    "num_classes": "nothing: a backbone has no classifier",
    "global_pool": "nothing: a backbone does not pool",
    "features_only": "nothing: only the last map is used",
    "dynamic_img_size": "nothing: every image size works",
}
_FREE_OF_TIMM = ("num_heads", "final_norm", "dynamic_img_size", "zero_init_last")

# Modules of timm whose networks add up or cut up maps that must have been halved evenly. They check
# nothing: other sides end in a RuntimeError.
_EVENLY_HALVED = frozenset({"csatv2", "dla", "hieradet_sam2", "hrnet", "naflexvit", "tresnet"})
# What makes a class take images of any size, where its constructor has it.
_ANY_SIZE = {"strict_img_size": "false", "dynamic_img_size": "true"}


def create(settings: BackboneSettings, module: str, own: int | None = None, **ours: Any) -> Any:
    """timm's model of this name, without pooling and classifier.

    Args:
        module: of timm, that has the architecture; empty: any.
        own: the network's output stride where none is asked for; where it is given, timm is known
            to take the arguments.
        ours: further arguments of timm's `create_model`.

    Raises:
        UserError: timm has no such architecture, or refuses an argument or the output stride.
    """
    import timm  # here, because it costs seconds that most commands need not pay

    known = timm.list_models(module=module)
    if settings.arch not in known:
        near = difflib.get_close_matches(settings.arch, known, n=5, cutoff=0.4)
        raise UserError(
            f"backbone {settings.name}: timm has no {settings.family} named arch: "
            f"{settings.arch!r}. Nearest names: {', '.join(near) or 'none'}. "
            f'All: python -c "import timm; print(timm.list_models(module={module!r}))"'
        )
    for key in settings.args:
        if key in _RESERVED and not (settings.family == "timm" and key in _FREE_OF_TIMM):
            raise UserError(
                f"backbone {settings.name}: args.{key} is not allowed; use {_RESERVED[key]}."
            )
    try:
        return timm.create_model(settings.arch, **ours, **settings.args)
    # what classes of timm's raise of arguments that they do not take
    except (TypeError, ValueError, AssertionError, NotImplementedError, RuntimeError) as error:
        what = f"args {settings.args}"
        remedy = "Look at the arguments of its class and correct the backbone's YAML file."
        if own is not None:
            what, remedy = f"output_stride {settings.stride}", own_stride(own)
        elif "output_stride" in ours:
            what += f" or output_stride {ours['output_stride']}"
        raise UserError(
            f"backbone {settings.name}: timm's {settings.arch} refuses {what}: "
            f"{reason_of(error)}. {remedy}"
        ) from error


def own_stride(own: int) -> str:
    """The remedy where a network cannot be dilated as asked for."""
    return (
        f"Its own is {own}: write output_stride: {own} in the backbone's YAML file, or in that of "
        "the method or protocol that sets another."
    )


def reason_of(error: Exception) -> str:
    """An error's text in one line; its kind, where it has none."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def check_sizes(settings: TimmSettings, features: Any) -> None:
    """Refuse a network that takes images of one size only.

    Args:
        features: timm's model with `features_only` and getter.

    Raises:
        UserError: it is one; names the argument that changes it, where its class has one.
    """
    if not any(getattr(module, "strict_img_size", False) for module in features.modules()):
        return
    # of all bases, because some classes hand on what they take as **kwargs
    bases = type(features.model).__mro__
    starts = [vars(base)["__init__"] for base in bases if "__init__" in vars(base)]
    takes = {key for start in starts for key in inspect.signature(start).parameters}
    argument = next((key for key in _ANY_SIZE if key in takes), None)
    remedy = (
        f"write args: {{{argument}: {_ANY_SIZE[argument]}}}"
        if argument
        else "its class has no argument that changes it: take another arch"
    )
    raise UserError(
        f"backbone {settings.name}: {settings.arch} takes images of one size only; {remedy}"
    )


def side_multiple(features: Any) -> int:
    """Pixels of which the sides of a network's images must be multiples; 1 where any will do.

    Args:
        features: timm's model with `features_only` and getter.
    """
    from timm.layers import PatchEmbed

    if type(features.model).__module__.rpartition(".")[2] in _EVENLY_HALVED:
        return int(features.feature_info.reduction()[-1])
    for module in features.modules():
        if isinstance(module, PatchEmbed) and not module.dynamic_img_pad:
            return int(max(module.patch_size))
    return 1
