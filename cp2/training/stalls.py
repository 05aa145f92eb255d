"""Which of several training processes is missing where they stand still."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

from torch import distributed

from cp2.errors import PassingError
from cp2.training.clock import StoppedForResumeError
from cp2.training.meeting import GIVEN_UP_SECONDS, NAMED_SECONDS

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0  # six beats: the interpreter may be busy
LEFT = "left"  # in place of a beat: this process is done, or has stopped with the others


class Stall:
    """What a process knows of the others since its last step.

    Args:
        rank: this process' number.
        hosts: of all processes, by number.
        steps: that this process has made.
        now: seconds of a clock that nobody sets.
    """

    def __init__(self, rank: int, hosts: Sequence[str], steps: int, now: float) -> None:
        self._rank, self._hosts, self.steps, self.since = rank, hosts, steps, now
        self._answered = now
        self._heard = {other: now for other in range(len(hosts)) if other != rank}
        self._beats: dict[int, str] = {}

    def hear(self, beats: Mapping[int, str], now: float) -> None:
        """The others' last beats, "count steps"; those that never came are left out."""
        for other, beat in beats.items():
            if beat != self._beats.get(other):
                self._beats[other], self._heard[other] = beat, now
        self._answered = now

    def waited_for(self) -> list[int]:
        """Those that have not left."""
        return [other for other in self._heard if self._beats.get(other) != LEFT]

    def silent(self, now: float) -> list[int]:
        """Those that were stopped, or whose node or network is lost."""
        waited = self.waited_for()
        if 0 in waited and now - self._answered > SILENT_SECONDS:
            # It holds the store: of processes beyond its node nothing is known.
            host = self._hosts[0]
            there = [other for other in waited if self._hosts[other] == host]
            return [0] if self._hosts[self._rank] == host else there
        return [other for other in waited if now - self._heard[other] > SILENT_SECONDS]

    def speaker(self, silent: Sequence[int]) -> int:
        """The first process that can tell."""
        return min({self._rank, *self.waited_for()} - set(silent))

    def reason(self, silent: Sequence[int]) -> str:
        """As far as it can be known."""
        if silent:
            several = len(silent) > 1
            return (
                f"{self._names(silent)} give{'' if several else 's'} no sign of life: stopped, or "
                f"{'their nodes' if several else 'its node'} or the network lost; start again to "
                "go on from the last save"
            )
        steps = {other: int(self._beats[other].split()[1]) for other in self.waited_for()}
        steps[self._rank] = self.steps
        most = max(steps.values())
        behind = [rank for rank, made in sorted(steps.items()) if made < most]
        if behind:
            who = f"{self._names(behind)} behind the others"
            return f"{who}: slow (files, a save, validation), or hanging"
        hint = "NCCL_DEBUG=INFO says more"
        if not self.steps:  # none since they met
            hint = (
                "is NCCL_SOCKET_IFNAME (gloo: GLOO_SOCKET_IFNAME) an interface that joins the "
                f"nodes? {hint}"
            )
        return (
            f"all {len(steps)} processes are at the same one: it is slow, or they cannot exchange "
            f"anything ({hint})"
        )

    def _names(self, ranks: Sequence[int]) -> str:
        found = ", ".join(f"{rank} on {self._hosts[rank]}" for rank in ranks)
        return f"process{'es' * (len(ranks) > 1)} {found}"


class StallWatch:
    """A thread that names the process that hangs, once this one has made no step for a minute.

    While it makes none, each process counts up in the store; one that was stopped, or whose node or
    network is lost, does not. Its exchanges would time out only after half an hour.

    Args:
        rank, hosts: see `Stall`.
        store: where all have met; the watch has a connection of its own, because a process that
            waits for a key holds this one.
        steps: counts this process' steps.
        give_up: called with an error, from the thread, where a process is silent for 15 minutes.
    """

    def __init__(
        self,
        rank: int,
        hosts: Sequence[str],
        store: distributed.Store,
        steps: Callable[[], int],
        give_up: Callable[[PassingError], None],
    ) -> None:
        self._rank, self._hosts, self._store = rank, hosts, store.clone()
        self._steps, self._first, self._give_up = steps, steps(), give_up
        self._stall: Stall | None = None
        self._told: list[int] | None = None  # the silent ones that were named in this stall
        self._beats, self._looked = 0, 0.0
        self._asking: Thread | None = None
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(2 * BEAT_SECONDS)  # a thread amid a call must not meet the process' end
        if kind is None or issubclass(kind, StoppedForResumeError):
            self._in_time(lambda: self._store.set(_key(self._rank), LEFT))

    def _watch(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """One look, every few seconds; `now` is in seconds of a clock that nobody sets."""
        steps = self._steps() - self._first
        slept = now - self._looked > SILENT_SECONDS  # a suspended job: the others did so, too
        self._looked = now
        if self._stall is None or self._stall.steps != steps or slept:
            self._stall, self._told = Stall(self._rank, self._hosts, steps, now), None
            return
        stall = self._stall
        self._in_time(lambda: self._exchange(stall, now))
        stood, silent = now - stall.since, stall.silent(now)
        if stood <= NAMED_SECONDS or not stall.waited_for():
            return
        text = f"no step for {stood:.0f} s: {stall.reason(silent)}"
        if silent and stood > GIVEN_UP_SECONDS:
            self._give_up(PassingError(text))
        if self._told != silent and stall.speaker(silent) == self._rank:
            self._told = silent
            print(text, file=sys.stderr, flush=True)

    def _in_time(self, talk: Callable[[], None]) -> None:
        """Talk to the store, which may not answer; no longer than a beat."""

        def work() -> None:
            try:
                talk()
            except RuntimeError:  # the store's process is gone
                return

        if self._asking is None or not self._asking.is_alive():
            self._asking = Thread(target=work, daemon=True)
            self._asking.start()
        self._asking.join(BEAT_SECONDS)

    def _exchange(self, stall: Stall, now: float) -> None:
        self._beats += 1
        self._store.set(_key(self._rank), f"{self._beats} {stall.steps}")
        others = [other for other in range(len(self._hosts)) if other != self._rank]
        there = [other for other in others if self._store.check([_key(other)])]
        stall.hear({other: self._store.get(_key(other)).decode() for other in there}, now)


def _key(rank: int) -> str:
    return f"beat-{rank}"
