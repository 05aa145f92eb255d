"""Stop by clock: a run knows when it must end, saves in time and leaves with its own exit code."""

import signal
import time
from types import FrameType

from cp2.training.scheduler import time_left

RESUME_EXIT_CODE = 85  # "saved, please start me again"; the profiles' retries do that
MARGIN_SECONDS = 180.0  # kept free before the scheduler's end for the last save
SHARE = 0.25  # of the time left that the margin takes at most: a short job is to train, too
SAVES = 3.0  # margin in durations of the last save: the disk may be slower next time


class StoppedForResumeError(Exception):
    """The run saved its state and stopped before it was done; starting it again goes on.

    Attributes:
        step: steps done.
        signalled: whether a signal asked for it, as far as the raiser knows.
    """

    def __init__(self, message: str, step: int | None = None, signalled: bool = False) -> None:
        super().__init__(message)
        self.step, self.signalled = step, signalled


class Deadline:
    """Tells the loops when to stop.

    The end is the scheduler's (SLURM_JOB_END_TIME, else squeue) less a margin for the last step and
    save, or `max_minutes` from now, whichever comes first. It is counted on a clock that nobody
    sets. SIGTERM (scontrol requeue, preemption) and SIGINT (Ctrl-C) stop at the next step; a second
    SIGINT interrupts at once.

    Attributes:
        note: what the user should know about the end, if anything.
        signalled: whether a signal came.
        steps: how often `reason` was asked: once a step, and while processes meet.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        now = time.monotonic()
        self._asked = None if max_minutes is None else now + 60 * max_minutes
        left = time_left()
        self.note = left.note
        self._left = left.seconds
        self._scheduled = None if left.seconds is None else now + left.seconds
        self._signal: signal.Signals | None = None
        self._save_seconds = 0.0
        self._step_seconds = 0.0
        self._last_call: float | None = None
        self.steps = 0

    @property
    def margin(self) -> float:
        """Seconds before the scheduler's end at which to stop."""
        if self._left is None:
            return 0.0
        usual = min(MARGIN_SECONDS, SHARE * self._left)
        needed = SAVES * self._save_seconds + self._step_seconds
        return max(usual, min(needed, self._left / 2))

    def save_took(self, seconds: float) -> None:
        """Keep time for another save as slow as the last one."""
        self._save_seconds = seconds

    @property
    def signalled(self) -> bool:
        return self._signal is not None

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as requests to save and stop.

        Data loading processes that are forked later inherit that, so that a terminal's Ctrl-C,
        which reaches them too, does not end them.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def reason(self) -> str | None:
        """Why to stop now, or None; asked once a step."""
        now = time.monotonic()
        if self._last_call is not None:
            self._step_seconds = now - self._last_call
        self._last_call = now
        self.steps += 1
        if self._signal is not None:
            return f"{self._signal.name} was received"
        if self._asked is not None and now >= self._asked:
            return "the time given by --max-minutes is up"
        if self._scheduled is not None and now >= self._scheduled - self.margin:
            return f"the scheduler ends the job in {self._scheduled - now:.0f} s"
        return None
