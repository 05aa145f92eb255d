"""`cp2 plot`: what it draws, and what it says to a wrong run, image or pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.data.preparers import prepare
from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.models.weights import save_weights
from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.plan.recipes import DatasetRecipe
from cp2.settings.load import load_campaign

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}/photos}}
    scenes: {{kind: labelled, title: none, root: {root}, classes: camvid}}
  methods:
    moco-v2: &small {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8}}
    cp2: *small
execution: {{results: {root}/results, reports: {root}/reports}}
"""


@pytest.fixture
def campaign(tmp_path: Path) -> tuple[str, Run]:
    """A campaign file and its first pretraining, which is done."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 48)).save(tmp_path / f"photos/{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration = load_campaign(str(file))
    plan = build_plan(configuration)
    photos = plan.run("dataset", "photos")
    assert isinstance(photos.recipe, DatasetRecipe)
    prepare(photos.recipe.dataset, None, photos.folder(configuration.results).path)
    run = next(plan.stage("pretrain"))
    path = run.folder(configuration.results).model
    path.parent.mkdir(parents=True)
    save_weights(path, {"backbone": build_backbone(run.recipe.backbone).state_dict()}, {})
    run.folder(configuration.results).done.write_text("{}")
    return str(file), run


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "3"], "--image 3: photos has images 0 to 2"),
        (["--pixel", "0.5,1.5"], "must be two shares from 0 to 1"),
        (["--pixel", "middle"], "must be two shares from 0 to 1"),
        (["--run", "moco"], "no checkpoint, pretrain or finetune run of this campaign"),
        (["--dataset", "scenes"], "scenes"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, campaign: tuple[str, Run]) -> None:
    file, run = campaign
    with pytest.raises(UserError, match=message):
        plot("attention", "--run", run.id, "-c", file, *arguments)
