"""`python -m cp2` and `python -m snakemake` in processes that need not import first.

They are forked from a server that has imported both, and PyTorch, once: that takes longer than most
of what tests ask of them. Otherwise they are processes like others: a folder, an environment,
signals and an exit code of their own. Tests about imports start a Python of their own.
"""

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = [
    "cp2.cli.main",
    "cp2.protocols.registry",
    "cp2.training.pretrain",
    "cp2.protocols.detection.finetuning",
    "snakemake.cli",
]


def server() -> "multiprocessing.context.ForkServerContext":
    """Its processes come from the one server of this test process."""
    multiprocessing.set_forkserver_preload(IMPORTED)
    return multiprocessing.get_context("forkserver")


class Forked:
    """A started `python -m <words>`, in the manner of subprocess.Popen.

    Args:
        merged: standard error goes where standard output goes.
        session: it leads a session of its own, as under a terminal.
    """

    def __init__(
        self,
        *words: str,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        merged: bool = False,
        session: bool = False,
    ) -> None:
        self.args = words
        folder = tempfile.mkdtemp(prefix="cp2-forked-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        out, err = (Path(folder) / name for name in ("out", "err"))
        self._files = (out, out if merged else err)
        for path in self._files:
            path.touch()
        environment = dict(os.environ if env is None else env)
        given = (words, cwd, environment, self._files, session)
        self._process = server().Process(target=_main, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._files[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._files[1].read_text(errors="replace")

    def poll(self) -> int | None:
        """Its exit code, -9 after SIGKILL; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> int:
        """Its exit code.

        Raises:
            TimeoutError: it runs for longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"{' '.join(self.args)}: {self.stdout}{self.stderr}")
        return self._process.exitcode


def run(
    *words: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """`python -m <words>` to its end."""
    process = Forked(*words, cwd=cwd, env=env)
    code = process.wait()
    return subprocess.CompletedProcess(words, code, process.stdout, process.stderr)


def _main(
    words: tuple[str, ...],
    cwd: Path,
    environment: dict[str, str],
    files: tuple[Path, Path],
    session: bool,
) -> None:
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in enumerate(files, 1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.path.insert(0, str(cwd))
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
