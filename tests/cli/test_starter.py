"""Jobs that a starter forks are what `python -m cp2` would have been."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cp2.cli.starter import BY_ITSELF, receive
from cp2.cluster.ready import LEAST_JOBS, get_ready, start_command

ROOT = Path(__file__).parents[2]
PLAN = ["plan", "--campaign", "demo"]
WATCH = ["status", "--campaign", "demo", "--watch"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@contextmanager
def starting(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    path = Path(os.path.relpath(folder / "starter"))
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


@pytest.fixture(scope="module")
def starter(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    with starting(tmp_path_factory.mktemp("starter")) as (path, process):
        yield path, process
    assert not path.exists()


def start(path: Path, *arguments: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*start_command(ROOT, path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
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
    with starting(tmp_path) as (path, process):
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


def test_half_a_request_is_no_job_and_leaves_nothing_open(
    starter: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = starter
    files = Path(f"/proc/{process.pid}/fd")
    before = len(list(files.iterdir()))
    for part in (b"", b"\0\0", (9).to_bytes(8, "big") + b"[[]", (2).to_bytes(8, "big") + b"[]"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            if part:
                socket.send_fds(connection, [part], [0, 1, 2])
    job = start(path, *PLAN)
    job.communicate()
    assert job.returncode == 0
    assert process.poll() is None
    assert len(list(files.iterdir())) == before


def test_a_signal_at_any_moment_disturbs_no_other_job(
    starter: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = starter
    for number in (signal.SIGTERM, signal.SIGUSR1):  # 15 and 10: the byte of a line's end
        jobs = []
        for delay in range(12):
            jobs.append(start(path, *WATCH))
            time.sleep(delay / 200)
            jobs[-1].send_signal(number)
        for job in jobs:
            job.communicate(timeout=60)
            assert job.returncode in (-number, 128 + number)
    job = start(path, *PLAN)
    job.communicate(timeout=60)
    assert job.returncode == 0
    assert not children(process.pid)


def test_the_starter_outlasts_signals_and_jobs_do_not_outlast_it(tmp_path: Path) -> None:
    with starting(tmp_path) as (path, process):
        job = start(path, *WATCH)
        assert job.stdout is not None
        assert job.stdout.readline()
        (child,) = children(process.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        second = start(path, *PLAN)
        second.communicate()
        assert second.returncode == 0
        process.kill()
        errors = job.communicate()[1]
        assert "the process that started this job has ended" in errors
        wait_for(lambda: not Path(f"/proc/{child}").exists())


def test_where_no_job_can_be_forked_the_command_runs_itself(tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path / "refusing"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        job = start(path, *PLAN)
        connection, _ = listener.accept()
        request = receive(connection)
        assert request.arguments == PLAN
        assert request.folder == str(Path.cwd())
        for file in request.files:
            os.close(file)
        connection.send(BY_ITSELF)
        output, _ = job.communicate()
        connection.close()
    assert "pretrain" in output
    assert job.returncode == 0


def test_importing_asks_for_no_gpu() -> None:
    script = """
from importlib import import_module
from cp2.cli.starter import IMPORTED
for name in IMPORTED:
    import_module(name)
import torch
assert not torch.cuda.is_initialized()
assert not torch._C._cuda_isInBadFork()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


SNAKEFILE = """
from pathlib import Path
from cp2.cluster.ready import get_ready, start_command

STARTER = Path(".snakemake/starter")
COMMAND = " ".join([*start_command(Path("ROOT"), STARTER)[:-1], "/bin/false"])

onstart:
    get_ready(workflow, STARTER)

rule all:
    input: [f"{number}.txt" for number in range(config["jobs"])]

rule one:
    output: "{number}.txt"
    shell: "for i in $(seq 600); do test -S {STARTER} && break; sleep 0.1; done; "
        "{COMMAND} --help > {output}"
"""


def test_snakemake_starts_several_jobs_by_way_of_a_starter(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("ROOT", str(ROOT)))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--config"]
    subprocess.run([*command, f"jobs={LEAST_JOBS}"], cwd=tmp_path, check=True, timeout=120)
    assert "Usage" in (tmp_path / "0.txt").read_text()
    wait_for(lambda: not (tmp_path / ".snakemake" / "starter").exists())


def test_few_jobs_need_no_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a starter was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    for remote, jobs in ((False, LEAST_JOBS - 1), (True, 100)):
        snakemake = SimpleNamespace(
            executor_plugin=SimpleNamespace(common_settings=SimpleNamespace(non_local_exec=remote)),
            dag=SimpleNamespace(needrun_jobs=lambda jobs=jobs: iter(range(jobs))),
        )
        get_ready(snakemake, Path("socket"))


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
