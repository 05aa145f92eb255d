"""Disk space that a campaign's runs take, asked of their networks."""

from dataclasses import dataclass
from pathlib import Path

from cp2.costs.networks import Counts, backbone_bytes, count_training
from cp2.plan.graph import Plan
from cp2.plan.recipes import CheckpointRecipe, DatasetRecipe

SAVES = 3  # the newest state, the one before it, and the one being written


@dataclass(frozen=True)
class Disk:
    """Bytes.

    Attributes:
        archives: downloads, as far as their sizes are published.
        unpacked: the data sets made of them; images are stored compressed, so about as much.
        models: final weights of all runs.
        states: resume states of one job of each stage while it trains; the largest counts.
        unknown: what has no published size.
    """

    archives: float
    unpacked: float
    models: int
    states: int
    unknown: tuple[str, ...]

    @property
    def total(self) -> float:
        return self.archives + self.unpacked + self.models + self.states


def disk_space(plan: Plan, results: Path | None = None) -> Disk:
    """What a whole campaign takes; archives that two data sets share count once.

    Args:
        results: leaves out the runs that are done there.
    """
    archives: dict[str, float] = {}
    trained: list[Counts] = []
    unpacked, models = 0.0, 0
    unknown: list[str] = []
    for run in plan.runs.values():
        if results and run.is_done(results):
            continue
        match run.recipe:
            case DatasetRecipe(dataset=dataset) if not run.needs:
                sizes = {archive.file: archive.gb for archive in dataset.archives}
                unknown += [name for name, gb in sizes.items() if gb is None]
                known = {name: 1e9 * gb for name, gb in sizes.items() if gb is not None}
                archives |= known
                unpacked += sum(known.values()) if dataset.unpack else 0.0
            case CheckpointRecipe(backbone=backbone):
                models += backbone_bytes(backbone)
            case recipe if counts := count_training(recipe):
                trained.append(counts)
    models += sum(counts.weights for counts in trained)
    states = SAVES * max((counts.state for counts in trained), default=0)
    total = sum(archives.values())
    return Disk(total, unpacked, models, states, tuple(dict.fromkeys(unknown)))
