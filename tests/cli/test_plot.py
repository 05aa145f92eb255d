"""`cp2 plot`: what it draws, and what it says to a wrong run, image or pixel."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.errors import UserError
from cp2.methods.registry import build_networks
from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.reporting.figures import similarity
from cp2.settings.load import load_campaign


def plot(*arguments: str) -> str:
    """Standard output; raises what the command raises."""
    result = CliRunner().invoke(app, ["plot", *arguments])
    if result.exception:
        raise result.exception
    return result.output


@pytest.mark.parametrize("kind", ["correspondence", "attention", "overlap"])
def test_a_figure_of_a_run(kind: str, campaign: tuple[str, Run], tmp_path: Path) -> None:
    file, run = campaign
    said = plot(kind, "--run", run.id, "-c", file, "--image", "2", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / f"{kind}_{run.id}.png").is_file()
    assert f"{kind}_{run.id}.png" in said.replace("\n", "")


def test_figures_go_to_the_campaigns_reports(campaign: tuple[str, Run], tmp_path: Path) -> None:
    file, run = campaign
    plot("attention", "--run", run.key, "--run", run.id, "-c", file)
    assert (tmp_path / f"reports/tiny/figures/attention_{run.id}_and_1.png").is_file()


def test_a_run_under_way_beside_another_says_its_step(
    campaign: tuple[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run = campaign
    pairs = "methods.cp2.batch_size=2"
    configuration = load_campaign(file, [pairs])
    runs = build_plan(configuration).stage("pretrain")
    other = next(run for run in runs if run.tags["method"] == "cp2")
    state = other.folder(configuration.results).state
    state.mkdir(parents=True)
    module = build_networks(other.recipe).state_dict()
    torch.save({"step": 4, "module": module}, state / "last.pt")
    titles: list[str] = []

    def draw(images, point, columns, folder, name):
        titles.extend(moment.title for moment in columns)
        return SimpleNamespace(png=name)

    monkeypatch.setattr(similarity, "similarity", draw)
    plot("attention", "--run", run.id, "--run", other.id, "-c", file, "--set", pairs)
    assert titles == [run.id, f"{other.id}\nstep 4 of {other.recipe.epochs}"]  # of 3 images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "3"], "--image 3: photos has images 0 to 2"),
        (["--pixel", "0.5,1.5"], "must be two shares from 0 to 1"),
        (["--pixel", "middle"], "must be two shares from 0 to 1"),
        (["--run", "moco"], "no checkpoint, pretrain, finetune run of this campaign"),
        (["--dataset", "scenes"], "scenes"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, campaign: tuple[str, Run]) -> None:
    file, run = campaign
    with pytest.raises(UserError, match=message):
        plot("attention", "--run", run.id, "-c", file, *arguments)
