"""The package's public names, and a backbone read from a run's folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

import cp2
from cp2.errors import UserError, WrongFile
from cp2.models.backbones import build_backbone
from cp2.models.weights import save_weights
from cp2.settings.base import hashed_fields
from cp2.settings.models import BackboneSettings

ROOT = Path(__file__).parents[2]
IMAGES = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)


def write(
    folder: Path, settings: BackboneSettings, name: str = "model.safetensors"
) -> torch.Tensor:
    """A run's folder; returns what its backbone makes of IMAGES."""
    backbone = build_backbone(settings).eval()
    save_weights(folder / name, {"backbone": backbone.state_dict()}, {})
    recipe = {"backbone": hashed_fields(settings)}
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "tags": {}}))
    return backbone(IMAGES)


@pytest.mark.parametrize(
    "settings", [tiny.resnet(), tiny.resnet(padding="same"), tiny.vit()], ids=lambda s: s.family
)
@torch.inference_mode()
def test_a_runs_backbone(settings: BackboneSettings, tmp_path: Path) -> None:
    wanted = write(tmp_path, settings)
    assert torch.equal(cp2.load_backbone(str(tmp_path))(IMAGES), wanted)


@torch.inference_mode()
def test_a_snapshots_and_a_checkpoints(tmp_path: Path) -> None:
    wanted = write(tmp_path, tiny.resnet(), "snapshots/epoch-3.safetensors")
    assert torch.equal(cp2.load_backbone(tmp_path, epoch=3)(IMAGES), wanted)
    with pytest.raises(UserError, match="holds no snapshot of epoch 2"):
        cp2.load_backbone(tmp_path, epoch=2)
    with pytest.raises(UserError, match="holds no weights"):
        cp2.load_backbone(tmp_path)
    wanted = write(tmp_path, tiny.resnet(), "backbone.safetensors")
    assert torch.equal(cp2.load_backbone(tmp_path)(IMAGES), wanted)


def test_a_recipe_without_a_backbone(tmp_path: Path) -> None:
    write(tmp_path, tiny.resnet())
    (tmp_path / "recipe.json").write_text('{"recipe": {}, "tags": {}}')
    with pytest.raises(WrongFile, match="the recipe of a run with a backbone"):
        cp2.load_backbone(tmp_path)


def test_public_names() -> None:
    assert all(hasattr(cp2, name) for name in cp2.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        cp2.nope  # noqa: B018
    assert "cp2/random" not in cp2.load_plan("demo").runs


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import cp2, sys; print(sorted({'torch', 'numpy', 'pandas', 'pydantic'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_the_documents_loop_has_a_gradient() -> None:
    page = (ROOT / "docs" / "use-the-parts.md").read_text()
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    encoder, queue = names["encoder"], names["queue"]
    assert isinstance(encoder, torch.nn.Conv2d)
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.abs().sum() > 0
    assert isinstance(queue, cp2.KeyQueue)
    assert queue.queue_ptr.item() == 8
