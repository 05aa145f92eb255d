"""Finetuned models on disk: weights and architecture in one file."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cp2.errors import reading
from cp2.models.backbones import build_backbone
from cp2.models.checkpoints import load_backbone, load_head
from cp2.models.encoders import Segmentor
from cp2.models.heads import build_head
from cp2.models.weights import load_weights, save_weights
from cp2.settings.models import BackboneSettings, HeadSettings


def build_segmentor(
    backbone: BackboneSettings,
    head: HeadSettings,
    num_classes: int,
    zero_init_residual: bool = False,
) -> Segmentor:
    """A segmentation model with fresh weights."""
    body = build_backbone(backbone, zero_init_residual)
    return Segmentor(body, build_head(head, body.channels), num_classes, head.dropout)


def save_segmentor(
    path: Path, model: Segmentor, backbone: BackboneSettings, head: HeadSettings, run_id: str
) -> None:
    """Write the parts backbone, head and classifier, and the settings to build them again.

    Raises:
        UserError: the disk is full.
    """
    parts = {
        "backbone": model.backbone.state_dict(),
        "head": model.head.state_dict(),
        "classifier": model.conv_seg.state_dict(),
    }
    metadata = {
        "run": run_id,
        "backbone": backbone.model_dump_json(),
        "head": head.model_dump_json(),
        "classes": str(model.conv_seg.out_channels),
    }
    save_weights(path, parts, metadata)


def load_segmentor(path: Path) -> Segmentor:
    """The model that `save_segmentor` wrote, on the CPU.

    Raises:
        WrongFile: missing, damaged, or not a finetuned model.
    """
    parts, metadata = load_weights(path)
    backbone: Any = TypeAdapter(BackboneSettings)
    head: Any = TypeAdapter(HeadSettings)
    kind = "a finetuned model of this version (backbone, head, classifier and their settings)"
    with reading(path, kind, "run its finetune stage again"):
        model = build_segmentor(
            backbone.validate_json(metadata["backbone"]),
            head.validate_json(metadata["head"]),
            int(metadata["classes"]),
        )
        load_backbone(model.backbone, parts["backbone"], path)
        load_head(model.head, parts["head"], path)
        load_head(model.conv_seg, parts["classifier"], path)
    return model
