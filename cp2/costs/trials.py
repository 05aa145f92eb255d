"""Backbones of timm's, tried before any job at the sizes of images that a plan has for them."""

from collections.abc import Iterator
from pathlib import Path

from cp2.costs.networks import Size, backbone_map
from cp2.costs.work import seen_size
from cp2.errors import UserError
from cp2.models.timm_models import reason_of
from cp2.plan.fit import with_keys
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.linear_segmentation import ProbeRecipe
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.protocols.svm import SvmRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.models import BackboneSettings, TimmSettings

WHOLE = "evaluated as a whole"  # images of any size


def unfit_backbones(plan: Plan, results: Path) -> list[str]:
    """Why backbones of family timm would fail in runs that are left to make.

    Each is built and run once a size, on torch's meta device.

    Returns:
        One text a backbone and reason, after the keys of its runs; empty where all fit.
    """
    tried: dict[tuple[str, Size, str], str | None] = {}
    found: dict[str, list[str]] = {}
    for run in plan.runs.values():
        backbone = _backbone(run, plan)
        if not isinstance(backbone, TimmSettings) or run.is_done(results):
            continue
        for size, what in _sizes(run):
            key = (backbone.model_dump_json(), size, what)
            if key not in tried:
                tried[key] = refusal(backbone, size, what)
            if reason := tried[key]:
                found.setdefault(reason, []).append(run.key)
                break  # the next size would have the same reason
    return with_keys(found)


def _backbone(run: Run, plan: Plan) -> BackboneSettings | None:
    recipe = run.recipe
    if isinstance(recipe, SegmentationEvaluateRecipe):
        recipe = plan.needed(run, "finetune").recipe
    return getattr(recipe, "backbone", None)


def _sizes(run: Run) -> Iterator[tuple[Size, str]]:
    """Height and width of images that a run's backbone sees, and what they are."""
    match run.recipe:
        case PretrainRecipe(method=method):
            side = method.views.crop_size
            yield (side, side), f"views.crop_size of method {method.name!r}"
        case SegmentationFinetuneRecipe(augmentation=augmentation):
            yield augmentation.crop, "augmentation.crop"
        case SegmentationEvaluateRecipe(inference=inference, resize=resize):
            if inference.window:
                yield inference.window, "inference.window"
            else:
                height, width = seen_size(resize)
                yield (height, width), WHOLE
                yield (height, width + 1), WHOLE  # one of the two is odd
        case SvmRecipe(schedule=schedule) | ProbeRecipe(schedule=schedule):
            yield schedule.size, "size"


def refusal(backbone: TimmSettings, size: Size, what: str) -> str | None:
    """Why a backbone cannot take images of a size, with the remedy; None where it can.

    Args:
        size: height and width.
        what: the images are; WHOLE: no setting is their size.
    """
    try:
        reason = _failure(backbone, size)
    except UserError as error:
        return str(error)
    if reason is None:
        return None
    return (
        f"backbone {backbone.name}: timm's {backbone.arch} cannot take images of "
        f"{size[0]} x {size[1]} pixels ({what}): {reason}; {_remedy(backbone, size, what)}"
    )


def _failure(backbone: TimmSettings, size: Size) -> str | None:
    """What happens in a forward pass; None where a map of the right size comes out.

    Raises:
        UserError: the backbone cannot be built.
    """
    try:
        found = tuple(backbone_map(backbone, size).shape[-2:])
    except UserError:
        raise
    except Exception as error:  # a network of timm's may raise whatever it likes
        return reason_of(error)
    stride = backbone.stride
    if all(side // stride <= f <= -(-side // stride) for side, f in zip(size, found, strict=True)):
        return None
    rows, columns = (-(-side // stride) for side in size)
    return (
        f"it makes a map of {found[0]} x {found[1]}, with output_stride {stride} one of "
        f"{rows} x {columns} is due"
    )


def _remedy(backbone: TimmSettings, size: Size, what: str) -> str:
    """What was tried and works."""
    import timm

    config = timm.get_pretrained_cfg(backbone.arch)
    _, height, width = config.input_size if config else (3, 224, 224)
    own = (height, width)
    fits = own != size and _failure(backbone, own) is None
    if what == WHOLE:
        window = f"write inference: {{mode: slide, window: {list(own)}, stride: ...}}, or "
        return f"{window if fits else ''}take another arch, one for images of any size"
    made = size[0] if size[0] == size[1] else list(size)
    other = backbone.model_copy(update={"args": {**backbone.args, "img_size": made}})
    ways = [f"write {own[0]} x {own[1]} there, which it takes"] if fits else []
    try:
        if _failure(other, size) is None:
            ways.append(f"write args: {{img_size: {made}}}")
    except UserError:  # its class has no such argument
        pass
    return ", or ".join([*ways, "take another arch"])
