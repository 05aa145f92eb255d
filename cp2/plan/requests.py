"""What one stage's jobs ask a scheduler for: the campaign's resources under a site's names."""

import shlex
from dataclasses import dataclass
from typing import Any

from cp2.errors import UserError
from cp2.settings.base import GPU_SLOTS
from cp2.settings.campaign import Resources
from cp2.settings.sites import SiteSettings, StageSite
from cp2.stages import ON_CLUSTER


@dataclass(frozen=True)
class JobRequest:
    """One job.

    Attributes:
        cpus, gpus: of each node.
        mem_mb: memory of each node, MB.
        minutes: time limit.
        jobs_per_gpu: that a Snakemake which runs jobs itself starts beside each other.
        gpu_model: as the site's `sinfo -o %G` names it; None takes any.
        gpu_memory_gb: of one GPU, in 10^9 bytes, where the site says it.
        gres: the cluster takes --gres=gpu:... and no --gpus=...
        extra: further options of sbatch, as written in the site file.
    """

    stage: str
    cpus: int
    mem_mb: int
    minutes: int
    gpus: int = 0
    nodes: int = 1
    gpu_model: str | None = None
    gpu_memory_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: str | None = None
    jobs_per_gpu: int = 1
    gres: bool = False

    @property
    def plain_gpus(self) -> bool:
        """Whether Snakemake's Slurm executor asks for the GPUs as it does by itself.

        It takes neither --gres beside its own option nor hyphens in a model, and counts tasks by
        GPUs.
        """
        return not self.gpus or not (self.nodes > 1 or self.gres or "-" in (self.gpu_model or ""))

    @property
    def processes(self) -> int:
        """Of a training, on all nodes."""
        return self.nodes * max(1, self.gpus)

    @property
    def _named_gpus(self) -> str:
        return f"{self.gpu_model}:{self.gpus}" if self.gpu_model else str(self.gpus)

    @property
    def gpu_slots(self) -> int:
        """Slots of GPU_SLOTS a GPU, which are what Snakemake hands out on one machine."""
        return self.gpus * GPU_SLOTS // self.jobs_per_gpu

    def snakemake(self) -> dict[str, Any]:
        """A rule's resources, as Snakemake's Slurm executor reads them."""
        if self.stage not in ON_CLUSTER:
            return {"mem_mb": self.mem_mb, "runtime": self.minutes}
        extra = shlex.split(self.extra) if self.extra else []
        if not self.plain_gpus and not self.gres:
            extra.append(f"--gpus-per-node={self._named_gpus}")  # of one node: the same
        # `mpi`: no outer srun, in which the rule's own would find one node. With `gpu` or `gres`
        # beside it the executor would start more tasks.
        several = {"tasks": self.nodes, "mpi": "srun"} if self.nodes > 1 else {}
        extra += ["--ntasks-per-node=1"] if several else []
        named = {
            "gpu_model": self.gpu_model if self.plain_gpus else None,
            "gres": f"gpu:{self._named_gpus}" if self.gres and self.gpus and not several else None,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "slurm_extra": shlex.join(extra) or None,
        }
        given = {key: value for key, value in named.items() if value is not None}
        counted = {"mem_mb": self.mem_mb, "runtime": self.minutes, "nodes": self.nodes}
        gpus = {"gpu": self.gpus if self.plain_gpus else 0, "gpu_slots": self.gpu_slots}
        return counted | several | gpus | given | {"site_options": self.site_options()}

    def site_options(self) -> str:
        """What `sbatch` needs beyond cpus, memory and time, which every request has."""
        whole = "--gpus=" if self.nodes == 1 else "--gpus-per-node="
        option = "--gres=gpu:" if self.gres else whole
        options = [
            "--ntasks-per-node=1" if self.nodes > 1 else None,
            f"{option}{self._named_gpus}" if self.gpus else None,
            f"--partition={self.partition}" if self.partition else None,
            f"--account={self.account}" if self.account else None,
            f"--qos={self.qos}" if self.qos else None,
            f"--constraint={self.constraint}" if self.constraint else None,
            *(shlex.split(self.extra) if self.extra else []),
        ]
        return shlex.join(option for option in options if option)

    def sbatch(self) -> str:
        """All options of sbatch, in one line."""
        counted = f"--cpus-per-task={self.cpus} --mem={self.mem_mb} --time={self.minutes}"
        return f"--nodes={self.nodes} {counted} {self.site_options()}".strip()

    def srun(self) -> str:
        """What starts one task on each node of a job; empty for a job of one.

        If one fails the others end, too: they would wait for it for ever. Overlapping: a step that
        Slurm still counts then keeps no other from starting; after a node's death this was not
        enough (docs/several-gpus.md).
        """
        if self.nodes == 1:
            return ""
        tasks = f"--nodes={self.nodes} --ntasks={self.nodes} --ntasks-per-node=1"
        alike = f"--cpus-per-task={self.cpus} --overlap --kill-on-bad-exit=1 --input=none"
        return f"srun {tasks} {alike}"


def job_request(stage: str, resources: Resources, site: SiteSettings | None) -> JobRequest:
    """Merge a site's values over the campaign's.

    A stage without GPUs takes no `gpu_model` and no `cpus_per_gpu`; with GPUs, `cpus_per_gpu`
    times their number is the job's cpus.

    Raises:
        UserError: jobs on several GPUs are to share them.
    """
    there = site.stage(stage) if site else StageSite()
    gpus = resources.gpus if there.gpus is None else there.gpus
    nodes = there.nodes or resources.nodes
    cpus = there.cpus or resources.cpus
    if gpus and there.cpus_per_gpu:
        cpus = gpus * there.cpus_per_gpu
    return JobRequest(
        stage=stage,
        cpus=cpus,
        mem_mb=there.mem_mb or resources.mem_mb,
        minutes=there.minutes or resources.minutes,
        gpus=gpus,
        nodes=nodes,
        gpu_model=there.gpu_model if gpus else None,
        gpu_memory_gb=there.gpu_memory_gb,
        gres=bool(there.gres),
        partition=there.partition,
        account=there.account,
        qos=there.qos,
        constraint=there.constraint,
        extra=there.extra,
        jobs_per_gpu=_shared_by(stage, nodes, gpus, there.jobs_per_gpu or resources.jobs_per_gpu),
    )


def _shared_by(stage: str, nodes: int, gpus: int, jobs_per_gpu: int) -> int:
    if nodes * gpus > 1 and jobs_per_gpu > 1:
        several = {"nodes": nodes, "gpus": gpus} if nodes > 1 else {"gpus": gpus}
        given = ", ".join(f"{key} is {value}" for key, value in several.items())
        raise UserError(
            f"{stage}: {given} and jobs_per_gpu {jobs_per_gpu}, but only jobs on one GPU can share "
            f"it; set {stage}'s {' and '.join(several)} to 1, or its jobs_per_gpu to 1"
        )
    return jobs_per_gpu
