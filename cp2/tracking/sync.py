"""What MLflow has of each run, told by tags there: `cp2.*`, which are sent after all else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cp2.record.metrics import START, LogPosition
from cp2.tracking.snapshot import RunSnapshot, is_of_earlier_version
from cp2.tracking.store import Store

TAG_KEY = "cp2.run_id"  # "<stage>/<run id>"; "row/<table>/<row>"
TAG_PARENT = "mlflow.parentRunId"
_STATE = "cp2.state"  # of RunSnapshot
_FOLDER = "cp2.folder"  # that the run was read from
_STEP = "cp2.last_step"  # of the last line that was sent
_FIRST = "cp2.first_time"  # of metrics.jsonl, to notice that a run was made again
_SIZE = "cp2.log_size"  # of metrics.jsonl, when it was read last

NO_LOG = -1  # of rows, and of runs that were not sent as a whole


@dataclass(frozen=True)
class SyncState:
    """A run as MLflow has it.

    Attributes:
        status: MLflow's word.
        state: of the snapshot or row that was sent; "": not all of it was sent.
        log_size: bytes of metrics.jsonl all lines of which were sent that are to be, or `NO_LOG`.
        position: of the last of these lines.
        deleted: it lies in MLflow's bin.
        exact: nothing more than this is there. An import that broke off may have sent more than it
            could tell.
    """

    mlflow_id: str
    status: str = "RUNNING"
    state: str = ""
    folder: str = ""
    parent: str | None = None
    log_size: int = NO_LOG
    position: LogPosition = START
    deleted: bool = False
    exact: bool = True

    @property
    def tags(self) -> dict[str, str]:
        """From which `read_sync_states` reads it again."""
        tags = {_STATE: self.state}
        if self.folder:
            tags |= {_FOLDER: self.folder, _SIZE: str(self.log_size)}
            tags[_STEP] = str(self.position.step)
        if self.position.first is not None:
            tags[_FIRST] = repr(self.position.first)
        if self.parent:
            tags[TAG_PARENT] = self.parent
        return tags

    def tells(self, status: str, state: str, log_size: int) -> bool:
        """Whether a run that looks so has nothing that was not sent."""
        if self.deleted and is_of_earlier_version(self.state):
            return self.status == status
        return (self.status, self.state, self.log_size) == (status, state, log_size)


def read_sync_states(store: Store, with_bin: bool) -> dict[str, list[SyncState]]:
    """By key: the run that is there, if any, then those in the bin."""
    found: dict[str, list[SyncState]] = {}
    for run in store.search(TAG_KEY, with_bin):
        first = run.tags.get(_FIRST)
        step = int(run.tags.get(_STEP, -1))
        state = SyncState(
            run.mlflow_id,
            run.status,
            run.tags.get(_STATE, ""),
            run.tags.get(_FOLDER, ""),
            run.tags.get(TAG_PARENT),
            int(run.tags.get(_SIZE, NO_LOG)),
            LogPosition(float(first) if first else None, step),
            run.deleted,
            exact=False,
        )
        found.setdefault(run.tags[TAG_KEY], []).append(state)
    for states in found.values():
        states.sort(key=lambda state: state.deleted)
    return found


def current_state(
    known: Mapping[str, Sequence[SyncState]], key: str, look: tuple[str, str, int]
) -> SyncState | None:
    """What MLflow has of a run or row that looks so now.

    One that was deleted in the UI counts as long as there is nothing new to send of it.
    """
    states = known.get(key, [])
    if states and not states[0].deleted:
        return states[0]
    return next((state for state in states if state.tells(*look)), None)


def sync_state(
    mlflow_id: str, snapshot: RunSnapshot, parent: str | None, position: LogPosition
) -> SyncState:
    """A run all of whose snapshot was sent."""
    folder = str(snapshot.folder.path.resolve())
    return SyncState(
        mlflow_id, snapshot.status, snapshot.state, folder, parent, snapshot.log_size, position
    )
