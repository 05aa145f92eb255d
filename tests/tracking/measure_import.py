"""How long plan, status, the import into MLflow and the report take for many runs.

    python tests/tracking/measure_import.py [RUNS [LINES]]

Writes records of RUNS (300) trainings of LINES (1000) lines with 8 numbers each, and the scores of
their evaluations, into a temporary folder; then runs the commands and prints their seconds. So many
seeds of finetuning are planned as RUNS need.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imported import START, Campaign, folders

from cp2.plan.graph import Run
from cp2.record.files import read_json, write_json
from cp2.settings.load import load_campaign

CAMPAIGN = "demo_full"
NUMBERS = ("loss", "loss_instance", "loss_dense", "accuracy_instance", "accuracy_dense", "lr")
SYSTEM = ("samples_per_second", "data_wait")


def main(runs: int, lines: int) -> None:
    """Import from nothing, again with nothing new, and two reports."""
    folder = Path(tempfile.mkdtemp(prefix="cp2-import-"))
    seeds = list(range(max(5, runs // 90)))
    given = [*folders(folder), f"campaign.seeds.finetune={seeds}"]
    try:
        campaign = Campaign(load_campaign(CAMPAIGN, given), "sqlite:///unused.db")
        trained, scored = _write(campaign, runs, lines)
        print(f"{len(trained)} trainings of {lines} lines, {len(scored)} evaluations")
        options = ["--campaign", CAMPAIGN, *(word for text in given for word in ("--set", text))]
        _measure(f"plan of {len(campaign.plan.runs)} runs", ["plan", "--runs", *options])
        _measure("status", ["status", *options])
        _measure("import from nothing", ["track", *options])
        _measure("import, nothing new", ["track", *options])
        _measure("report from nothing", ["report", *options])
        path = scored[-1].folder(campaign.results).scores
        write_json(path, read_json(path) | {"metrics": {"miou": 0.25}})
        _measure("report, one score changed", ["report", *options])
        _measure("import, one score changed", ["track", *options])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(campaign: Campaign, count: int, lines: int) -> tuple[list[Run], list[Run]]:
    """Records of the first trainings in the order of the plan, and of evaluations of them."""
    stages = ("pretrain", "finetune")
    trained = [run for run in campaign.plan.runs.values() if run.stage in stages][:count]
    if len(trained) < count:
        sys.exit(f"{CAMPAIGN} has {len(trained)} trainings only")
    for place, run in enumerate(trained):
        campaign.write(run, range(0))
        with run.folder(campaign.results).metrics.open("w", encoding="utf-8") as file:
            for step in range(1, lines + 1):
                file.write(json.dumps(_line(place, step)) + "\n")
        campaign.attempt(run, 1, "done")
        campaign.finish(run)
    keys = {run.key for run in trained}
    scored = [run for run in campaign.plan.stage("evaluate") if run.needs[-1] in keys]
    scored = scored or [run for run in campaign.plan.stage("evaluate") if keys & set(run.needs)]
    for place, run in enumerate(scored):
        campaign.write(run, range(0))
        campaign.attempt(run, 1, "done")
        campaign.finish(run, 0.3 + place % 50 / 100)
        shutil.rmtree(run.folder(campaign.results).pictures)  # text is no picture
    return trained, scored


def _line(place: int, step: int) -> dict[str, float]:
    """As training writes it: a few hundred bytes."""
    line = {"step": step, "time": round(START + 60 * place + step / 7, 3)}
    values = {name: 1 / (step + n) + place for n, name in enumerate((*NUMBERS, *SYSTEM))}
    return line | values


def _measure(what: str, words: list[str]) -> None:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "cp2", *words], check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    print(f"{what:26} {wall:6.1f} s  (CPU: {user:.1f} s user, {system:.1f} s system)", flush=True)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    main(*arguments, *(300, 1000)[len(arguments) :])
