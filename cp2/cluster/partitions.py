"""What the cluster has: partitions and their kinds of nodes, from one `sinfo`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cp2.cluster.commands import ask

_COLUMNS = ("PartitionName", "Available", "Time", "CPUs", "Memory", "Gres", "Features", "Nodes")
_FORMAT = "%P|%a|%l|%c|%m|%G|%f|%D"
_GPU = re.compile(r"gpu(?::(?P<model>[^:]+))?:(?P<count>\d+)")


@dataclass(frozen=True)
class Nodes:
    """Nodes of one partition that are alike.

    Attributes:
        default: whether jobs that name no partition come here.
        minutes: the partition's time limit; None is unlimited.
        cpus, mem_mb: of one node.
        gpus: model -> number on one node; a node whose GPUs have no model has them under "".
        features: that a job's `constraint` may name.
        count: how many there are.
    """

    partition: str
    default: bool
    up: bool
    minutes: int | None
    cpus: int
    mem_mb: int
    gpus: dict[str, int]
    features: frozenset[str]
    count: int

    def satisfies(self, constraint: str | None) -> bool:
        """Whether they have the features of "a&b|c"; brackets, counts: sbatch itself must say."""
        if constraint is None or re.search(r"[\[\]()*]", constraint):
            return True
        choices = (set(choice.split("&")) for choice in constraint.split("|"))
        return any(choice <= self.features for choice in choices)

    def gpus_of(self, model: str | None) -> int:
        """GPUs of that model on one node; None counts all."""
        return sum(self.gpus.values()) if model is None else self.gpus.get(model, 0)


def cluster_nodes() -> list[Nodes] | None:
    """The nodes of every partition, or None where no Slurm answers."""
    answer = ask("sinfo", "--noheader", f"--format={_FORMAT}")
    return None if answer is None else parse_sinfo(answer.splitlines())


def parse_sinfo(lines: Sequence[str]) -> list[Nodes]:
    """Read lines of `sinfo --format=%P|%a|%l|%c|%m|%G|%f|%D`; others are left out."""
    found = []
    for line in lines:
        words = line.strip().split("|")
        if len(words) != len(_COLUMNS):
            continue
        name, up, limit, cpus, memory, gres, features, count = words
        found.append(
            Nodes(
                partition=name.rstrip("*"),
                default=name.endswith("*"),
                up=up == "up",
                minutes=minutes_of(limit),
                cpus=_number(cpus),
                mem_mb=_number(memory),
                gpus=_gpus(gres),
                features=frozenset(features.split(",")) - {"(null)", ""},
                count=_number(count),
            )
        )
    return found


def minutes_of(limit: str) -> int | None:
    """Minutes of Slurm's [days-]hours:minutes:seconds; None for "infinite"."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not match:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return (24 * days + hours) * 60 + minutes


def _number(text: str) -> int:
    """The smallest of a group: sinfo writes 64+ where nodes differ."""
    digits = re.match(r"\d+", text)
    return int(digits.group()) if digits else 0


def _gpus(gres: str) -> dict[str, int]:
    """`gpu:h100:4(S:0-1),shard:8` -> {"h100": 4}."""
    found: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        if match := _GPU.fullmatch(entry):
            model = match["model"] or ""
            found[model] = found.get(model, 0) + int(match["count"])
    return found
