"""Where this command stands among those that were started for one training, one a node."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from cp2.cluster.commands import ask
from cp2.errors import UserError

NODES = "CP2_NODES"  # set by our own srun line, and by nothing else
FIRST_PORT, PORTS = 20000, 10000  # below those that systems give to clients


@dataclass(frozen=True)
class Node:
    """One of `count` commands that train one run together; each starts processes of its own.

    Attributes:
        number: 0 for the one that holds the run, writes its files and queues the job again.
        local: its number among those of its machine.
        host, port: where process 0 of all waits for the others; None where it is alone.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    host: str | None = None
    port: int = 0

    @property
    def first(self) -> bool:
        return self.number == 0

    def __str__(self) -> str:
        return f"node {self.number} of {self.count} ({socket.gethostname()})"


ALONE = Node()


def this_node(given: Mapping[str, str] = os.environ) -> Node:
    """Asks the environment that srun, or another launcher such as torchrun, made.

    Slurm's variables count beside CP2_NODES only: the batch shell of a job of several nodes has
    them, too, and a command there would wait for ever. A worker of torchrun's is a node here.

    Raises:
        UserError: the variables contradict each other, or some are missing.
    """
    if NODES in given:
        count, number = _number(given, NODES), _number(given, "SLURM_NODEID")
        tasks = given.get("SLURM_STEP_NUM_TASKS", str(count))
        if tasks != str(count):
            raise UserError(
                f"{NODES} is {count}, but srun started {tasks} tasks; start one a node: "
                f"srun --nodes={count} --ntasks={count} --ntasks-per-node=1"
            )
        job = given.get("SLURM_JOB_ID", "")
        port = FIRST_PORT + int(job if job.isdigit() else 0) % PORTS
        host, local = given.get("MASTER_ADDR") or _first_host(given), 0
    elif "RANK" in given and "WORLD_SIZE" in given:
        count, number = _number(given, "WORLD_SIZE"), _number(given, "RANK")
        host, local = given.get("MASTER_ADDR", ""), _number(given, "LOCAL_RANK", 0)
        port = 29500  # torch's
        if count > 1 and not host:
            raise UserError(
                f"RANK and WORLD_SIZE={count} are set, but not MASTER_ADDR, where process 0 of all "
                "runs; unset them to train alone"
            )
    else:
        return ALONE
    if not 0 <= number < count:
        raise UserError(f"this is number {number} of {count}: numbers go from 0 to {count - 1}")
    if count == 1:
        return ALONE
    port = _number(given, "MASTER_PORT", port)
    if not 0 < port < 2**16:
        raise UserError(f"MASTER_PORT is {port}, must be from 1 to {2**16 - 1}")
    return Node(number, count, local, host, port)


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = given.get(name, "" if default is None else str(default))
    if not text.isdigit():
        is_what = f"is {text!r}, must be a number" if text else "is not set"
        raise UserError(
            f"{name} {is_what}: several nodes are started by srun, one task a node, or by a "
            "launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; see "
            "docs/several-gpus.md"
        )
    return int(text)


def _first_host(given: Mapping[str, str]) -> str:
    nodes = given.get("SLURM_STEP_NODELIST") or given.get("SLURM_JOB_NODELIST", "")
    names = (ask("scontrol", "show", "hostnames", nodes) or "").split() if nodes else []
    if not names:
        raise UserError(
            "the name of the job's first node is not known: scontrol does not say it; set "
            "MASTER_ADDR to it"
        )
    return names[0]
