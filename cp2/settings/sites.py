"""What a cluster calls its things: partitions, accounts, GPUs. One short file a site."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model, model_validator

from cp2.errors import UserError
from cp2.settings.base import JobsPerGpu, PositiveFloat, PositiveInt, Settings
from cp2.settings.based_files import is_there, named_file
from cp2.settings.campaign import wrong_nodes
from cp2.settings.messages import nearest, validated
from cp2.settings.yaml_files import read_mapping
from cp2.stages import ON_CLUSTER, STAGES

_TAKEN = {  # options of sbatch that have a key of their own, or that Snakemake sets
    **dict.fromkeys(("-p", "--partition"), "partition"),
    **dict.fromkeys(("-A", "--account"), "account"),
    **dict.fromkeys(("-q", "--qos"), "qos"),
    **dict.fromkeys(("-C", "--constraint"), "constraint"),
    **dict.fromkeys(("-G", "--gpus", "--gpus-per-node"), "gpus and gpu_model"),
    "--gpus-per-task": "gpus and gpu_model",
    "--gpus-per-socket": "gpus and gpu_model",
    "--gres": "gpus and gpu_model, and gres: true where the cluster takes no --gpus; for local "
    "disk --tmp=50G, as Snakemake's Slurm executor takes no --gres of other things",
    **dict.fromkeys(("-c", "--cpus-per-task", "--cpus-per-gpu"), "cpus or cpus_per_gpu"),
    **dict.fromkeys(("--mem", "--mem-per-cpu", "--mem-per-gpu"), "mem_mb"),
    **dict.fromkeys(("-t", "--time"), "minutes"),
    **dict.fromkeys(("-N", "--nodes"), "nodes"),
    **dict.fromkeys(("-n", "--ntasks", "-J", "--job-name", "-D", "--chdir"), ""),
    **dict.fromkeys(("-o", "--output", "-e", "--error", "--wrap", "--parsable", "--comment"), ""),
    **dict.fromkeys(("--requeue", "--no-requeue", "--export", "-a", "--array", "--test-only"), ""),
    **dict.fromkeys(("--ntasks-per-node", "--ntasks-per-gpu", "-W", "--wait", "-H", "--hold"), ""),
}
_FLAGS = re.compile(  # that take no value as a word of its own
    r"--(exclusive|contiguous|overcommit|oversubscribe|spread-job|use-min-nodes|reboot|verbose"
    r"|quiet|no-kill|get-user-env|propagate|ignore-pbs|nvmps|.*=.*)|-[OIQksv].*|-[^-].+|"
)


def _options(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"is not readable as options of sbatch: {error}") from None
    for before, word in itertools.pairwise(["", *words]):
        if not word.startswith("-"):
            if _FLAGS.fullmatch(before) or not before.startswith("-"):
                raise ValueError(f"{word!r} is no option of sbatch; write --name or --name=value")
            continue
        option = word.split("=")[0] if word.startswith("--") else word[:2]
        # sbatch takes a long option's first letters, too
        taken = [name for name in _TAKEN if name.startswith(option)]
        if taken:
            key = _TAKEN[option if option in taken else taken[0]]
            raise ValueError(
                f"{option} does not belong here; "
                + (f"use {key}" if key else "Snakemake's profile sets it")
            )
    return text


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,@+-]+$")]


class StageSite(Settings):
    """What one stage's jobs ask this site's scheduler for; None leaves the campaign's value."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.&|*()\[\]-]+$")] | None = None
    nodes: PositiveInt | None = None  # each with so many gpus and cpus, and so much memory
    gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_memory_gb: PositiveFloat | None = None  # of one; compared with what training needs
    gpu_model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    gres: bool | None = None  # GPUs are asked for with --gres=gpu:... instead of --gpus=...
    jobs_per_gpu: JobsPerGpu | None = None
    cpus: PositiveInt | None = None
    cpus_per_gpu: PositiveInt | None = None
    mem_mb: PositiveInt | None = None
    minutes: PositiveInt | None = None
    extra: Annotated[str, AfterValidator(_options)] | None = None  # further options of sbatch

    @model_validator(mode="after")
    def _one_of_both(self) -> "StageSite":
        if self.cpus and self.cpus_per_gpu:
            raise ValueError("cpus and cpus_per_gpu: give one of both")
        if self.gpus == 0 and (self.gpu_model or self.cpus_per_gpu):
            raise ValueError("gpu_model and cpus_per_gpu need gpus of at least 1")
        return self


class SiteSettings(Settings):
    """One site file; `all` holds for every stage unless the stage says otherwise.

    A file's model has a field for every stage whose jobs go to the scheduler, too.
    """

    all: StageSite = StageSite()

    def stage(self, name: str) -> StageSite:
        """What holds for a stage."""
        if name not in ON_CLUSTER:
            return StageSite()
        own = getattr(self, name).model_dump(exclude_none=True)
        common = self.all.model_dump(exclude_none=True)
        if not STAGES[name].processes:
            common.pop("nodes", None)
        for key, other in (("cpus", "cpus_per_gpu"), ("cpus_per_gpu", "cpus")):
            if key in own:
                common.pop(other, None)
        if own.get("gpus") == 0:
            common.pop("gpu_model", None)
            common.pop("cpus_per_gpu", None)
        return StageSite(**{**common, **own})


def _of_stage(stage: str) -> Any:
    """Type of a stage's part of a site file."""

    def checked(there: StageSite) -> StageSite:
        if text := wrong_nodes(stage, there.nodes):
            raise ValueError(text)
        return there

    return Annotated[StageSite, AfterValidator(checked)]


_SITE_FILE = create_model(
    "SiteSettings",
    __base__=SiteSettings,
    **{stage: (_of_stage(stage), StageSite()) for stage in ON_CLUSTER},  # type: ignore[call-overload]
)


def load_site(site: str, configs: Path = Path("configs")) -> SiteSettings:
    """Read a site by name (configs/sites/<name>.yaml) or by path.

    Raises:
        UserError: no such file, an unknown key or a wrong value; says what is allowed.
    """
    file = named_file(site, configs / "sites")
    if not is_there(file):
        known = [path.stem for path in (configs / "sites").glob("*.yaml")]
        raise UserError(
            f"site {site!r}: no file {file}; copy {configs / 'sites' / 'example.yaml'} to it and "
            f"write your cluster's names there; {nearest(site, known)}"
        )
    tree = {key: value or {} for key, value in read_mapping(file).items()}
    settings: SiteSettings = validated(_SITE_FILE, tree, f"{file}: ")
    return settings
