"""Campaigns: which tables, at which scale, with how many seeds, from which data."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from cp2.settings.base import (
    FileName,
    FolderPath,
    JobsPerGpu,
    Name,
    OutputFolder,
    PositiveInt,
    Settings,
    added,
)
from cp2.settings.tables import Pretraining
from cp2.stages import STAGES, names

if TYPE_CHECKING:
    Training: TypeAlias = str
    Job: TypeAlias = str
else:
    Training = Literal[names(lambda stage: stage.processes)]
    Job = Literal[(*STAGES, "report")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _different(items: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [item for item in items if items.count(item) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice; the same runs would count double")
    return items


Once = AfterValidator(_different)
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), Once]


class WorldSettings(Settings):
    """The demo world: numbers of images; `short_side` is in pixels."""

    seed: Annotated[int, Field(ge=0)] = 0
    short_side: Annotated[int, Field(ge=48, le=512)] = 96
    voc_train: PositiveInt = 48
    sbd_extra: PositiveInt = 24  # training images that only SBD labels
    voc_val: PositiveInt = 24
    cityscapes_train: PositiveInt = 48
    cityscapes_val: PositiveInt = 16
    ade20k_train: PositiveInt = 48
    ade20k_val: PositiveInt = 16
    imagenet_classes: Annotated[int, Field(ge=1, le=8)] = 8
    imagenet_per_class: PositiveInt = 48
    voc2007_train: PositiveInt = added(96)
    voc2007_test: PositiveInt = added(96)
    coco_train: PositiveInt = added(96)
    coco_val: PositiveInt = added(48)


class SeedSettings(Settings):
    """Seeds of each stage; a cell has pretraining seeds x finetuning seeds runs."""

    pretrain: Seeds = (0,)
    finetune: Seeds = (0,)
    finetune_by_dataset: dict[Name, Seeds] = Field(default_factory=dict)


class TableSelection(Settings):
    """A part of a table; None takes all."""

    rows: Annotated[tuple[str, ...], Once] | None = None
    columns: Annotated[tuple[str, ...], Once] | None = None


class PublishedCheckpoint(Settings):
    """A checkpoint file that the demo world publishes from a pretraining of its own."""

    file: FileName
    backbone: Name
    method: Name
    epochs: PositiveInt
    dataset: Name


class Execution(Settings):
    """How runs are executed; nothing here can change a number, so nothing here is hashed."""

    results: OutputFolder = "results"
    reports: OutputFolder = "reports"
    mirrors: tuple[FolderPath, ...] = ()  # folders searched for archives before any download
    workers: Annotated[int, Field(ge=0)] = 4  # data loading processes a job, or a GPU of several
    # Decoded images of a finetuning that stay in memory; None: half of what is free at its start.
    keep_decoded_mb: Annotated[int, Field(ge=0)] | None = None
    # Micro-batches a step, for GPUs with less memory; refused where they would change a number.
    accumulate: dict[Training, PositiveInt] = Field(default_factory=dict)
    log_every: PositiveInt = 50  # steps between two lines of metrics.jsonl
    save_minutes: Annotated[float, Field(ge=0)] = 15.0  # between two saves of the resume state
    # Of pretraining, weights to keep beside the last ones: after these epochs, and every so many.
    snapshot_epochs: tuple[PositiveInt, ...] = ()
    snapshot_every: PositiveInt | None = None

    # Of segmentation: steps between two looks at the validation split, whole images, in the log.
    validate_every: PositiveInt | None = None

    def validates(self, step: int) -> bool:
        """Whether a finetuning looks at its validation split at this step, which is logged."""
        every, before = self.validate_every, (step - 1) // self.log_every * self.log_every
        return every is not None and step // every > before // every

    def keeps(self, epoch: int) -> bool:
        """Whether the weights after so many epochs of a pretraining are kept."""
        every = self.snapshot_every
        return epoch in self.snapshot_epochs or (
            every is not None and epoch > 0 and not epoch % every
        )


class Resources(Settings):
    """What a job of one stage asks the scheduler for."""

    cpus: PositiveInt = 1
    mem_mb: PositiveInt = 4000
    minutes: PositiveInt = 60
    gpus: Annotated[int, Field(ge=0)] = 0
    nodes: PositiveInt = 1  # each with so many cpus and gpus, and so much memory
    jobs_per_gpu: JobsPerGpu = 1  # that Snakemake starts beside each other on this machine


def wrong_nodes(stage: str, nodes: int | None) -> str | None:
    """What is wrong where a stage that does not train is to have several nodes."""
    if (nodes or 1) == 1 or stage in names(lambda one: one.processes):
        return None
    return f"nodes is {nodes}, but this stage runs on one node; leave it out"


def _nodes_of_trainings(resources: dict[str, Resources]) -> dict[str, Resources]:
    for stage, wishes in resources.items():
        if text := wrong_nodes(stage, wishes.nodes):
            raise ValueError(f"{stage}: {text}")
    return resources


class NamedPretraining(Pretraining):
    """A pretraining that no table asks for.

    Attributes:
        head: which the method pretrains, if it does.
    """

    backbone: Name
    head: Name | None = None


class CampaignSettings(Settings):
    """One campaign file; see docs/architecture.md."""

    name: Name
    title: str
    base: str | None = None  # a campaign whose keys hold where this one has none
    scale: Literal["demo", "mini", "paper"]
    tables: Annotated[tuple[Name, ...], Once]
    pretrainings: tuple[NamedPretraining, ...] = ()  # beside those that tables need
    select: dict[Name, TableSelection] = Field(default_factory=dict)
    stand_ins: bool = False  # pretrain here what stands in for files that cannot be had
    extra_rows: bool = True  # rows that the published tables do not have (random init)
    seeds: SeedSettings = SeedSettings()
    epochs: dict[int, PositiveInt] = Field(default_factory=dict)  # published: at this scale
    substitute: dict[Name, Name] = Field(default_factory=dict)  # named in a table: used here
    overrides: dict[str, Any] = Field(default_factory=dict)
    imported: Annotated[tuple[FolderPath, ...], Once] = ()  # YAML files of scores made elsewhere
    world: WorldSettings | None = None
    world_checkpoints: dict[Name, PublishedCheckpoint] = Field(default_factory=dict)
    execution: Execution = Execution()
    resources: Annotated[dict[Job, Resources], AfterValidator(_nodes_of_trainings)] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _makes_something(self) -> "CampaignSettings":
        if not self.tables and not self.pretrainings:
            raise ValueError("has neither tables nor pretrainings; name one of either")
        return self
