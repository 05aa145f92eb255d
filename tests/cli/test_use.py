"""`cp2 export`: what it writes, and what it says to a run or a folder that will not do."""

import json
from pathlib import Path

import pytest
import timm
import torch
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.errors import UserError
from cp2.models.weights import load_weights
from cp2.plan.graph import Run


def export(*arguments: str) -> str:
    """Standard output; raises what the command raises."""
    result = CliRunner().invoke(app, ["export", *arguments])
    if result.exception:
        raise result.exception
    return result.output


def test_a_pretraining_goes_to_timm(campaign: tuple[str, Run], tmp_path: Path) -> None:
    file, run = campaign
    folder = tmp_path / "out" / "mine"
    said = export(run.id, str(folder), "--to", "timm", "-c", file)
    assert said.replace("\n", "") == str(folder / "model.safetensors")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    parts, _ = load_weights(next(tmp_path.glob(f"results/pretrain/{run.id}/model.safetensors")))
    torch.testing.assert_close(dict(model.state_dict()), parts["backbone"])
    card = (folder / "README.md").read_text()
    for part in (f"# {run.id}", "photos: 200 epochs", "None was measured", f"local-dir:{folder}"):
        assert part in card
    assert json.loads((folder / "recipe.json").read_text())["tags"]["run_id"] == run.id
    assert sorted(path.name for path in folder.parent.iterdir()) == ["mine"]


def test_wrong_input(campaign: tuple[str, Run], tmp_path: Path) -> None:
    file, run = campaign
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--to 'keras': allowed are timm, torchvision, mmseg"):
        export(run.id, str(out), "--to", "keras", "-c", file)
    with pytest.raises(UserError, match="no checkpoint, pretrain, finetune run"):
        export("moco", str(out), "--to", "timm", "-c", file)
    with pytest.raises(UserError, match=r"found resnet26 .* use timm or huggingface"):
        export(run.id, str(out), "--to", "detectron2", "-c", file)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(UserError, match="is there already"):
        export(run.id, str(out), "--to", "timm", "-c", file)


def test_an_unfinished_run(campaign: tuple[str, Run], tmp_path: Path) -> None:
    file, run = campaign
    next(tmp_path.glob("results/pretrain/*/done.json")).unlink()
    with pytest.raises(UserError, match="is not finished; `cp2 status` shows how far it is"):
        export(run.id, str(tmp_path / "out"), "--to", "timm", "-c", file)
    wrong = "--epoch 2: there are snapshots of epochs none; execution.snapshot_every keeps some"
    with pytest.raises(UserError, match=wrong):
        export(run.id, str(tmp_path / "out"), "--to", "timm", "-c", file, "--epoch", "2")
    (model,) = tmp_path.glob("results/pretrain/*/model.safetensors")
    (model.parent / "snapshots").mkdir()
    model.rename(model.parent / "snapshots" / "epoch-2.safetensors")
    export(run.id, str(tmp_path / "out"), "--to", "timm", "-c", file, "--epoch", "2")
    assert (tmp_path / "out" / "model.safetensors").is_file()
