"""Status from files alone, odd ones among them."""

import fcntl
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from costing import configuration, finish, log_steps

from cp2.plan.build import build_plan
from cp2.plan.progress.listing import cell_text, status_json, status_listing
from cp2.plan.progress.status import KILLED, campaign_status, run_status
from cp2.record.owner import this_process

NOW = 1_800_000_000.0
STEPS = {"pretrain": 200 * 122, "finetune": 8000}


class Campaign:
    """A small campaign and its results folder."""

    def __init__(self, folder, *assignments):
        self.settings = configuration(folder, *assignments)
        self.plan = build_plan(self.settings)
        self.results = self.settings.results

    def run(self, stage, method=None, seed=0):
        """The first run of a stage, of a method and with a seed."""
        return next(
            run
            for run in self.plan.stage(stage)
            if method in (None, run.tags.get("method")) and run.seed in (None, seed)
        )

    def attempt(self, run, outcome=None, error=None, step=None, cut=""):
        folder = run.folder(self.results).path
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"event": "started", "attempt": 1, "time": NOW, "host": "n", "pid": 1, "job": None,
             "device": "cpu", "processes": 1}
        ]  # fmt: skip
        if outcome:
            lines.append(
                {"event": "ended", "attempt": 1, "time": NOW, "outcome": outcome, "step": step,
                 "error": error}
            )  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "attempts.jsonl").write_text(text + cut)

    @contextmanager
    def held(self, run):
        """Someone works on the run."""
        folder = run.folder(self.results).path
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("wb") as file:
            file.write(this_process().write())
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def status(self):
        return campaign_status(self.plan, self.results)

    def of(self, run):
        return run_status(run, self.plan, self.results, NOW)

    def cells(self):
        found = self.status().tables["mini_segmentation"]
        return {(cell.row, cell.column): cell for cell in found}


@pytest.fixture
def campaign(tmp_path):
    return Campaign(tmp_path)


def test_nothing_is_there_and_all_waits(campaign):
    status = campaign.status()
    assert {run.state for run in status.runs.values()} == {"waiting"}
    assert {cell.state for cell in campaign.cells().values()} == {"waiting"}
    assert not campaign.results.exists()  # looking makes nothing


def test_all_is_done(campaign):
    for run in campaign.plan.runs.values():
        finish(run, campaign.results)
    assert {run.state for run in campaign.status().runs.values()} == {"done"}
    assert {cell_text(cell) for cell in campaign.cells().values()} == {"2/2 done"}


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_held_run_is_running_with_rate_and_eta(campaign, stage):
    run = campaign.run(stage, None if stage == "finetune" else "moco-v2")
    rate, batch = 64.0, {"pretrain": 128, "finetune": 16}[stage]
    log_steps(run, campaign.results, {"step": 2000, "time": NOW - 90, "samples_per_second": rate})
    campaign.attempt(run)
    with campaign.held(run):
        found = campaign.of(run)
    assert (found.state, found.step, found.steps) == ("running", 2000, STEPS[stage])
    assert found.eta == pytest.approx((STEPS[stage] - 2000) * batch / rate)
    assert (found.rate, found.age) == (rate, 90)
    assert found.share == pytest.approx(2000 / STEPS[stage])
    assert f"process {this_process().pid}" in found.holder


def test_a_lock_that_nobody_holds_is_no_sign_of_life(campaign):
    run = campaign.run("finetune")
    with campaign.held(run):
        pass
    campaign.attempt(run)
    assert campaign.of(run).state == "failed"
    assert campaign.of(run).error == KILLED


def test_a_process_that_is_killed_stops_running(campaign):
    run = campaign.run("finetune")
    folder = run.folder(campaign.results).path
    code = (
        "import sys, time; from pathlib import Path; from cp2.record.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        campaign.attempt(run)
        assert campaign.of(run).state == "running"
        assert str(process.pid) in campaign.of(run).holder
        process.kill()
        process.wait()
    assert campaign.of(run).state == "failed"


def test_a_saved_run_waits_and_a_failed_one_says_why(campaign):
    saved, failed = campaign.run("finetune", seed=0), campaign.run("finetune", seed=1)
    campaign.attempt(saved, "saved", step=300)
    log_steps(saved, campaign.results, {"step": 300})
    campaign.attempt(failed, "failed", "the loss is not finite", step=7)
    (failed.folder(campaign.results).path / "log.txt").write_text("x")
    assert (campaign.of(saved).state, campaign.of(saved).step) == ("waiting", 300)
    found = campaign.of(failed)
    assert (found.state, found.error, found.step) == ("failed", "the loss is not finite", 7)
    assert found.log == failed.folder(campaign.results).log
    (failed.folder(campaign.results).path / "job.log").write_text("x")
    assert campaign.of(failed).log.name == "job.log"  # it has the traceback, too


def test_a_failed_run_that_was_started_again_is_running(campaign):
    run = campaign.run("finetune")
    campaign.attempt(run, "failed", "disk")
    with campaign.held(run):
        assert campaign.of(run).state == "running"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"step": 5}, (5, None, None, None)),
        ({"step": 5, "samples_per_second": None, "time": None}, (5, None, None, None)),
        ({"step": 5, "samples_per_second": 0, "time": NOW}, (5, 0.0, None, 0.0)),
        ({"step": 5, "samples_per_second": -3.0, "time": -NOW}, (5, None, None, None)),
        ({"step": 5, "samples_per_second": "fast", "time": "noon"}, (5, None, None, None)),
        ({"step": 5, "samples_per_second": True, "time": NOW + 3600}, (5, None, None, 0.0)),
        ({"step": 9000, "samples_per_second": 16, "time": NOW - 1}, (9000, 16.0, 0.0, 1.0)),
    ],
)
def test_odd_lines_of_metrics(campaign, line, expected):
    """Clocks ahead of ours, numbers that were not finite, steps beyond the end."""
    run = campaign.run("finetune")
    log_steps(run, campaign.results, line)
    with campaign.held(run):
        found = campaign.of(run)
    assert (found.step, found.rate, found.eta, found.age) == expected
    assert found.share <= 1


def test_half_written_files_break_nothing(campaign):
    first, second = campaign.run("finetune", seed=0), campaign.run("finetune", seed=1)
    campaign.attempt(first, cut='{"event": "ended", "attempt": 1, "ti')
    campaign.attempt(second, "failed", cut="\x00\xff{")
    run = campaign.run("pretrain")
    folder = run.folder(campaign.results)
    folder.path.mkdir(parents=True)
    folder.metrics.write_bytes(b'{"step": 1, "lo')
    (folder.path / "attempts.jsonl").write_bytes(b"\xff\xfe\n[]\n3\n{}\n")
    found = campaign.status().runs
    assert [found[r.key].state for r in (first, second, run)] == ["failed", "failed", "waiting"]
    assert found[second.key].error == "no message"
    assert status_listing(campaign.status(), 120)


def test_a_file_where_a_folder_should_be(campaign):
    run = campaign.run("finetune")
    path = run.folder(campaign.results).path
    path.parent.mkdir(parents=True)
    path.write_text("?")
    assert campaign.of(run).state == "waiting"


def test_cells_follow_the_runs_that_they_need(campaign):
    moco = campaign.run("pretrain", "moco-v2")
    log_steps(moco, campaign.results, {"step": 4880, "time": NOW, "samples_per_second": 10})
    with campaign.held(moco):
        cells = campaign.cells()
    columns = ("labelled mIoU", "labelled 10% mIoU")
    texts = {row: [cell_text(cells[row, column]) for column in columns] for row, _ in cells}
    assert texts["MoCo v2"] == texts["CP2 QT"] == ["0/2 done, 2 running 20 %"] * 2
    assert texts["CP2 scratch"] == texts["random init"] == ["waiting"] * 2


def test_a_cell_with_several_runs_counts_them(campaign):
    for run in campaign.plan.ancestors(
        [campaign.plan.tables["mini_segmentation"].cells[0].runs[0]]
    ):
        finish(run, campaign.results)
    second = campaign.run("finetune", "random", seed=1)
    log_steps(second, campaign.results, {"step": 3200, "time": NOW})
    with campaign.held(second):
        cell = campaign.cells()["random init", "labelled mIoU"]
    assert cell_text(cell) == "1/2 done, 1 running 40 %"
    assert cell.state == "running"
    campaign.attempt(second, "failed", "x")
    cell = campaign.cells()["random init", "labelled mIoU"]
    assert (cell_text(cell), cell.state) == ("1/2 done, 1 failed", "failed")


def test_a_cell_with_one_run(tmp_path):
    campaign = Campaign(tmp_path, "campaign.seeds.finetune=[0]")
    run = campaign.run("evaluate", "random")
    with campaign.held(run):
        assert cell_text(campaign.cells()["random init", "labelled mIoU"]) == "running evaluate"
    campaign.attempt(run, "failed", "x")
    assert cell_text(campaign.cells()["random init", "labelled mIoU"]) == "failed"
    finish(run, campaign.results)
    assert cell_text(campaign.cells()["random init", "labelled mIoU"]) == "done"


def test_missing_cells_say_why_once(tmp_path):
    change = "tables.mini_segmentation.rows"
    pretrain = "pretrain: {method: moco-v2, epochs: 1, dataset: unlabelled}"
    first, second = ("name: a, missing: not here", f"name: b, {pretrain}")
    rows = f"[{{backbone: resnet18, {first}}}, {{backbone: resnet18, {second}}}]"
    campaign = Campaign(tmp_path, f"{change}={rows}")
    text = status_listing(campaign.status(), 120)
    assert text.count("not here") == 1
    assert "  mini_segmentation: a\n    not here" in text
    assert "4 cells: 0 done, 0 running, 2 waiting, 0 failed, 2 missing" in text


def test_listing_shows_runs_errors_and_totals(campaign):
    run, failed = campaign.run("finetune", seed=0), campaign.run("finetune", seed=1)
    line = {"step": 4000, "time": time.time() - 30, "samples_per_second": 16}
    log_steps(run, campaign.results, line)
    campaign.attempt(failed, "failed", "no \x1b[31mspace\nleft", step=12)
    with campaign.held(run):
        text = status_listing(campaign.status(), 120)
    assert f"  {run.key}\n    step 4000 of 8000 (50 %), 16 samples/s, ETA 1:06:40, logged 3" in text
    assert f"  {failed.key} after step 12\n    no  [31mspace left\n    no log was written" in text
    assert text.splitlines()[-2].endswith(": 0 done, 1 running, 34 waiting, 1 failed")
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [1, 40, 60, 61, 200])
def test_a_matrix_is_never_wider_than_the_terminal(campaign, width):
    """Matrix and list say the same of every cell."""
    lines = status_listing(campaign.status(), width).splitlines()
    table = lines[1 : lines.index("")]
    as_matrix = len(table) == 5
    assert sum(line.count("waiting") for line in table) == 8
    if as_matrix:
        assert max(map(len, table)) <= width
    else:
        assert "  labelled 10% mIoU: waiting" in table
    assert as_matrix == (width >= 44)


def test_colours_change_nothing_else(campaign):
    run = campaign.run("finetune")
    campaign.attempt(run, "failed", "x")
    status = campaign.status()
    coloured = status_listing(status, 120, colours=True)
    assert "\x1b[31m" in coloured
    plain = re.sub(r"\x1b\[\d+m", "", coloured)
    strip = [line.rstrip() for line in plain.splitlines()]
    assert strip == status_listing(status, 120).splitlines()


def test_json_is_plain_and_complete(campaign):
    failed = campaign.run("finetune")
    campaign.attempt(failed, "failed", "x", step=3)
    found = json.loads(json.dumps(status_json(campaign.status()), allow_nan=False))
    assert sum(found["runs"].values()) == len(campaign.plan.runs)
    assert found["tables"]["mini_segmentation"][0]["state"] == "failed"
    (entry,) = found["failed"]
    assert (entry["run"], entry["error"], entry["step"]) == (failed.key, "x", 3)


def test_one_table_alone_with_what_it_needs(plan_of, tmp_path):
    plan = plan_of("demo")
    status = campaign_status(plan, tmp_path, ["cp2_fcn"])
    assert list(status.tables) == ["cp2_fcn"]
    assert set(status.runs) == {run.key for run in plan.ancestors(plan.tables["cp2_fcn"].runs)}
