"""Starts jobs from a process that has imported what they need: start-up is paid once, not by each.

On one machine, importing PyTorch, torchvision and timm takes longer than evaluating a small model.
`python -m cp2.cli.starter SOCKET` imports them, then forks a process for every request that
`workflow/scripts/start` sends, which becomes `cp2 <arguments>` with the requester's folder,
environment and open files. Signals that the requester gets reach the job; its exit code is the
job's. Where no starter answers, the requester runs `python -m cp2` itself.
"""

import contextlib
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

IMPORTED = (  # by the jobs of a campaign
    "cp2.training.pretrain",
    "cp2.training.finetune",
    "cp2.training.masks",
    "cp2.evaluation.evaluate",
)
CHUNK = 65536
DRIVER = 0  # standard input: ends with the process that started this one


class Request(NamedTuple):
    """One job."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]  # descriptors that become its standard input, output and error


def serve(path: Path) -> Request | None:
    """Fork a process for each request until the driver has gone and all jobs have ended.

    Returns:
        In a job's process its request, with nothing of the server left open; else None.
    """
    server = _Server(path)
    with contextlib.closing(server):
        while server.accepts or server.jobs:
            request = server.step()
            if request is not None:
                return request
    return None


class _Server:
    def __init__(self, path: Path) -> None:
        self._path, self._owner = path, os.getpid()
        self.jobs: dict[int, socket.socket] = {}  # by process id
        self.accepts = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ended, self._wake = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector = selectors.DefaultSelector()
        for file in (self._listener, self._ended, DRIVER):
            self._selector.register(file, selectors.EVENT_READ)

    def step(self) -> Request | None:
        """Wait for something to do and do it."""
        for key, _ in self._selector.select():
            if key.fileobj is self._listener:
                request = self._begin()
                if request is not None:
                    return request
            elif key.fileobj == self._ended:
                self._reap()
            elif key.fileobj == DRIVER:
                self._stop_accepting()
            elif key.data in self.jobs:
                self._hand_on(key.data)
        return None

    def _begin(self) -> Request | None:
        connection, _ = self._listener.accept()
        try:
            request = receive(connection)
        except (OSError, ValueError):  # the requester has gone
            connection.close()
            return None
        process = os.fork()
        if process == 0:
            connection.close()
            return request
        for file in request.files:
            os.close(file)
        self.jobs[process] = connection
        self._selector.register(connection, selectors.EVENT_READ, process)
        return None

    def _hand_on(self, process: int) -> None:
        """Signals, a byte each; the end of the connection is the end of the requester."""
        connection = self.jobs[process]
        try:
            numbers = connection.recv(CHUNK)
        except OSError:
            numbers = b""
        if not numbers:
            self._selector.unregister(connection)
        for number in numbers or [signal.SIGKILL]:
            os.kill(process, number)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._ended, CHUNK)
        while self.jobs:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            connection = self.jobs.pop(process)
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                connection.send(b"%d\n" % (code if code >= 0 else 128 - code))  # as shells say it
            connection.close()

    def _stop_accepting(self) -> None:
        if not os.read(DRIVER, CHUNK):
            self.accepts = False
            for file in (self._listener, DRIVER):
                self._selector.unregister(file)
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for connection in self.jobs.values():
            connection.close()
        self._selector.close()
        self._listener.close()
        os.close(self._ended)
        os.close(self._wake)
        if os.getpid() == self._owner:
            self._path.unlink(missing_ok=True)


def receive(connection: socket.socket) -> Request:
    """A request: one line of JSON, and three files.

    Raises:
        OSError, ValueError: it breaks off.
    """
    data, files, _, _ = socket.recv_fds(connection, CHUNK, 3)
    while not data.endswith(b"\n"):
        more = connection.recv(CHUNK)
        if not more:
            for file in files:
                os.close(file)
            raise ValueError("a request broke off")
        data += more
    arguments, environment, folder = json.loads(data)
    return Request(arguments, environment, folder, files)


def become(request: Request) -> None:
    """Make this process what `python -m cp2 <arguments>` would have been, but for its imports."""
    import torch

    os.setsid()
    for target, file in enumerate(request.files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = [str(Path(cp2.__file__).with_name("__main__.py")), *request.arguments]
    random.seed()
    # The libraries read this when they were loaded, with one thread.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    job = serve(Path(sys.argv[1]))
    if job is not None:
        become(job)
        main()
