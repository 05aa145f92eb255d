"""`cp2 clean`: runs that no campaign wants, and only these."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.unused import disk_use, unused
from cp2.settings.load import Configuration, load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """The demo in a project of its own; of its results, a folder for each run, and two others."""
    shutil.copytree(CONFIGS, tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    configuration = load_campaign("demo")
    for run in build_plan(configuration).runs.values():
        run.folder(configuration.results).path.mkdir(parents=True)
    for key in ("pretrain/old-00000000", "datasets/gone"):
        (configuration.results / key).mkdir()
        (configuration.results / key / "file").write_bytes(bytes(1000))
    return configuration


def clean(*arguments: str) -> str:
    """Standard output; raises what the command raises."""
    result = CliRunner().invoke(app, ["clean", *arguments])
    if result.exception:
        raise result.exception
    return result.output


def test_what_a_campaign_plans_is_wanted(demo: Configuration) -> None:
    found = [str(folder.path) for folder in unused(demo)]
    assert found == ["results/datasets/gone", "results/pretrain/old-00000000"]


def test_listing_removes_nothing_and_removing_only_the_unused(demo: Configuration) -> None:
    before = sorted(demo.results.glob("*/*"))
    text = clean()
    assert "results/datasets/gone: 1.0 kB" in text
    assert "2 runs that no campaign wants, 2.0 kB; --remove removes them" in text
    assert sorted(demo.results.glob("*/*")) == before
    clean("--remove")
    gone = {"gone", "old-00000000"}
    assert sorted(demo.results.glob("*/*")) == [path for path in before if path.name not in gone]
    assert "0 runs that no campaign wants" in clean()


def test_another_campaigns_runs_are_kept(demo: Configuration) -> None:
    other = build_plan(load_campaign("demo_full"))
    run = next(run for run in other.stage("pretrain") if run.key not in build_plan(demo).runs)
    run.folder(demo.results).path.mkdir()
    assert run.id not in {folder.path.name for folder in unused(demo)}


def test_a_campaign_that_cannot_be_planned_stops_it(demo: Configuration) -> None:
    Path("configs/broken.yaml").write_text("title: broken\n")
    with pytest.raises(UserError, match=r"broken\.yaml cannot be planned"):
        unused(demo)


def test_two_names_of_one_file_count_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    os.link(tmp_path / "a", tmp_path / "b")
    assert disk_use(tmp_path) == 10
