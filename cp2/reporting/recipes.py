"""A cell's settings as flat keys, and how they differ from another cell's."""

import itertools
from dataclasses import dataclass
from typing import Any

import yaml

from cp2.errors import UserError
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols import evaluate_cell
from cp2.plan.recipes import CheckpointRecipe
from cp2.plan.stages import Stages
from cp2.settings.base import hashed_fields, leaves
from cp2.settings.load import Configuration
from cp2.stages import TRACKED

SHOWN = ("checkpoint", *TRACKED)
NONE = "–"  # a setting that only the other side has
Flat = dict[str, str]
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # C's is ten times as fast


@dataclass(frozen=True)
class Difference:
    """One setting: its key, there and here; or a stage of one side, with its settings inside."""

    key: str
    there: str
    here: str
    inside: tuple["Difference", ...] = ()


def recipe_text(run: Run) -> str:
    """All settings of a run as YAML."""
    content = run.recipe.model_dump(mode="json")
    return yaml.dump(content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=100)


def cell_settings(plan: Plan, runs: tuple[str, ...]) -> Flat:
    """Everything that can change the numbers of a cell's first run: "finetune.classes": "21".

    The last run of a stage has its name, so that Quick Tuning compares with a pretraining; what it
    starts from has keys "earlier pretrain...".
    """
    flat: Flat = {}
    shown = [run for run in plan.ancestors(list(runs[:1])) if run.stage in SHOWN]
    for place, run in enumerate(shown):
        later = sum(other.stage == run.stage for other in shown[place + 1 :])
        named = leaves(_content(run), "earlier " * later + run.stage)
        flat |= {key: _text(value) for key, value in named}
    return flat


def differences(there: Flat, here: Flat) -> list[Difference]:
    """Settings that are not the same, in the order in which they are written; a stage that is on
    one side only is one difference."""
    found: dict[str, list[Difference]] = {}
    ours, theirs = _stages(here), _stages(there)
    for key in dict.fromkeys((*here, *there)):
        if there.get(key) != here.get(key):
            one = Difference(key, there.get(key, NONE), here.get(key, NONE))
            stage = _stage(key)
            whole = stage and (stage in ours) != (stage in theirs)
            found.setdefault(stage if whole else key, []).append(one)
    return [_folded(name, some) for name, some in found.items()]


def _folded(name: str, some: list[Difference]) -> Difference:
    if len(some) == 1:
        return some[0]
    count = f"{len(some)} settings"
    there, here = (count, NONE) if some[0].here == NONE else (NONE, count)
    return Difference(name, there, here, tuple(some))


def _stages(flat: Flat) -> set[str]:
    return {_stage(key) for key in flat}


def _stage(key: str) -> str:
    stage, dot, _ = key.partition(".")
    return stage if dot else ""


def published_settings(configuration: Configuration) -> dict[tuple[str, str, str], Flat]:
    """(table, row, column) -> settings as configs/ has them for the paper.

    That is without this campaign's substitutes, epochs, overrides and `--set`. Cells that only a
    campaign's own data can fill are left out.
    """
    campaign = configuration.campaign.model_copy(
        update={
            "substitute": {},
            "epochs": {},
            "overrides": {},
            "world": None,
            "world_checkpoints": {},
        }
    )
    paper = Configuration(campaign, configuration.configs, (), {}, {}, configuration.source)
    found = {}
    for name in campaign.tables:
        plan = Plan()
        stages = Stages(paper, plan)
        table = configuration.table(name)
        for row, column in itertools.product(table.rows, table.columns):
            try:
                run = evaluate_cell(stages, table, row, column, 0, 0)
            except UserError:  # names data or weights that this campaign alone defines
                continue
            found[name, row.name, column.name] = cell_settings(plan, (run.key,))
    return found


def _content(run: Run) -> dict[str, Any]:
    if isinstance(run.recipe, CheckpointRecipe):
        return {"file": run.recipe.checkpoint.archive.file}
    content = hashed_fields(run.recipe)
    if content.get("start"):  # its settings are listed themselves; ids always differ
        content["start"] = str(content["start"]).partition("/")[0]
    return content


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return "none" if value is None else str(value)
