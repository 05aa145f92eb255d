"""Whether the cluster can ever run a job: asked before submission, so that none waits for ever.

First by what `sinfo` says of the nodes, then by what Slurm itself says of a site's names.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cp2.cluster.commands import answer, ask, this_user
from cp2.cluster.partitions import Nodes, cluster_nodes
from cp2.errors import UserError
from cp2.plan.requests import JobRequest
from cp2.settings.messages import nearest

# For good; what a busy, drained or full cluster says is no reason to refuse a job.
_FOR_GOOD = re.compile(
    "invalid|unrecognized option|not permitted|node configuration is not available", re.IGNORECASE
)
_PREFIX = re.compile(r"^(sbatch: |error: |allocation failure: |Batch job submission failed: )+")


def validate_requests(requests: Iterable[JobRequest], site: str | None) -> None:
    """Refuse jobs that would wait for ever; where no Slurm answers, nothing is checked.

    Raises:
        UserError: a partition, feature, account or QoS that does not exist, more GPUs, memory, cpus
            or time than any node has, more nodes than any partition has, or anything else that
            sbatch would refuse for good.
    """
    asked, cluster = list(requests), cluster_nodes()
    wrong = (unfit(asked, cluster) or slurm_refusals(asked)) if cluster else []
    if wrong:
        file = f"site {site!r}" if site else "the campaign's resources (no --config site=... given)"
        lines = "\n  ".join(wrong)
        raise UserError(
            f"{file}: the cluster cannot run these jobs, so none is submitted:\n  {lines}\n"
            f"Change the site file; `cp2 doctor{f' --site {site}' if site else ''}` checks it."
        )


def unfit(requests: Iterable[JobRequest], cluster: Sequence[Nodes]) -> list[str]:
    """`stage: what cannot be given; what there is`, for every request that never fits."""
    return [f"{request.stage}: {lack}" for request in requests for lack in lacks(request, cluster)]


def lacks(request: JobRequest, cluster: Sequence[Nodes]) -> list[str]:
    """What the cluster can never give, each with what there is; empty if the job fits.

    Nodes that are down or drained count: they come back.
    """
    names = request.partition.split(",") if request.partition else []
    known = sorted({nodes.partition for nodes in cluster})
    wrong = [name for name in names if name not in known]
    if wrong:
        return [f"partition {wrong[0]!r} does not exist; {nearest(wrong[0], known)}"]
    asked = [nodes for nodes in cluster if (nodes.partition in names if names else nodes.default)]
    if not asked:
        return [f"no default partition; name one: {', '.join(known) or 'the cluster has none'}"]
    if not any(nodes.up for nodes in asked):
        return [f"partition {request.partition or asked[0].partition!r} is not up; see sinfo"]
    if request.constraint and (unknown := _unknown_features(request.constraint, asked)):
        return unknown
    asked = [nodes for nodes in asked if nodes.satisfies(request.constraint)]
    if not asked:
        return [f"constraint: no node has {request.constraint!r}; see sinfo -o '%P %f'"]
    fitting = [nodes for nodes in asked if _fits(request, nodes)]
    if fitting:
        return _too_few(request, fitting)
    where = (
        f"partition {asked[0].partition!r}"
        if len({n.partition for n in asked}) == 1
        else (f"partitions {', '.join(sorted({n.partition for n in asked}))}")
    )
    return _reasons(request, asked, where)


def _unknown_features(constraint: str, asked: Sequence[Nodes]) -> list[str]:
    """Names in a constraint such as "a100|h100*2" that no node has: Slurm refuses them."""
    known = set().union(*(nodes.features for nodes in asked))
    names = re.split(r"[&|()\[\]]+", re.sub(r"\*\d+", "", constraint))
    wrong = [name for name in names if name and name not in known]
    return [
        f"constraint: no node has the feature {name!r}; {nearest(name, known)}" for name in wrong
    ]


def _fits(request: JobRequest, nodes: Nodes) -> bool:
    return (
        nodes.gpus_of(request.gpu_model) >= request.gpus
        and nodes.cpus >= request.cpus
        and nodes.mem_mb >= request.mem_mb
        and (nodes.minutes is None or nodes.minutes >= request.minutes)
    )


def _too_few(request: JobRequest, fitting: Sequence[Nodes]) -> list[str]:
    """Whether no partition has so many nodes: all of a job's are of one."""
    there: Counter[str] = Counter()
    for nodes in fitting:
        there[nodes.partition] += nodes.count
    if max(there.values()) >= request.nodes:
        return []
    known = " and ".join(f"partition {name!r} has {count}" for name, count in there.items())
    return [f"nodes: {request.nodes} of this kind; {known}. Ask for fewer, or another partition"]


def _reasons(request: JobRequest, asked: Sequence[Nodes], where: str) -> list[str]:
    """Each resource that no node has; failing that, that no node has them together."""
    found = []
    gpus = max(nodes.gpus_of(request.gpu_model) for nodes in asked)
    if request.gpus > gpus:
        model = f"{request.gpu_model} " if request.gpu_model else ""
        there = ", ".join(sorted({_shown(nodes) for nodes in asked}))
        found.append(
            f"gpus: {request.gpus} {model}GPUs on one node; a node of {where} has {there}. "
            "Ask for fewer, for another gpu_model or partition, or to train on more nodes (nodes)"
        )
    cpus = max(nodes.cpus for nodes in asked)
    if request.cpus > cpus:
        found.append(f"cpus: {request.cpus}; a node of {where} has at most {cpus}")
    memory = max(nodes.mem_mb for nodes in asked)
    if request.mem_mb > memory:
        found.append(f"mem_mb: {request.mem_mb}; a node of {where} has at most {memory}")
    limits = [nodes.minutes for nodes in asked if nodes.minutes is not None]
    if len(limits) == len(asked) and request.minutes > max(limits):
        found.append(
            f"minutes: {request.minutes}; the time limit of {where} is {max(limits)}. With less, a "
            "run takes more jobs: it saves before the limit and queues itself again"
        )
    return found or [
        f"no node of {where} has all at once: {request.gpus} GPUs, {request.cpus} cpus, "
        f"{request.mem_mb} MB for {request.minutes} minutes; see sinfo -o '%P %c %m %G %l'"
    ]


def _shown(nodes: Nodes) -> str:
    kinds = [f"{count} {model}".strip() for model, count in sorted(nodes.gpus.items())]
    return " and ".join(kinds) or "none"


def slurm_refusals(requests: Sequence[JobRequest]) -> list[str]:
    """`stage: why no such job would ever be taken`; nothing where Slurm does not answer.

    Names first, because these texts say what exists; then `sbatch --test-only`, which submits
    nothing and knows each site's own rules.
    """
    wrong = list(_unknown_names(requests))
    return wrong or [text for request in requests for text in _tried(request)]


def _unknown_names(requests: Iterable[JobRequest]) -> Iterator[str]:
    """Accounts and QoS that are not this user's, by the accounting, where it answers."""
    asked = [request for request in requests if request.account or request.qos]
    lines = _associations() if asked else []
    accounts = {account for account, _ in lines} - {""}
    for request in asked:
        account, qos = request.account, request.qos
        if account and accounts and account not in accounts:
            yield f"{request.stage}: account {account!r} is not yours; {nearest(account, accounts)}"
            continue
        mine = {name for line, names in lines if account in (None, line) for name in names}
        if qos and mine and qos not in mine:
            yield f"{request.stage}: qos {qos!r} is not yours; {nearest(qos, mine)}"


def _associations() -> list[tuple[str, list[str]]]:
    """This user's accounts, each with the names of its QoS."""
    said = ask(
        *("sacctmgr", "--noheader", "--parsable2", "show", "associations"),
        *(f"user={this_user()}", "format=Account,QOS"),
    )
    pairs = (line.partition("|") for line in (said or "").splitlines())
    return [(account, names.split(",") if names else []) for account, _, names in pairs]


def _tried(request: JobRequest) -> list[str]:
    options = shlex.split(request.sbatch())
    tried = answer("sbatch", "--test-only", *options, "--wrap=true")
    if tried.problem is None:
        return []
    lines = [_PREFIX.sub("", line.strip()) for line in tried.errors.splitlines()]
    told = [line for line in lines if _FOR_GOOD.search(line)]
    return [f"{request.stage}: sbatch {request.sbatch()}: {told[0]}"] if told else []


def executor_misfit(executor: str, requests: Iterable[JobRequest], folder: Path) -> str | None:
    """What Snakemake's plugin cannot hand to sbatch, though Slurm could take it; else None."""
    if executor == "cluster-generic" and re.search(r'[$`"\\!]', str(folder)):
        return (
            f'{folder}: this executor hands the path to a shell, to which $ ` " \\ ! have a '
            "meaning; use the profile slurm, or move the project"
        )
    for request in requests if executor == "slurm" else ():
        if request.gres and request.nodes > 1:
            return (
                f"{request.stage}: Snakemake's Slurm executor starts other tasks than one a node "
                "where GPUs are asked for with gres; use the profile cluster-generic"
            )
        if request.gres and not request.plain_gpus and "-" in (request.gpu_model or ""):
            return (
                f"{request.stage}: Snakemake's Slurm executor takes no hyphen in a --gres "
                f"(gpu_model {request.gpu_model!r}); use the profile cluster-generic, or name the "
                "nodes' feature (constraint) instead of gpu_model"
            )
    return None
