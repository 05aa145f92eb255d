"""The DAG: targets, what runs again after which change, messages for wrong input.

Jobs are not run here; finished runs are stood for by empty files that Snakemake is told to take
as made (`--touch`). The demo campaign itself is run by `make demo`.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from PIL import Image

from cp2.plan.build import build_plan
from cp2.record.attempts import read_attempts
from cp2.settings.load import load_campaign

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def _snakemake(project: Path, *arguments: str, campaign: str = "demo", changes: str = "") -> str:
    """Output of a run; its exit code as the last line."""
    config = [f"campaign={campaign}"] + ([f'set="{changes}"'] if changes else [])
    words = ("snakemake", "--cores", "2", "--config", *config)
    done = forked.run(*words, *arguments, cwd=project, env=ENVIRONMENT)
    return f"{done.stdout}\n{done.stderr}\nexit {done.returncode}"


def _jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from a dry run's table."""
    found = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", output, re.DOTALL | re.MULTILINE)
    if not found:
        return {}
    rows = (line.split() for line in found.group(1).splitlines())
    return {name: int(count) for name, count in rows if name not in ("total", "all")}


def _finish_everything(project: Path) -> None:
    """Write every output as an empty file and have Snakemake record it as made."""
    configuration = load_campaign("demo", configs=project / "configs")
    plan = build_plan(configuration)
    outputs = [p for run in plan.runs.values() for p in run.outputs(Path("results")).values()]
    reports = configuration.reports
    outputs += [reports / "index.html", reports / "tracked.txt"]
    outputs += [reports / f"tables/{t}.{end}" for t in plan.tables for end in ("md", "csv", "tex")]
    for path in outputs:
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("x")
    assert "exit 0" in _snakemake(project, "--touch", "--quiet", "all")


@pytest.mark.parametrize("campaign", ["demo", "mini", "paper"])
def test_a_dry_run_makes_every_run_of_the_plan(project: Path, campaign: str) -> None:
    output = _snakemake(project, "--dry-run", campaign=campaign)
    assert output.endswith("exit 0"), output
    plan = build_plan(load_campaign(campaign, configs=project / "configs"))
    jobs = _jobs(output)
    for stage in {run.stage for run in plan.runs.values()}:
        assert jobs[stage] == len(list(plan.stage(stage))), stage
    assert jobs["table"] == len(plan.tables)


def test_folders_of_a_campaign_are_words_and_no_commands(project: Path) -> None:
    (project / "theirs.yaml").write_text(
        "base: demo\ntitle: t\nexecution: {results: it's $(a) r; touch x, reports: p q; touch x}\n"
    )
    output = _snakemake(project, "--dry-run", "--printshellcmds", campaign="theirs.yaml")
    commands = re.findall(r"^ *Shell command: (cp2 .*|OMP.*)$", output, re.MULTILINE)
    assert len(commands) == sum(_jobs(output).values()), output
    for command in commands:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
        assert not {";", "touch", "(", ")"} & set(words), command
        assert any(word.startswith(("it's $(a) r; touch x/", "p q; touch x/")) for word in words)


def test_one_table_makes_its_own_runs_only(project: Path) -> None:
    plan = build_plan(load_campaign("demo", configs=project / "configs"))
    wanted = plan.ancestors(plan.tables["cp2_fcn"].runs)
    jobs = _jobs(_snakemake(project, "--dry-run", "table_cp2_fcn"))
    assert jobs["finetune"] == sum(run.stage == "finetune" for run in wanted)
    assert jobs["finetune"] < len(list(plan.stage("finetune")))
    assert "report" not in jobs


def test_small_runs_share_a_gpu(project: Path) -> None:
    change = "campaign.resources.finetune.jobs_per_gpu=4"
    output = _snakemake(project, "--dry-run", campaign="mini", changes=change)
    slots = {
        match[1]: int(match[2])
        for match in re.finditer(r"^rule (\w+):(?:\n .*)*?gpu_slots=(\d+)", output, re.MULTILINE)
    }
    assert slots == {"pretrain": 12, "finetune": 3, "evaluate": 12} | (
        {"masks": 12} if "masks" in slots else {}
    )


def test_one_run(project: Path) -> None:
    plan = build_plan(load_campaign("demo", configs=project / "configs"))
    run = next(iter(plan.stage("evaluate")))
    target = (run.folder(Path("results")).path / "done.json").as_posix()
    jobs = _jobs(_snakemake(project, "--dry-run", target))
    assert jobs == {"world": 1, "dataset": 1, "finetune": 1, "evaluate": 1}


def test_nothing_to_do_then_exactly_what_a_change_touches(project: Path) -> None:
    _finish_everything(project)
    again = _snakemake(project, "--dry-run")
    assert "Nothing to be done" in again
    assert again.endswith("exit 0")

    # One protocol setting of one data set: its finetunings and what follows from them.
    before = build_plan(load_campaign("demo", configs=project / "configs"))
    change = "protocols.cp2.datasets.cityscapes.iterations=61"
    jobs = _jobs(_snakemake(project, "--dry-run", changes=change))
    touched = [r for r in before.stage("finetune") if r.tags["dataset"] == "demo-cityscapes"]
    assert jobs == {
        "finetune": len(touched),
        "evaluate": len(touched),
        "table": 1,
        "report": 1,
        "track": 1,
    }

    # Nothing that cannot change a number makes anything run.
    for harmless in ("campaign.execution.workers=3", "datasets.demo-voc2012.title=x"):
        assert "Nothing to be done" in _snakemake(project, "--dry-run", changes=harmless)

    # What a table shows beside the runs' numbers makes the table again, and no run.
    published = project / "reports/published/cp2_fcn.csv"
    published.write_text(published.read_text().replace("74.4", "74.5"))
    assert _jobs(_snakemake(project, "--dry-run")) == {"table": 1, "report": 1, "track": 1}
    published.write_text(published.read_text().replace("74.5", "74.4"))

    # One stage again, and what follows from it.
    jobs = _jobs(_snakemake(project, "--dry-run", "--forcerun", "evaluate"))
    assert set(jobs) == {"evaluate", "table", "report", "track"}


def test_a_job_is_of_its_rules_stage(project: Path) -> None:
    """The rules are made in a loop: a job's command is not the last one's."""
    (project / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(project / f"photos/{number}.png")
    (project / "mine.yaml").write_text(
        "title: mine\nscale: demo\ntables: [mini_segmentation]\n"
        "substitute: {labelled: scenes, unlabelled: photos}\n"
        "overrides:\n  datasets:\n"
        f"    photos: {{kind: images, title: noise, root: {project}/photos}}\n"
        f"    scenes: {{kind: labelled, title: none, root: {project}/photos, classes: camvid}}\n"
    )
    target = "results/datasets/photos/dataset.json"
    output = _snakemake(project, "--show-failed-logs", target, campaign="mine.yaml")
    assert output.endswith("exit 0"), output
    assert (project / "results/datasets/photos/index.csv").is_file()


def test_what_only_the_user_can_mend_is_not_tried_again(project: Path) -> None:
    (project / "mine.yaml").write_text(
        "title: mine\nscale: demo\ntables: [mini_segmentation]\n"
        "substitute: {labelled: scenes, unlabelled: photos}\n"
        "overrides:\n  datasets:\n"
        f"    photos: {{kind: images, title: noise, root: {project}/nowhere}}\n"
        f"    scenes: {{kind: labelled, title: none, root: {project}/a, classes: camvid}}\n"
    )
    target = "results/datasets/photos/dataset.json"
    output = _snakemake(project, "--retries", "3", target, campaign="mine.yaml")
    assert output.endswith("exit 1"), output
    (attempt,) = read_attempts(project / "results/datasets/photos")
    assert "is not a folder" in (attempt.error or "")


def test_no_job_is_started_for_a_batch_that_gpus_cannot_share(project: Path) -> None:
    change = "campaign.resources.pretrain={gpus: 5, cpus: 1, mem_mb: 1, minutes: 1}"
    output = _snakemake(project, "--resources", "gpu_slots=60", "--", "all", changes=change)
    assert "no job is started" in output
    assert "cannot be shared evenly by 5 GPUs" in output
    assert output.endswith("exit 1")
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("campaign", "changes", "messages"),
    [
        ("dmo", "", ["campaign 'dmo'", "did you mean 'demo'"]),
        ("demo", "protocols.cp2.iteration=3", ["iteration", "unknown key", "--set"]),
        ("demo", "methods.cp2.batch_size=many", ["batch_size", "must be a whole number"]),
    ],
)
def test_wrong_settings_stop_before_any_job(
    project: Path, campaign: str, changes: str, messages: list[str]
) -> None:
    output = _snakemake(project, "--dry-run", campaign=campaign, changes=changes)
    assert output.endswith("exit 1"), output
    assert "Traceback" not in output
    for message in messages:
        assert message in output


def test_an_unknown_config_key_is_refused(project: Path) -> None:
    words = ("snakemake", "--dry-run", "--config", "campain=demo")
    done = forked.run(*words, cwd=project, env=ENVIRONMENT)
    assert done.returncode == 1
    assert "--config campain: unknown; write campaign=" in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("table_cp2_fcm", "no table 'cp2_fcm' in this campaign; did you mean 'cp2_fcn'?"),
        ("results/evaluate/nope/done.json", "no evaluate run 'nope' in this campaign; allowed:"),
    ],
)
def test_a_target_that_does_not_exist(project: Path, target: str, message: str) -> None:
    output = _snakemake(project, "--dry-run", target)
    assert f"{message}" in output
    assert output.endswith("exit 1")


def test_parsing_imports_no_torch(project: Path) -> None:
    code = (
        "import sys; from cp2.plan.workflow import Workflow; Workflow({'campaign': 'paper'}); "
        "print([m for m in ('torch', 'mlflow', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    assert done.stdout.strip() == "[]"
