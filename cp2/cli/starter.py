"""Starts jobs from a process that has imported what they need: start-up is paid once, not by each.

On one machine, importing PyTorch, torchvision and timm takes longer than evaluating a small model.
`python -m cp2.cli.starter SOCKET` imports them, then forks a process for every request that
`workflow/scripts/start` sends, which becomes `cp2 <arguments>` with the requester's folder,
environment and open files. Signals that the requester gets reach the job; its exit code is the
job's. Where no starter answers, the requester runs `python -m cp2` itself.
"""

import contextlib
import ctypes
import json
import os
import random
import selectors
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import cp2
from cp2.cli.main import main
from cp2.record.environment import code_state

IMPORTED = (  # by a campaign's jobs
    "cp2.data.world",
    "cp2.data.preparers",
    "cp2.models.checkpoint_stage",
    "cp2.training.cache",
    "cp2.training.masks",
    "cp2.training.pretrain",
    "cp2.training.finetune",
    "cp2.evaluation.evaluate",
    "cp2.reporting.report",
)
CHUNK = 65536
DRIVER = 0  # standard input: ends with the process that started this one
PATIENCE = 5.0  # seconds for a request to arrive once it is announced
# Not for the starter, which ends with its driver; a job takes them once it has become itself.
HELD_BACK = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
BY_ITSELF = b"itself\n"  # answer where no job can be started: the requester is to do without
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Request(NamedTuple):
    """One job."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]  # descriptors that become its standard input, output and error


class Starter:
    """Forks a process for each request; single-threaded, as what forks must be.

    Args:
        path: of the socket, which exists while requests are taken.
    Raises:
        OSError: the file system has no sockets.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: dict[int, socket.socket] = {}  # by process id
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ended, self._wake = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        self._selector = selectors.DefaultSelector()
        for file in (self._listener, self._ended, DRIVER):
            self._selector.register(file, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Start jobs until the driver has gone and all of them have ended.

        Returns:
            In a job's process its request, with nothing of the starter left; else None.
        """
        accepts = True
        while accepts or self._jobs:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    request = self._begin()
                    if request is not None:
                        return request
                elif key.fileobj == self._ended:
                    self._reap()
                elif key.fileobj == DRIVER:
                    accepts = bool(os.read(DRIVER, CHUNK))
                    if not accepts:
                        self._stop_listening()
                elif key.data in self._jobs:
                    self._hand_on(key.data)
        self._leave()
        return None

    def _begin(self) -> Request | None:
        connection, _ = self._listener.accept()
        try:
            request = receive(connection)
        except (OSError, ValueError):  # the requester has gone, or does not go on
            connection.close()
            return None
        try:
            process = os.fork()
        except OSError:  # no memory or no more processes; the other jobs go on
            process = -1
        if process == 0:
            connection.close()
            self._leave()
            return request
        for file in request.files:
            os.close(file)
        if process < 0:
            _answer(connection, BY_ITSELF)
            return None
        self._jobs[process] = connection
        self._selector.register(connection, selectors.EVENT_READ, process)
        return None

    def _hand_on(self, process: int) -> None:
        """Signals, a byte each; the end of the connection is the end of the requester."""
        connection = self._jobs[process]
        try:
            numbers = connection.recv(CHUNK)
        except OSError:
            numbers = b""
        for number in numbers:
            os.kill(process, number)
        if not numbers:
            self._selector.unregister(connection)
            try:
                os.killpg(process, signal.SIGKILL)  # with its workers
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(process, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._ended, CHUNK)
        while self._jobs:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            connection = self._jobs.pop(process)
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)
            code = os.waitstatus_to_exitcode(status)
            _answer(connection, b"%d\n" % (code if code >= 0 else 128 - code))  # as shells say it

    def _stop_listening(self) -> None:
        for file in (self._listener, DRIVER):
            self._selector.unregister(file)
        self._path.unlink(missing_ok=True)

    def _leave(self) -> None:
        """Close everything."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for connection in self._jobs.values():
            connection.close()
        self._selector.close()
        self._listener.close()
        os.close(self._ended)
        os.close(self._wake)


def _answer(connection: socket.socket, text: bytes) -> None:
    with contextlib.suppress(OSError):  # the requester has gone
        connection.send(text)
    connection.close()


def receive(connection: socket.socket) -> Request:
    """A request: its length in eight bytes, that much JSON, and three files with the first byte.

    What follows (signals) is left in the connection.

    Raises:
        OSError, ValueError: it breaks off, or does not go on for PATIENCE.
    """
    connection.settimeout(PATIENCE)
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(connection, 8, 3)
        left = 8 - len(head)
        head += _exactly(connection, left)
        content = _exactly(connection, int.from_bytes(head, "big"))
        arguments, environment, folder = json.loads(content)
    except BaseException:
        for file in files:
            os.close(file)
        raise
    connection.settimeout(None)
    return Request(arguments, environment, folder, files)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(min(CHUNK, count - len(data)))
        if not more:
            raise ValueError("a request broke off")
        data += more
    return data


def become(request: Request) -> None:
    """Make this process what `python -m cp2 <arguments>` would have been, but for its imports."""
    import torch

    os.setsid()
    with contextlib.suppress(AttributeError, OSError):  # Linux only: no orphans of a killed starter
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for target, file in enumerate(request.files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = [str(Path(cp2.__file__).with_name("__main__.py")), *request.arguments]
    random.seed()
    # PyTorch read this when it was loaded, with one thread; numpy's routines stay at one.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdigit() else len(os.sched_getaffinity(0)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    code_state()  # of the code that jobs will run, whatever is checked out by then
    try:
        starter = Starter(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"jobs start without a starter: {sys.argv[1]}: {error}")
    job = starter.serve()
    if job is not None:
        become(job)
        main()
