"""Saves in the background: a step waits for a copy of the state, not for the disk."""

import itertools
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from cp2.errors import UserError, WrongFile
from cp2.record.files import clear_temporaries, disk_is_full, sync_folder, whole_file


class StateWriter:
    """Writes states to a run's `state/`, at most one at a time.

    Args:
        folder: the state folder; what a killed write left in it is removed.
        say: told what went wrong.
    Attributes:
        seconds: how long the last save took.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._write: _Write | None = None
        self._buffers = Buffers()
        self.seconds = 0.0
        clear_temporaries(folder)

    @property
    def busy(self) -> bool:
        """Whether a save is being written."""
        return self._write is not None and self._write.is_alive()

    def save(self, state: dict[str, Any]) -> None:
        """Copy the state and write the copy in the background; waits for the save before it.

        A disk that is full or does not answer is said, not raised: the save before is still there,
        and the next one may succeed.
        """
        try:
            self.wait()
        except UserError as error:
            self._tell(error)
        ready = self._buffers.copy(state)
        self._write = _Write(self._folder, self._buffers.state, ready)
        self._write.start()

    def poll(self) -> None:
        """Tell of a background save that failed, once."""
        if self._write is not None and not self._write.is_alive():
            try:
                self.wait()
            except UserError as error:
                self._tell(error)

    def save_now(self, state: dict[str, Any]) -> None:
        """Write the state and return when it is on the disk: the last save before an end.

        Where it has no room, the older of the two saves is given up for it.

        Raises:
            UserError: it could not be written; says what to free.
        """
        self.save(state)
        try:
            self.wait()
        except UserError as error:
            if not (disk_is_full(error) and make_room(self._folder)):
                raise
            self.save(state)
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            UserError: the save could not be written.
        """
        if self._write is None:
            return
        write, self._write = self._write, None
        write.join()
        self.seconds = write.seconds
        if write.error is None:
            return
        if isinstance(write.error, UserError | OSError) or disk_is_full(write.error):
            raise UserError(self._message(write)) from write.error
        raise write.error

    def _message(self, write: "_Write") -> str:
        size = sum(tensor.nbytes for tensor in _tensors(write.state)) / 1e6
        why = "the disk is full" if disk_is_full(write.error) else str(write.error)
        return (
            f"{self._folder}: the state of step {write.state.get('step')} could not be saved: "
            f"{why}. The save before it was kept. A save needs {size:.0f} MB beside it: free that "
            "much, for example in results/downloads or in runs that you no longer need (`cp2 plan` "
            "lists the needed ones), and start the same command again."
        )

    def _tell(self, error: UserError) -> None:
        self._say(f"WARNING: {error} Training goes on; the next save tries again.")


class _Write(threading.Thread):
    """One save; no daemon, so that the interpreter does not end in the middle of it."""

    def __init__(self, folder: Path, state: dict[str, Any], ready: Callable[[], None]) -> None:
        super().__init__(name="state writer")
        self.state = state
        self.error: Exception | None = None
        self.seconds = 0.0
        self._folder, self._ready = folder, ready

    def run(self) -> None:
        begin = time.monotonic()
        try:
            self._ready()
            save_state(self._folder, self.state)
        except Exception as error:  # handed to the training thread by `wait`
            self.error = error
        self.seconds = time.monotonic() - begin


def wait_for_saves() -> None:
    """Until no save of this process is being written; before a run's lock is let go of."""
    for thread in threading.enumerate():
        if isinstance(thread, _Write):
            thread.join()


class Buffers:
    """A copy of a state in main memory; the memory is used again by the next copy."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def copy(self, state: dict[str, Any]) -> Callable[[], None]:
        """Start copying; returns what waits until the copy is whole.

        From a GPU the copies go to pinned memory in the order of the stream: the next step's
        kernels come after them, and the host waits for nothing.
        """
        self.state = _copied(state, self.state)
        events = []
        for device in {tensor.device for tensor in _tensors(state) if tensor.is_cuda}:
            with torch.cuda.device(device):
                events.append(torch.cuda.Event())
                events[-1].record()

        def ready() -> None:
            for event in events:
                event.synchronize()

        return ready


def _copied(value: Any, old: Any) -> Any:
    """A deep copy whose tensors lie in main memory, in `old`'s where they fit."""
    if isinstance(value, torch.Tensor):
        return _copied_tensor(value.detach(), old)
    if isinstance(value, dict):
        known = old if isinstance(old, dict) else {}
        return {key: _copied(item, known.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = old if isinstance(old, list | tuple) else ()
        pairs = itertools.zip_longest(value, items[: len(value)])
        return type(value)(_copied(*pair) for pair in pairs)
    return value


def _copied_tensor(value: torch.Tensor, old: Any) -> torch.Tensor:
    fits = (
        isinstance(old, torch.Tensor)
        and (old.shape, old.dtype) == (value.shape, value.dtype)
        and old.stride() == value.stride()  # channels-last stays so: a resume is as fast
    )
    copy = old if fits else torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
    return copy.copy_(value, non_blocking=value.is_cuda)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


NAMES = ("new.pt", "last.pt", "previous.pt")  # newest first


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and text; the last save is kept as `previous.pt`.

    A kill or a power cut at any moment leaves at least one whole file.

    Raises:
        UserError: the disk is full.
        FileNotFoundError: the run's folder is gone.
    """
    newest, previous = folder / "last.pt", folder / "previous.pt"
    folder.mkdir(exist_ok=True)  # not its parents: a run whose folder is taken away must not go on
    with whole_file(folder / "new.pt") as temporary, temporary.open("wb") as file:
        torch.save(state, file)  # through a path, torch would hide that the disk is full
    if newest.exists():
        newest.replace(previous)
    (folder / "new.pt").replace(newest)
    sync_folder(folder)


def load_state(
    folder: Path, device: torch.device, check: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any] | None:
    """The newest usable state, or None where there is none.

    A truncated or damaged file falls back to the save before it.

    Args:
        check: raises where a state that was read is not one of this run.
    """
    for path in _saves(folder):
        try:
            _check(path)
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            check(state)
        except Exception as error:  # torch and zipfile raise many kinds for a damaged file
            print(f"{path} is damaged ({type(error).__name__}: {error}); trying the save before it")
            continue
        return state
    return None


def make_room(folder: Path) -> bool:
    """Give up the save before the last one, if the last one is whole; whether that freed space."""
    newest, previous = folder / "last.pt", folder / "previous.pt"
    if not (newest.is_file() and previous.is_file()):
        return False
    try:
        _check(newest)
    except Exception:  # zipfile raises many kinds for a damaged file
        return False
    previous.unlink()
    return True


def _saves(folder: Path) -> Iterator[Path]:
    return (folder / name for name in NAMES if (folder / name).is_file())


def _check(path: Path) -> None:
    """Every record against the checksum that torch.save wrote; torch.load does not look at it."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise WrongFile(f"wrong checksum of {bad}")


def remove_state(folder: Path) -> None:
    """Free the disk once the run is done."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    clear_temporaries(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
