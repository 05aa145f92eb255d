"""Runs, and the graph that they form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cp2.errors import UserError
from cp2.plan.recipes import Recipe
from cp2.record.digest import digest
from cp2.record.folder import RunFolder
from cp2.record.kept import has_content, keep, take_back
from cp2.record.readers import check_owner
from cp2.settings.base import hashed_fields
from cp2.settings.imported import ImportedScores
from cp2.settings.messages import nearest
from cp2.stages import ALGORITHM_VERSION, PRETRAINED, STAGES, folder_of, names


@dataclass(frozen=True)
class Run:
    """One recipe with one seed.

    Attributes:
        id: folder name below results/<stage>/: slug + first 8 hex digits of `digest` (data sets,
            checkpoints and the demo world keep their plain names).
        digest: hash of recipe, seed, the digests of the runs it starts from, algorithm version.
        needs: keys ("<stage>/<id>") of the runs it starts from.
        tags: how the run is found: method, backbone, head, dataset, ...
    """

    stage: str
    id: str
    digest: str
    recipe: Recipe
    seed: int | None
    needs: tuple[str, ...]
    tags: dict[str, str] = field(compare=False)

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.id}"

    def folder(self, results: Path) -> RunFolder:
        return STAGES[self.stage].run_folder(results, self.id)

    def outputs(self, results: Path) -> dict[str, Path]:
        """Final files, named; `done` (or what stands for it) is written last."""
        return STAGES[self.stage].paths(results, self.id)

    def is_done(self, results: Path) -> bool:
        return all(map(has_content, self.outputs(results).values()))

    def finish(self, results: Path, summary: dict[str, Any]) -> None:
        """Write done.json, and keep the final files where Snakemake does not delete them.

        Raises:
            UserError: one of them was deleted meanwhile.
        """
        self.folder(results).finish(summary)
        keep(list(self.outputs(results).values()), self.digest)

    def check_needs(self, results: Path) -> None:
        """Raise WrongFile where the folder of a run that this one starts from is another's copy."""
        for key in self.needs:
            if key.startswith("dataset/"):  # says its name in dataset.json
                continue
            check_owner(folder_of(key, results).recipe, key.partition("/")[2])

    def take_back(self, results: Path) -> bool:
        """Give kept final files their names again; whether all were there."""
        return take_back(list(self.outputs(results).values()), self.digest)

    def need(self, stage: str) -> str | None:
        """Id of the run of that stage that this run starts from, if any."""
        ids = [key.removeprefix(f"{stage}/") for key in self.needs if key.startswith(f"{stage}/")]
        return ids[0] if ids else None

    def needed_folder(self, stage: str, results: Path) -> RunFolder:
        """The folder of the run of that stage that this run starts from; there must be one."""
        run_id = self.need(stage)
        assert run_id is not None, f"{self.key} needs no {stage}"
        return STAGES[stage].run_folder(results, run_id)

    @property
    def pretrained(self) -> str | None:
        """Key of the checkpoint or pretraining that this run starts from, if any."""
        return next((key for key in self.needs if key.partition("/")[0] in PRETRAINED), None)


def run_digest(stage: str, recipe: Recipe, seed: int | None, needs: list[str]) -> str:
    """The hash of all that can change a run's numbers; `needs` are digests."""
    return digest(
        {
            "stage": stage,
            "recipe": hashed_fields(recipe),
            "seed": seed,
            "needs": needs,
            "version": ALGORITHM_VERSION[stage],
        }
    )


def make_run(
    stage: str,
    name: str,
    recipe: Recipe,
    needs: list[Run],
    tags: dict[str, str],
    seed: int | None = None,
    plain_name: bool = False,
) -> Run:
    """A run with its id; `plain_name` keeps `name` as the id (data sets, checkpoints)."""
    full = run_digest(stage, recipe, seed, [run.digest for run in needs])
    run_id = name if plain_name else f"{name}-{full[:8]}"
    return Run(stage, run_id, full, recipe, seed, tuple(run.key for run in needs), tags)


@dataclass(frozen=True)
class Cell:
    """One number of a table: evaluate runs, scores made elsewhere, or why there is none."""

    row: str
    column: str
    runs: tuple[str, ...]  # keys of evaluate runs, one a seed
    missing: str | None = None
    imported: ImportedScores | None = None  # in place of runs


@dataclass(frozen=True)
class PlannedTable:
    """A table with its cells in row-major order."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(key for cell in self.cells for key in cell.runs))


@dataclass
class Plan:
    """All runs of a campaign, in an order in which every run comes after what it needs."""

    runs: dict[str, Run] = field(default_factory=dict)
    tables: dict[str, PlannedTable] = field(default_factory=dict)
    pretrainings: list[str] = field(default_factory=list)  # keys of those that no table asks for
    requested: int = 0  # runs that would be needed if no table shared any

    def add(self, run: Run) -> Run:
        """Add a run, or return the one that is already there."""
        known = self.runs.setdefault(run.key, run)
        if known.digest != run.digest:
            raise UserError(
                f"{run.key}: two tables of this campaign define it differently; rename one"
            )
        return known

    def run(self, stage: str, run_id: str) -> Run:
        """Look a run up.

        Raises:
            UserError: there is none; names the nearest id.
        """
        run = self.runs.get(f"{stage}/{run_id}")
        if run is None:
            known = [r.id for r in self.stage(stage)]
            raise UserError(f"no {stage} run {run_id!r} in this campaign; {nearest(run_id, known)}")
        return run

    def needed(self, run: Run, stage: str) -> Run:
        """The run of that stage that a run starts from; there must be one."""
        return self.runs[f"{stage}/{run.need(stage)}"]

    def find(self, name: str, stages: Sequence[str] = tuple(STAGES)) -> Run:
        """Look a run of these stages up, by id or by <stage>/<id>.

        Raises:
            UserError: there is none, or several of that id; names the nearest id.
        """
        known = [run for run in self.runs.values() if run.stage in stages]
        found = [run for run in known if name in (run.id, run.key)]
        if len(found) > 1:
            raise UserError(f"{name!r}: write one of {', '.join(run.key for run in found)}")
        if not found:
            what = "" if len(stages) == len(STAGES) else f"{', '.join(stages)} "
            near = nearest(name, [run.id for run in known])
            raise UserError(f"{name!r}: no {what}run of this campaign (--campaign); {near}")
        return found[0]

    def with_weights(self, name: str) -> Run:
        """Look a run that makes weights up; see `find`."""
        return self.find(name, names(lambda stage: stage.weights))

    def stage(self, stage: str) -> Iterator[Run]:
        return (run for run in self.runs.values() if run.stage == stage)

    def ancestors(self, keys: list[str]) -> list[Run]:
        """The runs with these keys and all that they start from, each once, needs first."""
        seen: dict[str, Run] = {}

        def visit(key: str) -> None:
            if key not in seen:
                for need in self.runs[key].needs:
                    visit(need)
                seen[key] = self.runs[key]

        for key in keys:
            visit(key)
        return list(seen.values())

    @cached_property
    def dependants(self) -> dict[str, list[str]]:
        """Key of a run -> keys of the runs that start from it."""
        below: dict[str, list[str]] = {key: [] for key in self.runs}
        for run in self.runs.values():
            for need in run.needs:
                below[need].append(run.key)
        return below
