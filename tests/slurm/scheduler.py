"""A real Slurm of one machine, made for the tests and stopped by its process ids afterwards.

Everything of it lies in one temporary folder: configuration, key, sockets, spool, logs. It has its
own cluster name and its own free ports, and clients find it by SLURM_CONF only; another Slurm
on the same machine is neither asked nor touched.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "srun",
    "squeue",
    "sinfo",
    "scontrol",
    "scancel",
)
MEMORY_MB = 6000
PARTITION = "test"

SLURM_CONF = """
ClusterName=cp2test
FirstJobId={controller_port}  # so that trainings of two such clusters do not meet at one port
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides  # more cores than there are: jobs here mostly wait
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
GresTypes=gpu
ReturnToService=2
MinJobAge=300
KillWait=60  # twice the default: a busy machine's processes take long to save and leave
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout={node_timeout}
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=60 OverTimeLimit=0 State=UP
PartitionName=short Nodes=ALL MaxTime=5 State=UP
"""


def why_not() -> str | None:
    """Why a Slurm cannot be started here, or None."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"no {', '.join(missing)} here; Debian: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root here (device nodes, jobs' processes)"
    return None


def skip_or_fail(reason: str | None) -> None:
    """End a test that needs a Slurm where there is none; a failure where one must be."""
    if reason and os.environ.get("CP2_NEED_SLURM"):
        pytest.fail(f"{reason} (CP2_NEED_SLURM is set)")
    if reason:
        pytest.skip(reason)


class Slurm:
    """One controller, one node with two pretended GPUs, one munge.

    Attributes:
        environment: variables under which Slurm's commands talk to this Slurm.
    """

    GPUS, TIMEOUT, NAMES = 2, 20, ("",)  # NAMES: of the nodes, where not the machine's

    def node_lines(self, ports: list[int]) -> tuple[str, str]:
        """Of slurm.conf and gres.conf."""
        return (
            f"NodeName={self.host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=8 "
            f"RealMemory={MEMORY_MB} Gres=gpu:test:2 State=UNKNOWN",
            f"NodeName={self.host} Name=gpu Type=test File={self.folder}/gpu[0-1]",
        )

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cp2-slurm-"))
        self.host = socket.gethostname().split(".")[0]
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all three and wait until the node takes jobs.

        Raises:
            RuntimeError: one of them ended or the node did not come up; has the logs' last lines.
        """
        self._write_configuration()
        munge = self.folder / "munge"
        self._run(
            "munged",
            *("--foreground", "--force", "--num-threads=2"),
            *(f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid"),
            *(f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        )
        self.wait(lambda: (munge / "socket").exists(), "munge's socket")
        self._run("slurmctld", "-D")
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd, for the first time or again, and wait until it takes jobs."""
        self._run("slurmd", "-D")
        self.wait(lambda: self.node_state() in ("idle", "mixed", "allocated"), "the node")

    def kill_node(self) -> None:
        """The node's daemon and its jobs' processes are gone at once, as in a power cut."""
        node = self._processes.pop("slurmd")
        for pid in self._job_processes():
            _kill(pid, signal.SIGKILL)
        node.kill()
        node.wait()

    def stop(self) -> None:
        """End everything that `start` started, and remove the folder."""
        if "slurmctld" in self._processes:
            self.command("scancel", "--state=RUNNING", check=False)
            self.command("scancel", "--state=PENDING", check=False)
        for pid in self._job_processes():
            _kill(pid, signal.SIGKILL)
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *arguments: str, check: bool = True, seconds: float = 60) -> str:
        """Run one of Slurm's commands against this Slurm; its standard output."""
        done = subprocess.run(
            arguments,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def node_state(self) -> str:
        return self.command("sinfo", "-h", "-o", "%t", "-p", PARTITION, check=False)

    def jobs(self, states: str = "all", form: str = "%i %T %j") -> list[str]:
        """Lines of squeue, the oldest job first."""
        return self.command(
            "squeue", "-h", "-S", "i", "-t", states, "-o", form, check=False
        ).splitlines()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Wait for a condition; fails early when one of the daemons has ended."""
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}\n{self.logs()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: not there after {seconds:g} s\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        texts = []
        for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("munge/log")]):
            lines = path.read_text(errors="replace").splitlines()
            texts.append("\n".join([f"--- {path.name}", *lines[-15:]]))
        return "\n".join(texts)

    def _write_configuration(self) -> None:
        for name in ("munge", "state", f"spool.{self.host}", "bin"):
            (self.folder / name).mkdir(mode=0o700)
        self.folder.chmod(0o755)
        # Snakemake's executor strips SLURM_* from the environment of what runs inside a job.
        for name in ("srun", "scontrol", "squeue"):
            wrapper = self.folder / "bin" / name
            wrapper.write_text(
                f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_program(name)} "$@"\n'
            )
            wrapper.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for number in range(self.GPUS):  # as /dev/null: a GPU as far as Slurm looks
            os.mknod(self.folder / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        controller_port, *node_ports = _free_ports(3)
        nodes, gres = self.node_lines(node_ports[: len(self.NAMES)])
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                host=self.host,
                folder=self.folder,
                controller_port=controller_port,
                nodes=nodes,
                partition=PARTITION,
                node_timeout=self.TIMEOUT,
            )
        )
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\n{gres}\n")

    def _run(self, name: str, *arguments: str, key: str | None = None) -> None:
        program = _program(name)
        assert program is not None
        with (self.folder / f"{name}.out.log").open("ab") as output:
            self._processes[key or name] = subprocess.Popen(
                [program, *arguments],
                env=self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def processes(self, job: str, words: str) -> list[int]:
        """Process ids of a job whose command line has these words."""
        return [
            pid
            for pid, command, environment in self._everything()
            if f"SLURM_JOB_ID={job}" in environment and words in command
        ]

    def _job_processes(self) -> list[int]:
        """Process ids of all jobs, and of the daemons that look after their steps."""
        return [
            pid
            for pid, command, environment in self._everything()
            if command.startswith("slurmstepd")
            or any(line.startswith("SLURM_JOB_ID=") for line in environment)
        ]

    def _everything(self) -> Iterator[tuple[int, str, list[str]]]:
        """Process id, command line and environment of all that has this Slurm's SLURM_CONF."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_text(errors="replace").split("\0")
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile
            if f"SLURM_CONF={self.folder}/slurm.conf" in environment:
                yield int(entry.name), command, environment


class TwoNodes(Slurm):
    """A controller and two nodes on this machine, each with its own host name and process ids."""

    GPUS, TIMEOUT, NAMES = 4, 10, ("node1", "node2")
    _SPACES = ("--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")

    @classmethod
    def why_not(cls) -> str | None:
        """Why two nodes cannot be had here, or None."""
        if reason := why_not():
            return reason
        tried = subprocess.run(["unshare", *cls._SPACES, "true"], capture_output=True, check=False)
        return "a node's host name needs namespaces of its own" if tried.returncode else None

    def node_lines(self, ports: list[int]) -> tuple[str, str]:
        """Of slurm.conf and gres.conf."""
        conf = [
            f"NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory={MEMORY_MB // 2} "
            "Gres=gpu:test:2 State=UNKNOWN"
            for name, port in zip(self.NAMES, ports, strict=True)
        ]
        gres = [
            f"NodeName={name} Name=gpu Type=test File={self.folder}/gpu[{2 * i}-{2 * i + 1}]"
            for i, name in enumerate(self.NAMES)
        ]
        return "\n".join(conf), "\n".join(gres)

    def start_node(self, *names: str) -> None:
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {self.host} {' '.join(self.NAMES)}\n")
        for name in names or self.NAMES:
            (self.folder / f"spool.{name}").mkdir(exist_ok=True)
            script = (
                f"mount --bind {hosts} /etc/hosts && hostname {name} && "
                f"exec {_program('slurmd')} -D -N {name}"
            )
            spaces = (*self._SPACES, "--propagation=private")
            self._run("unshare", *spaces, "sh", "-c", script, key=name)
        self.wait(lambda: self.node_state() in ("idle", "mixed", "allocated"), "the nodes")

    def training_process(self, run: str, name: str) -> int:
        """Process id of a run ("pretrain <id>") on a node that trains one there."""
        (pid,) = [
            pid
            for pid, command, environment in self._everything()
            if f"-m cp2 {run} " in command
            and f"SLURMD_NODENAME={name}" in environment
            and any(line.startswith("CP2_RANK=") for line in environment)
        ]
        return pid

    def cut(self, name: str) -> None:
        """The node is gone with all that ran on it, as in a power cut."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in self.NAMES:  # they do not hear SIGTERM
            if name in self._processes:
                self.cut(name)
        super().stop()


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
