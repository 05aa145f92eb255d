"""A plan's runs in a file: jobs get theirs from the Snakemake that started them."""

from importlib import import_module
from pathlib import Path
from typing import Any

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run, run_digest
from cp2.record.digest import canonical_json
from cp2.record.files import read_json, write_json
from cp2.stages import ON_CLUSTER

VARIABLE = "CP2_PLANNED"  # names the file; set by the Snakefile in its jobs, and there only


def write_planned(path: Path, plan: Plan) -> None:
    """Write the runs that jobs are started for."""
    runs = [run for run in plan.runs.values() if run.stage in ON_CLUSTER]
    write_json(path, {run.key: _as_json(run, plan) for run in runs})


def _as_json(run: Run, plan: Plan) -> dict[str, Any]:
    return {
        "model": [type(run.recipe).__module__, type(run.recipe).__name__],
        "recipe": run.recipe.model_dump(mode="json"),
        "seed": run.seed,
        "needs": [(key, plan.runs[key].digest) for key in run.needs],
        "tags": run.tags,
    }


def read_planned(path: Path, stage: str, run_id: str) -> Run | None:
    """A run of the file; None where it is not there, or not what its id says.

    The digest is computed anew: a file of another version of the code, or one that is damaged, is
    not believed, and the caller has to plan.
    """
    try:
        found = read_json(path)[f"{stage}/{run_id}"]
        module, name = found["model"]
        if not module.startswith("cp2.plan."):
            return None
        model = getattr(import_module(module), name)
        recipe = model.model_validate_json(canonical_json(found["recipe"]))
        needs, seed = dict(found["needs"]), found["seed"]
        digest = run_digest(stage, recipe, seed, list(needs.values()))
        if run_id.endswith(f"-{digest[:8]}"):
            return Run(stage, run_id, digest, recipe, seed, tuple(needs), dict(found["tags"]))
    except (WrongFile, ImportError, AttributeError, KeyError, TypeError, ValueError):
        pass
    return None
