"""What MLflow has of each run, told by tags there: `cp2.*`, which are sent after all else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isclose, nan

from cp2.record.tail import START, LogPosition
from cp2.tracking.content import Point
from cp2.tracking.snapshot import NO_LOG, Version, is_of_earlier_form
from cp2.tracking.store import Store, StoredRun

TAG_KEY = "cp2.run_id"  # "<stage>/<run id>"; "row/<table>/<row>"
TAG_PARENT = "mlflow.parentRunId"
_STATE = "cp2.state"  # of RunSnapshot
_FOLDER = "cp2.folder"  # that the run was read from
_STEP = "cp2.last_step"  # of the last line that was sent
_FIRST = "cp2.first_time"  # of metrics.jsonl, to notice that a run was made again
_SIZE = "cp2.log_size"  # of metrics.jsonl, when it was read last


_NEW = Version("RUNNING", "", NO_LOG)  # MLflow's status of a new run


@dataclass(frozen=True)
class SyncState:
    """A run or row as MLflow has it.

    Attributes:
        version: of what was sent; its state is "" until all was.
        folder: that the run was read from.
        parent: MLflow's id of its row.
        position: of the last line of metrics.jsonl that was sent.
        values: the latest of each metric.
        deleted: it lies in MLflow's bin.
        exact: nothing more than this is there. An import that broke off may have sent more than it
            could tell.
    """

    mlflow_id: str
    version: Version = _NEW
    folder: str = ""
    parent: str | None = None
    position: LogPosition = START
    values: Mapping[str, float] = field(default_factory=dict)
    deleted: bool = False
    exact: bool = True

    @property
    def tags(self) -> dict[str, str]:
        """From which `read_sync_states` reads it again."""
        tags = {_STATE: self.version.state}
        if self.folder:
            tags |= {_FOLDER: self.folder, _SIZE: str(self.version.log_size)}
            tags[_STEP] = str(self.position.step)
        if self.position.first is not None:
            tags[_FIRST] = repr(self.position.first)
        if self.parent:
            tags[TAG_PARENT] = self.parent
        return tags

    def changed(self, points: Iterable[Point]) -> list[Point]:
        """Those of costs and scores that have another value there, or none.

        Sums and deviations that an earlier version computed may differ in the last digits.
        """
        there = self.values
        return [p for p in points if not isclose(p.value, there.get(p.name, nan), rel_tol=1e-9)]

    def values_after(self, points: Iterable[Point]) -> Mapping[str, float]:
        """`values` once these points are sent."""
        return {**self.values, **{point.name: point.value for point in points}}

    def matches(self, version: Version, parent: str | None) -> bool:
        """Whether there is nothing new to send of a run or row; one in the bin has no parent."""
        if self.deleted and is_of_earlier_form(self.version.state):
            return self.version.status == version.status
        return self.version == version and (self.deleted or self.parent == parent)


class SyncStates:
    """What MLflow has of each run and row, by key.

    Attributes:
        current: what is there, or was deleted in the UI and has nothing new.
    """

    def __init__(self, states: Iterable[tuple[str, SyncState]] = ()) -> None:
        self.current: dict[str, SyncState] = {}
        self._bin: dict[str, list[SyncState]] = {}
        for key, state in states:
            if state.deleted:
                self._bin.setdefault(key, []).append(state)
            else:
                self.current[key] = state

    def get(self, key: str, version: Version) -> SyncState | None:
        """What MLflow has of a run or row that is at this version now."""
        found = self.current.get(key)
        if found is None or found.deleted:
            binned = self._bin.get(key, ())
            found = next((state for state in binned if state.matches(version, None)), None)
            if found is None:
                self.current.pop(key, None)
            else:
                self.current[key] = found
        return found


def read_sync_states(store: Store, with_bin: bool) -> SyncStates:
    """What the tags in a store tell.

    Args:
        with_bin: also of what was deleted there.
    """
    return SyncStates(
        (run.tags[TAG_KEY], _from_tags(run)) for run in store.search(TAG_KEY, with_bin)
    )


def _from_tags(run: StoredRun) -> SyncState:
    first = run.tags.get(_FIRST)
    return SyncState(
        run.mlflow_id,
        Version(run.status, run.tags.get(_STATE, ""), int(run.tags.get(_SIZE, NO_LOG))),
        run.tags.get(_FOLDER, ""),
        run.tags.get(TAG_PARENT),
        LogPosition(float(first) if first else None, int(run.tags.get(_STEP, -1))),
        run.values,
        run.deleted,
        exact=False,
    )
