"""A run as its folder shows it now."""

from dataclasses import dataclass

from cp2.plan.graph import Run
from cp2.plan.places import Places
from cp2.plan.progress.status import State, run_status
from cp2.record.attempts import AttemptRecord, read_attempts
from cp2.record.folder import RunFolder
from cp2.tracking.ledger import state_of

_FILES = ("recipe.json", "environment.json", "attempts.jsonl", "done.json", "scores.json")


@dataclass(frozen=True)
class Sight:
    """A run's files at one moment; `state` changes with all that is sent beside the steps."""

    run: Run
    folder: RunFolder
    parent: str | None
    status: str
    attempts: list[AttemptRecord]
    state: str

    @property
    def place(self) -> str:
        """The folder that the run is read from."""
        return str(self.folder.path.resolve())


def look(run: Run, folder: RunFolder, places: Places, told: list[str | None], now: float) -> Sight:
    """Look at a run's files; `told`: MLflow's ids of its parent and of what else depends on it."""
    found = run_status(run, places.plan, folder.path.parents[1], now)
    attempts = read_attempts(folder.path)
    status = _word(found.state, attempts)
    names = [[row.table, row.name] for row in places.rows[run.key]]
    state = state_of(folder.path, _FILES, [status, names, told])
    return Sight(run, folder, told[0], status, attempts, state)


def _word(state: State, attempts: list[AttemptRecord]) -> str:
    """MLflow's word; a run saved by the clock waits for its next attempt."""
    match state:
        case "done":
            return "FINISHED"
        case "running":
            return "RUNNING"
        case "failed":
            return "FAILED" if attempts and attempts[-1].outcome == "failed" else "KILLED"
        case "waiting":
            return "SCHEDULED"
