"""Jobs that a starter forks are what `python -m cp2` would have been."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cp2.cluster.ready import start_command

ROOT = Path(__file__).parents[2]
PLAN = ["plan", "--campaign", "demo"]
WATCH = ["status", "--campaign", "demo", "--watch"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    path = Path(os.path.relpath(tmp_path / "starter"))
    process = subprocess.Popen(
        [sys.executable, "-m", "cp2.cli.starter", str(path)],
        stdin=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    wait_for(path.exists)
    yield path, process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(60)
    assert not path.exists()


def start(path: Path, *arguments: str, **options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # type: ignore[call-overload]
        [*start_command(ROOT, path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in text.split()]


def test_output_and_exit_code_are_the_commands(
    starter: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = starter
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    assert len(list(threads)) == 1, "a process with several threads cannot be forked safely"
    direct = subprocess.run(
        [sys.executable, "-m", "cp2", *PLAN], capture_output=True, text=True, check=True
    )
    jobs = [start(path, *PLAN) for _ in range(3)]
    for job in jobs:
        output, errors = job.communicate()
        assert (output, errors, job.returncode) == (direct.stdout, direct.stderr, 0)
    wrong = start(path, "plan", "--campaign", "nowhere")
    assert "nowhere" in wrong.communicate()[1]
    assert wrong.returncode == 2


def test_without_a_starter_the_command_runs_itself(tmp_path: Path) -> None:
    job = start(tmp_path / "none", *PLAN)
    assert "pretrain" in job.communicate()[0]
    assert job.returncode == 0


def test_folder_and_environment_are_the_requesters(
    starter: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    path = starter[0].absolute()
    job = start(path, *PLAN, cwd=tmp_path)
    output, errors = job.communicate()
    assert job.returncode == 2, output
    assert "configs" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_job(
    starter: tuple[Path, subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    path, process = starter
    job = start(path, *WATCH)
    assert job.stdout is not None
    assert job.stdout.readline()
    job.send_signal(number)
    direct = subprocess.Popen([sys.executable, "-m", "cp2", *WATCH], stdout=subprocess.PIPE)
    assert direct.stdout is not None
    assert direct.stdout.readline()
    direct.send_signal(number)
    direct.communicate()
    job.communicate()
    code = direct.returncode if direct.returncode >= 0 else 128 - direct.returncode
    assert job.returncode == code
    assert not children(process.pid)


def test_a_job_ends_with_its_requester(starter: tuple[Path, subprocess.Popen[bytes]]) -> None:
    path, process = starter
    job = start(path, *WATCH)
    assert job.stdout is not None
    assert job.stdout.readline()
    (child,) = children(process.pid)
    job.kill()
    job.communicate()
    wait_for(lambda: child not in children(process.pid))


def test_a_killed_job_is_told_as_a_shell_would(
    starter: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = starter
    job = start(path, *WATCH)
    assert job.stdout is not None
    assert job.stdout.readline()
    (child,) = children(process.pid)
    os.kill(child, signal.SIGKILL)
    job.communicate()
    assert job.returncode == 128 + signal.SIGKILL


def test_jobs_end_before_a_starter_whose_driver_has_gone(tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path / "starter"))
    process = subprocess.Popen(
        [sys.executable, "-m", "cp2.cli.starter", str(path)],
        stdin=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    wait_for(path.exists)
    job = start(path, *WATCH)
    assert job.stdout is not None
    assert job.stdout.readline()
    assert process.stdin is not None
    process.stdin.close()
    wait_for(lambda: not path.exists())
    assert process.poll() is None
    job.terminate()
    job.communicate()
    assert process.wait(60) == 0


def test_half_a_request_is_no_job(starter: tuple[Path, subprocess.Popen[bytes]]) -> None:
    path, process = starter
    for part in (b"", b'[["plan"], {'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            if part:
                socket.send_fds(connection, [part], [0, 1, 2])
    job = start(path, *PLAN)
    job.communicate()
    assert job.returncode == 0
    assert process.poll() is None


def test_a_job_has_its_own_files_folder_threads_and_arguments(tmp_path: Path) -> None:
    script = """
import os, sys, torch
from cp2.cli.starter import Request, become
written = [os.open(name, os.O_CREAT | os.O_WRONLY) for name in ("out", "err")]
files = [os.open("/dev/null", os.O_RDONLY), *written]
os.mkdir("folder")
become(Request(["finetune", "x"], {"OMP_NUM_THREADS": "3", "ONLY": "this"}, "folder", files))
print(os.getcwd(), torch.get_num_threads(), sys.argv[1:], dict(os.environ))
print(os.getsid(0) == os.getpid())
print(os.path.basename(sys.argv[0]), file=sys.stderr)
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == (
        f"{tmp_path / 'folder'} 3 ['finetune', 'x'] "
        "{'OMP_NUM_THREADS': '3', 'ONLY': 'this'}\nTrue\n"
    )
    assert (tmp_path / "err").read_text() == "__main__.py\n"
