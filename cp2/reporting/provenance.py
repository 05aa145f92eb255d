"""Where each number comes from: runs, seeds, commits, machines, durations, commands."""

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.record.folder import RunFolder
from cp2.record.readers import read_object
from cp2.redaction import plain_urls, without_secrets
from cp2.settings.load import Configuration
from cp2.stages import TRACKED

LOG_LINES = 8
LOG_BYTES = 4000  # read from the end of a log


@dataclass(frozen=True)
class RunRecord:
    """What one run wrote about itself; None where it has not said so (yet).

    `commit` ends in "+" where the working tree had changes that were not committed; `log` are the
    last lines of what the run wrote down; `problem` says what of its record could not be read.
    """

    key: str
    seed: int | None
    done: bool
    commit: str | None
    machine: str | None
    seconds: float | None
    attempts: int | None
    log: str = ""
    problem: str | None = None

    @property
    def stage(self) -> str:
        return self.key.partition("/")[0]

    @property
    def id(self) -> str:
        return self.key.partition("/")[2]

    @property
    def duration(self) -> str:
        """ "42 s", "3 min 20 s" or "5 h 10 min"; empty where it is not known."""
        if self.seconds is None:
            return ""
        seconds = round(self.seconds)
        minutes, rest = divmod(seconds, 60)
        hours, minutes_rest = divmod(minutes, 60)
        if hours:
            return f"{hours} h {minutes_rest} min"
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def read_records(configuration: Configuration, plan: Plan) -> dict[str, RunRecord]:
    """Records of all pretrain, finetune and evaluate runs by run key."""
    return {
        run.key: _read_record(run, configuration.results)
        for run in plan.runs.values()
        if run.stage in TRACKED
    }


def chain(plan: Plan, keys: tuple[str, ...]) -> list[str]:
    """Keys of these runs and of all trained runs that they start from, first needs first."""
    return [run.key for run in plan.ancestors(list(keys)) if run.stage in TRACKED]


def remake_command(configuration: Configuration, runs: list[Run]) -> str:
    """The shell line that makes these runs and all they need.

    Targets stand before --config, which takes every word after it for a setting.
    """
    targets = [str(run.outputs(configuration.results)["done"]) for run in runs]
    words = ["snakemake", "--cores", "all", *targets]
    words += ["--config", f"campaign={configuration.source}"]
    if configuration.assignments:
        given = without_secrets(configuration.assignments)
        words.append("set=" + (given[0] if len(given) == 1 else json.dumps(given)))
    return shlex.join(words)


def _read_record(run: Run, results: Path) -> RunRecord:
    folder = run.folder(results)
    done = run.is_done(results)
    problems = [_read(folder.recipe)[1]]
    environment, problem = _read(folder.environment)
    problems.append(problem)
    summary, problem = _read(folder.done) if done else ({}, None)
    problems.append(problem)
    commit = environment.get("git_commit")
    if commit:
        commit = str(commit)[:10] + ("+" if environment.get("git_dirty") else "")
    machine = " · ".join(str(environment[k]) for k in ("host", "device") if environment.get(k))
    seconds, attempt = summary.get("seconds"), environment.get("attempt")
    return RunRecord(
        key=run.key,
        seed=run.seed,
        done=done,
        commit=commit,
        machine=machine or None,
        seconds=seconds if isinstance(seconds, (int, float)) else None,
        attempts=attempt if isinstance(attempt, int) else None,
        log=_log(folder),
        problem="\n".join(filter(None, problems)) or None,
    )


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    """A record that explains a number but is none: what is wrong with it is shown, not raised."""
    if not path.is_file():
        return {}, None
    try:
        return read_object(path), None
    except WrongFile as error:
        return {}, str(error)


def _log(folder: RunFolder) -> str:
    """The last whole lines of a log, read from its end."""
    path = next((p for p in (folder.log, folder.path / "job.log") if p.is_file()), None)
    if path is None:
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    shown = lines[1 if size > LOG_BYTES else 0 :][-LOG_LINES:]
    return "\n".join(map(plain_urls, shown))
