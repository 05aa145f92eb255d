"""Detectors built from settings, and on disk: weights and settings in one file."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cp2.errors import WrongFile
from cp2.models.backbones import ResNetBackbone, build_backbone
from cp2.models.checkpoints import load_backbone, load_head
from cp2.models.weights import load_weights, save_weights
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.protocols.detection.fpn import FPNDetector
from cp2.protocols.detection.networks import C4Detector, Detector
from cp2.settings.models import ResNetSettings
from cp2.settings.protocols.detection import DetectorSettings


def build_detector(settings: DetectorSettings, backbone: ResNetSettings, classes: int) -> Detector:
    """A detector with fresh weights."""
    body = build_backbone(backbone)
    assert isinstance(body, ResNetBackbone)
    model: Detector
    if settings.kind == "c4":
        model = C4Detector(body, classes, settings.anchors, settings.recompute)
    else:
        width, hidden = settings.width, settings.hidden
        model = FPNDetector(body, classes, settings.anchors, width, hidden, settings.masks)
    model.regions = settings.regions
    return model


def save_detector(path: Path, model: Detector, recipe: DetectionFinetuneRecipe, run: str) -> None:
    """Write the parts backbone and detector, and the settings to build them again.

    Raises:
        UserError: the disk is full.
    """
    heads = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    metadata = {
        "run": run,
        "backbone": recipe.backbone.model_dump_json(),
        "detector": recipe.detector.model_dump_json(),
        "classes": str(recipe.classes),
    }
    save_weights(path, {"backbone": model.backbone.state_dict(), "detector": heads}, metadata)


def load_detector(path: Path) -> Detector:
    """The model that `save_detector` wrote, on the CPU.

    Raises:
        WrongFile: missing, damaged, or not a detector.
    """
    parts, metadata = load_weights(path)
    try:
        model = build_detector(
            TypeAdapter(DetectorSettings).validate_json(metadata["detector"]),
            TypeAdapter(ResNetSettings).validate_json(metadata["backbone"]),
            int(metadata["classes"]),
        )
        load_backbone(model.backbone, parts["backbone"], path)
        own = {f"backbone.{key}": value for key, value in parts["backbone"].items()}
        load_head(model, parts["detector"] | own, path)
    except (KeyError, ValidationError) as error:
        raise WrongFile(
            f"{path} is not a detector of this version ({error}); run its finetune stage again"
        ) from error
    return model
