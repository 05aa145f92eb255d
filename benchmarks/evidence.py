"""What small pretrainings on photographs show: a campaign's results as CSV, table and figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from benchmarks.machine import VERSIONS
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.plan.places import Places
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.files import write_json, write_text
from cp2.record.metrics import read_metrics
from cp2.record.readers import read_environment, read_scores
from cp2.reporting.figures.drawing import COLOURS, STYLE, panel_grid, save
from cp2.settings.load import load_campaign

KINDS = {"linear-segmentation": "linear", "knn": "nearest", "segmentation": "finetuned"}
PROBED = {"linear_miou": "linear", "knn_miou": "nearest"}  # `cp2 probe` with these protocols
KEPT = ("device", *VERSIONS)
COLUMNS = ["table", "row", "seed", "epoch", "measure", "miou", "run", "commit"]


def write_evidence(campaign: str, folder: Path) -> Path:
    """Write <campaign's name>.{csv,md,png,svg,json} of what is done; returns the table's file.

    Raises:
        UserError: nothing is done yet.
    """
    configuration = load_campaign(campaign)
    name, plan = Path(campaign).stem, build_plan(configuration)
    found = pd.DataFrame(_rows(plan, configuration.results), columns=COLUMNS)
    if found.empty:
        raise UserError(f"campaign {campaign!r}: nothing was probed yet; see docs/probes.md")
    order = {cell.row: n for table in plan.tables.values() for n, cell in enumerate(table.cells)}
    found = found.drop_duplicates(COLUMNS[:5]).sort_values(
        COLUMNS[:5], key=lambda one: one.map(order) if one.name == "row" else one
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.csv", found.to_csv(index=False, lineterminator="\n"))
    write_json(folder / f"{name}.json", _environments(plan, configuration.results))
    table = folder / f"{name}.md"
    write_text(table, to_markdown(found))
    draw(found, folder, name)
    return table


def _environments(plan: Plan, results: Path) -> list[dict[str, Any]]:
    """With what the runs were made: each different one once."""
    found = []
    for run in plan.runs.values():
        if (
            run.stage in ("pretrain", "finetune", "evaluate")
            and run.folder(results).environment.is_file()
        ):
            whole = read_environment(run.folder(results).environment)
            found.append({key: whole.get(key) for key in KEPT})
    return [one for number, one in enumerate(found) if one not in found[:number]]


def _rows(plan: Plan, results: Path) -> Iterator[list[Any]]:
    """Of finished evaluations, then of snapshots; mIoU in per cent."""
    places = Places(plan)
    for run in plan.runs.values():
        if (
            isinstance(run.recipe, EvaluateRecipe)
            and run.recipe.protocol in KINDS
            and run.is_done(results)
        ):
            scores = read_scores(run.folder(results).scores, run.recipe.metrics, run.id).values
            trained = places.pretraining_of(run)
            epochs = trained.recipe.epochs if trained else 0  # type: ignore[union-attr]
            start = trained or run
            kind = KINDS[run.recipe.protocol]
            yield _row(places, start, results, run, epochs, kind, scores["miou"])
    scored = {run.need("dataset") for run in plan.stage("evaluate")}
    for run in plan.stage("pretrain"):
        for line in read_metrics(run.folder(results).probes):
            for key, value in line.items():
                dataset, _, name = key.removeprefix("probe/").partition("/")
                measure = PROBED.get(name)
                if measure and dataset in scored and places.rows[run.key]:
                    yield _row(places, run, results, run, line["epoch"], measure, value)


def _row(
    places: Places, start: Run, results: Path, scored: Run, epoch: int, measure: str, miou: float
) -> list[Any]:
    place = places.rows[scored.key][0]
    commit = read_environment(start.folder(results).environment).get("git_commit")
    short = str(commit or "")[:7]
    return [
        place.table,
        place.name,
        start.seed or 0,
        epoch,
        measure,
        round(100 * miou, 3),
        start.id,
        short,
    ]


def to_markdown(found: pd.DataFrame) -> str:
    """A line a row and epoch: every seed's mIoU, mean and standard deviation (n - 1)."""
    measures = [name for name in KINDS.values() if name in set(found["measure"])]
    lines = ["| row | epochs |" + "".join(f" {name}: each seed | mean |" for name in measures)]
    lines.append("|---" * (2 + 2 * len(measures)) + "|")
    for (_, name, epoch), some in found.groupby(["table", "row", "epoch"], sort=False):
        cells = [str(name), str(epoch)]
        for measure in measures:
            values = some[some["measure"] == measure].sort_values("seed")["miou"].to_numpy()
            spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(", ".join(f"{value:.2f}" for value in values) or "-")
            cells.append(f"{values.mean():.2f}{spread} ({len(values)})" if len(values) else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: pd.DataFrame, folder: Path, name: str) -> None:
    """A panel a table and measure: a line a seed over epochs; what was not trained lies flat."""
    panels = list(found.groupby(["table", "measure"], sort=False))
    methods = found["row"].str.removesuffix(" QT").unique()  # a colour each, in all panels
    colours = {method: COLOURS[n % len(COLOURS)] for n, method in enumerate(methods)}
    with matplotlib.rc_context(STYLE):
        figure, axes = panel_grid(len(panels), across=2, width=4.2, height=3.0)
        for axis, ((table, measure), some) in zip(axes, panels, strict=True):
            for row, points in some.groupby("row", sort=False):
                colour = colours[str(row).removesuffix(" QT")]
                for seed, line in points.groupby("seed"):
                    label = str(row) if seed == points["seed"].min() else None
                    if not line["epoch"].any():
                        axis.axhline(line["miou"].iloc[0], color=colour, ls=":", lw=1, label=label)
                        continue
                    axis.plot(
                        line["epoch"], line["miou"], marker=".", color=colour, lw=1, label=label
                    )
            axis.set_title(f"{str(table).removeprefix('evidence_').replace('_', ' ')}: {measure}")
            axis.set_xlabel("epoch")
            axis.set_ylabel("mIoU, per cent")
            axis.set_ylim(0, 1.08 * some["miou"].max())
            axis.set_xticks(np.unique(found["epoch"]))
            axis.legend(fontsize=7)
        save(figure, folder, name, "Evidence", "")
