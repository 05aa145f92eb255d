"""Finetuned models written and read back."""

from pathlib import Path

import pytest
import tiny
import torch

from cp2.errors import WrongFile
from cp2.models.segmentor_files import build_segmentor, load_segmentor, save_segmentor
from cp2.models.weights import load_weights, save_weights
from cp2.settings.models import AsppSettings, FcnSettings, HeadSettings, ResNetSettings, ViTSettings

TINY_RESNET = tiny.resnet(name="tiny-resnet")
TINY_VIT = tiny.vit(64, depth=2)
FCN = FcnSettings(kind="fcn", name="fcn", title="", channels=8, convs=1)
ASPP = AsppSettings(kind="aspp", name="aspp", title="", channels=8, dilations=(1, 2))


@pytest.mark.parametrize(("backbone", "head"), [(TINY_RESNET, FCN), (TINY_VIT, ASPP)])
def test_file_alone_rebuilds_the_model(
    tmp_path: Path, backbone: ResNetSettings | ViTSettings, head: HeadSettings
) -> None:
    model = build_segmentor(backbone, head, 4).eval()
    save_segmentor(tmp_path / "model.safetensors", model, backbone, head, "run-1")
    found = load_segmentor(tmp_path / "model.safetensors").eval()
    images = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        assert torch.equal(found(images), model(images))
    parts, metadata = load_weights(tmp_path / "model.safetensors")
    assert set(parts) == {"backbone", "head", "classifier"}
    assert metadata["run"] == "run-1"


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = build_segmentor(TINY_RESNET, FCN, 4)
    path = tmp_path / "model.safetensors"
    save_weights(path, {"backbone": model.backbone.state_dict()}, {})
    with pytest.raises(WrongFile, match="is not a finetuned model of this version"):
        load_segmentor(path)
    metadata = {"backbone": TINY_RESNET.model_dump_json(), "head": "{}", "classes": "4"}
    save_weights(path, {"backbone": model.backbone.state_dict()}, metadata)
    with pytest.raises(WrongFile, match="is not a finetuned model of this version"):
        load_segmentor(path)
