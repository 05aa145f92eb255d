"""How the processes of a training find each other, and what is said of one that does not fit."""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from torch import distributed

from cp2.errors import PassingError, UserError, said
from cp2.record.files import write_text
from cp2.training.clock import StoppedForResumeError
from cp2.training.processes import MEETING, RENDEZVOUS

NAMED_SECONDS = 60.0  # after which it is said who is missing
GIVEN_UP_SECONDS = 900.0  # torch may be read from a slow file system
SHARED_SECONDS = 90.0  # in which a file must be seen by all: NFS keeps what it knows for a minute
SHARED_FILE = "seen-by-all-nodes"
# What tells one training's processes from others' that meet at the same place, and one attempt
# from the next: torchrun keeps its store between attempts.
_SESSION = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
POLL_SECONDS = 0.2
TRY_SECONDS = 10.0  # to reach process 0
STORE_TIMEOUT = timedelta(minutes=30)


def meet(
    rank: int, size: int, folder: Path, device: str, stop: Callable[[], str | None]
) -> tuple[distributed.Store, list[str]]:
    """The store in which processes exchange addresses, once all `size` of them are there.

    The second value has the hosts, by process.

    Those of one node meet at a file, those of several at process 0.

    Args:
        folder: the run's; all must see the same files in it.
        device: "cuda" or "cpu"; the same for all.
    Raises:
        PassingError: one does not come, or sees other files; names it. The port is in use.
        UserError: one has a GPU, another none.
        StoppedForResumeError: `stop` gives a reason.
    """
    begin, told = time.monotonic(), False

    def wait_on(missing: list[int]) -> None:
        """Say who is missing, once, and give up at last."""
        nonlocal told
        if reason := stop():
            raise StoppedForResumeError(f"stopped before all processes met: {reason}")
        waited = time.monotonic() - begin
        who = f"process{'es' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        text = (
            f"{who} of {size} did not come to process {rank} on {socket.gethostname()} in "
            f"{waited:.0f} s{_where()}"
        )
        if waited > GIVEN_UP_SECONDS:
            raise PassingError(f"{text}; the output of its node says why")
        if waited > NAMED_SECONDS and not told:
            told = True
            print(f"{text}; waiting", file=sys.stderr, flush=True)

    while (store := _reach(rank)) is None:
        wait_on([0])
    store = distributed.PrefixStore(_session(folder), store)
    store.set(f"cp2-{rank}", json.dumps([socket.gethostname(), device]))
    while missing := [other for other in range(size) if not store.check([f"cp2-{other}"])]:
        wait_on(missing)
        time.sleep(POLL_SECONDS)
    members = [json.loads(store.get(f"cp2-{other}")) for other in range(size)]
    hosts = [host for host, _ in members]
    _check_devices(members)
    if MEETING in os.environ:
        _check_folder(store, rank, hosts, folder)
    return store, hosts


def _session(folder: Path) -> str:
    return "/".join([folder.name, *(os.environ.get(name, "") for name in _SESSION)])


def _check_devices(members: Sequence[Sequence[str]]) -> None:
    without = [
        f"{rank} on {host}" for rank, (host, device) in enumerate(members) if device == "cpu"
    ]
    if 0 < len(without) < len(members):
        raise UserError(
            f"of {len(members)} processes some have a GPU, but not process {', '.join(without)}; "
            "look at `nvidia-smi -L` there, or set CP2_DEVICE=cpu for all"
        )


def _check_folder(store: distributed.Store, rank: int, hosts: Sequence[str], folder: Path) -> None:
    """Process 0 writes a word into the run's folder, which the others must read there."""
    file = folder / SHARED_FILE
    if rank == 0:
        word = secrets.token_hex(8)
        write_text(file, word)
        store.set("word", word)
    word = store.get("word").decode()
    until, seen = time.monotonic() + SHARED_SECONDS, False
    while not seen and time.monotonic() < until:
        seen = file.is_file() and file.read_text(encoding="utf-8") == word
        if not seen:
            time.sleep(POLL_SECONDS)
    store.set(f"seen-{rank}", str(seen))
    answers = [store.get(f"seen-{other}").decode() for other in range(len(hosts))]
    if rank == 0:
        file.unlink(missing_ok=True)
    blind = [f"process {n} on {host}" for n, host in enumerate(hosts) if answers[n] != "True"]
    if blind:
        raise PassingError(
            f"{', '.join(blind)} did not see a file that process 0 on {hosts[0]} wrote into "
            f"{folder} {SHARED_SECONDS:.0f} s before: results (execution.results) and data sets "
            "must lie on a file system that all nodes share, under the same path"
        )


def _where() -> str:
    return f" (they meet at {os.environ[MEETING]})" if MEETING in os.environ else ""


def _reach(rank: int) -> distributed.Store | None:
    """The store; None where process 0 does not answer yet."""
    if MEETING not in os.environ:
        return distributed.FileStore(os.environ[RENDEZVOUS])
    host, _, port = os.environ[MEETING].rpartition(":")
    # torchrun's agent has opened one there already.
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = distributed.TCPStore(
            host,
            int(port),
            is_master=hosts,
            timeout=timedelta(seconds=TRY_SECONDS),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        if not hosts:
            return None
        raise PassingError(
            f"{socket.gethostname()}: process 0 cannot wait for the others at {host}:{port} "
            f"({said(error)}); MASTER_ADDR must be a name of this machine, MASTER_PORT a free port"
        ) from error
    store.set_timeout(STORE_TIMEOUT)
    return store
