"""Which of several training processes is missing where they stand still."""

import sys
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Self

from torch import distributed

from cp2.errors import PassingError
from cp2.training.meeting import GIVEN_UP_SECONDS, NAMED_SECONDS

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0  # six beats: the interpreter may be busy


class StallWatch:
    """A thread that names the process that hangs, once this one has made no step for a minute.

    While it makes none, each process counts up in the store; one that was stopped, or whose node or
    network is lost, does not. Its exchanges would time out only after half an hour.

    Args:
        rank: this process' number.
        hosts: of all processes, by number.
        store: where all have met; process 0 holds it.
        steps: how far this process has come.
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
        self._rank, self._hosts, self._store, self._steps = rank, hosts, store, steps
        self._give_up = give_up
        self._others = [other for other in range(len(hosts)) if other != rank]
        self._beats, self._step, self._since, self._told = 0, -1, 0.0, False
        self._seen: dict[int, str] = {}  # the last beat of each
        self._heard: dict[int, float] = {}  # when it came, in this stall
        self._asking: Thread | None = None
        self._answered = 0.0
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

    def _watch(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """One look, every few seconds.

        Args:
            now: seconds of a clock that nobody sets.
        """
        if (step := self._steps()) != self._step:
            self._step, self._since, self._answered, self._told = step, now, now, False
            self._heard = dict.fromkeys(self._others, now)
            return
        self._ask(now)
        stood = now - self._since
        silent = self._silent(now)
        if stood > GIVEN_UP_SECONDS and silent:
            self._give_up(PassingError(f"no step for {stood:.0f} s: {self._lost(silent)}"))
        speaker = min({self._rank, *self._others} - set(silent))
        if stood > NAMED_SECONDS and not self._told and speaker == self._rank:
            self._told = True
            why = self._lost(silent) if silent else self._slow()
            print(f"no step for {stood:.0f} s: {why}", file=sys.stderr, flush=True)

    def _ask(self, now: float) -> None:
        """Beat, and read the others' beats; a store that does not answer is not waited for."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = Thread(target=self._exchange, args=(now,), daemon=True)
            self._asking.start()
        self._asking.join(BEAT_SECONDS)

    def _exchange(self, now: float) -> None:
        self._beats += 1
        try:
            self._store.set(_key(self._rank), f"{self._beats} {self._step}")
            for other in self._others:
                if not self._store.check([_key(other)]):
                    continue
                beat = self._store.get(_key(other)).decode()
                if beat != self._seen.get(other):
                    self._seen[other], self._heard[other] = beat, now
        except RuntimeError:  # the store's process is gone
            return
        self._answered = now

    def _silent(self, now: float) -> list[int]:
        if self._rank and now - self._answered > SILENT_SECONDS:
            return [0]  # and nothing is known of the others
        return [other for other in self._others if now - self._heard[other] > SILENT_SECONDS]

    def _lost(self, silent: Sequence[int]) -> str:
        several = len(silent) > 1
        return (
            f"{self._names(silent)} give{'' if several else 's'} no sign of life: stopped, or "
            f"{'their nodes' if several else 'its node'} or the network lost; start again to go on "
            "from the last save"
        )

    def _slow(self) -> str:
        steps = {other: int(beat.split()[1]) for other, beat in self._seen.items()}
        steps[self._rank] = self._step
        behind = [rank for rank, step in sorted(steps.items()) if step < max(steps.values())]
        if behind:
            who = f"{self._names(behind)} behind the others"
            return f"{who}: slow (files, a save, validation), or hanging"
        return (
            f"all {len(self._hosts)} processes are at the same one: it is slow, or they cannot "
            "exchange anything. Is NCCL_SOCKET_IFNAME (gloo: GLOO_SOCKET_IFNAME) an interface that "
            "joins the nodes? NCCL_DEBUG=INFO says more"
        )

    def _names(self, ranks: Sequence[int]) -> str:
        found = ", ".join(f"{rank} on {self._hosts[rank]}" for rank in ranks)
        return f"process{'es' * (len(ranks) > 1)} {found}"


def _key(rank: int) -> str:
    return f"beat-{rank}"
