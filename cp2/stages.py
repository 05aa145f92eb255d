"""The stages of the pipeline, each once: folder, files, where it runs, what it writes.

Rules, paths, resources, costs, tracking and reports ask this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # takes a tenth of what `cp2 --help` takes
    from cp2.record.folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """One kind of run: one Snakemake rule and one `cp2` command.

    Attributes:
        name: of the rule, the command and the tag.
        folder: below the results, in which each run has a folder of its own.
        files: final files of a run by name; "done" (or what stands for it) is written last.
        weights: the file among `files` that others start from, if it makes any.
        version: raised when a change of the stage's code changes its results: its runs, and all
            that start from them, get new ids.
        on_cluster: jobs go to the scheduler; all others run where Snakemake runs.
        on_device: its work is done by a GPU, where there is one, and counted in device-hours.
        processes: a job may train on several GPUs.
        threads: of the numeric libraries; None: as many as the job has.
        logged: steps are written to metrics.jsonl.
        tracked: each run is a run in MLflow.
    """

    name: str
    files: Mapping[str, str]
    folder: str = ""
    weights: str | None = None
    version: int = 1
    on_cluster: bool = False
    on_device: bool = False
    processes: bool = False
    threads: int | None = None
    logged: bool = False
    tracked: bool = False

    def run_folder(self, results: Path, run_id: str) -> "RunFolder":
        """Where a run's files are."""
        from cp2.record.folder import RunFolder

        return RunFolder(results / (self.folder or self.name) / run_id)

    def paths(self, results: Path, run_id: str) -> dict[str, Path]:
        """A run's final files by name."""
        folder = self.run_folder(results, run_id).path
        return {name: folder / file for name, file in self.files.items()}


_DONE = "done.json"


def _training(name: str) -> Stage:
    """A stage whose runs are trained step by step."""
    return Stage(
        name,
        {"model": "model.safetensors", "done": _DONE},
        weights="model",
        on_cluster=True,
        on_device=True,
        processes=True,
        logged=True,
        tracked=True,
    )


STAGES = {
    stage.name: stage
    for stage in (
        Stage("world", {"done": "SHA256SUMS"}),
        Stage("publish", {"done": "SHA256SUMS"}, "world/published"),
        Stage("dataset", {"index": "index.csv", "done": "dataset.json"}, "datasets"),
        Stage(
            "checkpoint",
            {"model": "backbone.safetensors", "done": _DONE},
            "checkpoints",
            weights="model",
        ),
        Stage("cache", {"pixels": "pixels.u8", "done": _DONE}, on_cluster=True, threads=1),
        Stage("masks", {"maps": "maps.u8", "done": _DONE}, on_cluster=True, on_device=True),
        _training("pretrain"),
        _training("finetune"),
        Stage(
            "evaluate",
            {"scores": "scores.json", "done": _DONE},
            on_cluster=True,
            on_device=True,
            tracked=True,
        ),
    )
}

# Part of every run id.
ALGORITHM_VERSION = {stage.name: stage.version for stage in STAGES.values()}


def names(condition: Callable[[Stage], object]) -> tuple[str, ...]:
    """Names of the stages that meet a condition, in the order of the pipeline."""
    return tuple(stage.name for stage in STAGES.values() if condition(stage))


ON_CLUSTER = names(lambda stage: stage.on_cluster)
ON_DEVICE = names(lambda stage: stage.on_device)
PRETRAINED = ("checkpoint", "pretrain")  # whose weights others start from
LOGGED = names(lambda stage: stage.logged)
TRACKED = names(lambda stage: stage.tracked)


def folder_of(key: str, results: Path) -> "RunFolder":
    """The folder of the run with a key "<stage>/<run id>"."""
    stage, _, run_id = key.partition("/")
    return STAGES[stage].run_folder(results, run_id)


def files_of(key: str, results: Path) -> dict[str, Path]:
    """Final files by name of the run with a key "<stage>/<run id>"."""
    stage, _, run_id = key.partition("/")
    return STAGES[stage].paths(results, run_id)


def weights_of(key: str, results: Path) -> Path:
    """The safetensors file of the run with a key "<stage>/<run id>"."""
    weights = STAGES[key.partition("/")[0]].weights
    assert weights is not None, f"{key} makes no weights"
    return files_of(key, results)[weights]
