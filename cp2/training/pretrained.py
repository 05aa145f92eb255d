"""Weights that a run starts from: those of a checkpoint or of a finished pretraining."""

from pathlib import Path

import torch

from cp2.models.backbones import Backbone, build_backbone
from cp2.models.checkpoints import load_backbone
from cp2.models.weights import State, load_weights
from cp2.plan.graph import Run
from cp2.settings.models import BackboneSettings
from cp2.stages import weights_of


class PretrainedWeights:
    """The weights of a checkpoint or of a finished pretraining.

    Args:
        key: "checkpoint/<name>" or "pretrain/<run id>".
        results: folder of all results.
        path: a snapshot of it; None: its last weights.
    Attributes:
        parts: state dicts by name: backbone, head, ...
    Raises:
        WrongFile: the file is missing or damaged.
    """

    def __init__(self, key: str, results: Path, path: Path | None = None) -> None:
        self.path = path or weights_of(key, results)
        self.parts, self._metadata = load_weights(self.path)

    def load_into(self, backbone: Backbone) -> list[str]:
        """Load the backbone's weights; returns what was adapted, one line each.

        Raises:
            WrongFile: they do not fit.
        """
        return load_backbone(backbone, self.parts["backbone"], self.path, self._metadata)

    @property
    def head(self) -> State | None:
        return self.parts.get("head")


def pretrained_backbone(run: Run, settings: BackboneSettings, results: Path) -> Backbone:
    """The backbone of the checkpoint or pretraining that a run starts from.

    One that starts from neither has random weights, drawn with its seed.

    Raises:
        WrongFile: the file is missing or damaged, or its weights do not fit.
    """
    torch.manual_seed(run.seed or 0)
    backbone = build_backbone(settings)
    if run.pretrained is not None:
        PretrainedWeights(run.pretrained, results).load_into(backbone)
    return backbone
