"""What runs logged while they trained: curves of chosen runs, losses of every pretraining."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

from cp2.errors import UserError
from cp2.plan.graph import Plan, Run
from cp2.plan.places import Places
from cp2.record.metrics import read_metrics, read_metrics_and_damage
from cp2.record.readers import number
from cp2.reporting.figures.drawing import (
    COLOURS,
    STYLE,
    STYLES,
    ReportFigure,
    panel_grid,
    run_title,
    save,
)
from cp2.reporting.recipes import cell_settings
from cp2.settings.messages import nearest
from cp2.stages import LOGGED

PROBES = "probe/*_miou"  # what cp2 probe says of snapshots
USUAL = ("loss*", "accuracy_instance", "accuracy", "lr", "samples_per_second", PROBES)
_NO_METRICS = ("step", "time", "epoch")
_UNITS = {"samples_per_second": "samples a second", "lr": "learning rate"}
_LONG = 45  # characters of a label, above which the legend has one column
_TOLD = ("dataset", "labels", "stage", "table", "variant", "head", "backbone", "method")


class Curve(NamedTuple):
    """One line of a panel; curves of one label have one colour in all panels."""

    label: str
    steps: list[int]
    values: list[float]


class Panel(NamedTuple):
    """Curves over steps."""

    title: str
    curves: list[Curve]


@dataclass(frozen=True)
class Log:
    """What one run logged; `problem` says what of it could not be read."""

    run: Run
    lines: list[dict[str, Any]]
    problem: str | None

    @property
    def names(self) -> list[str]:
        """All metrics, in the order in which they first appear."""
        there = dict.fromkeys(key for line in self.lines for key in line)
        return [key for key in there if key not in _NO_METRICS]

    def curve(self, label: str, metric: str) -> Curve:
        """One metric's numbers; nulls, which stand for what is not finite, are left out."""
        points = [(x["step"], x[metric]) for x in self.lines if number(x.get(metric)) is not None]
        return Curve(label, [step for step, _ in points], [value for _, value in points])


def read_logs(runs: Sequence[Run], results: Path) -> list[Log]:
    """The logs of those runs that have logged something, with scores of their snapshots."""
    logs = []
    for run in runs:
        folder = run.folder(results)
        lines, problem = read_metrics_and_damage(folder.metrics)
        logs.append(Log(run, [*lines, *read_metrics(folder.probes)], problem))
    return [log for log in logs if log.lines]


def curves(
    runs: Sequence[Run],
    places: Places,
    results: Path,
    metrics: Sequence[str],
    folder: Path,
    name: str,
) -> ReportFigure:
    """Draw <folder>/<name>.{png,svg}; runs that differ in the seed only have one colour.

    Args:
        metrics: names as in metrics.jsonl, with * and ?; none: losses, instance accuracy, learning
            rate and throughput.
    Raises:
        UserError: no run has logged anything, or none of these metrics.
    """
    logs = read_logs(runs, results)
    if not logs:
        raise UserError(f"none of the {len(runs)} chosen runs has logged anything yet")
    known = list(dict.fromkeys(name for log in logs for name in log.names))
    shown = [key for wanted in metrics or USUAL for key in known if fnmatchcase(key, wanted)]
    if not shown:
        raise UserError(f"--metric {', '.join(metrics)}: not logged; there is: {', '.join(known)}")
    labels = labels_of([log.run for log in logs], places)
    panels = [
        Panel(_UNITS.get(metric, metric), [log.curve(labels[log.run.key], metric) for log in logs])
        for metric in dict.fromkeys(shown)
    ]
    caption = f"As logged, of {len(logs)} runs; losses of two methods do not compare."
    return draw_panels(panels, folder, name, "Training curves", caption + problems(logs))


def losses(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """A small panel for each pretraining that has logged a loss."""
    logs = [
        (log, names)
        for log in read_logs(list(plan.stage("pretrain")), results)
        if (names := _loss_names(log.names))
    ]
    if not logs:
        return None
    panels = [Panel(run_title(log.run), [log.curve(n, n) for n in names]) for log, names in logs]
    caption = (
        "Training loss of every pretraining, as logged; losses of two methods do not compare. The "
        "instance loss rises at first: the queue starts with random vectors, and fills with keys "
        "that are harder to tell apart. CP²'s dense loss stays near the logarithm of the number of "
        "cells and moves by a few tenths only."
    )
    caption += problems([log for log, _ in logs])
    return draw_panels(panels, folder, "losses", "Pretraining losses", caption)


def probes(plan: Plan, places: Places, results: Path, folder: Path) -> ReportFigure | None:
    """A panel for each probe of frozen features: its mIoU over the training, a curve a run."""
    probed = [run for run in plan.stage("pretrain") if run.folder(results).probes.is_file()]
    logs = read_logs(probed, results)
    known = dict.fromkeys(name for log in logs for name in log.names)
    names = [name for name in known if fnmatchcase(name, PROBES) or _alone(name, known)]
    if not names:
        return None
    labels = labels_of([log.run for log in logs], places)
    panels = [
        Panel(name.removeprefix("probe/"), [log.curve(labels[log.run.key], name) for log in logs])
        for name in names
    ]
    caption = "mIoU or accuracy (share) of frozen features by `cp2 probe`; a line a seed."
    return draw_panels(panels, folder, "probes", "Probes of snapshots", caption)


def _alone(name: str, known: Container[str]) -> bool:
    """Whether it is the accuracy of a probe of images with one class each, which have no mIoU."""
    probe = name.removesuffix("_accuracy").removesuffix("_mean")
    accuracy = name.startswith("probe/") and name.endswith("_accuracy")
    return accuracy and f"{probe}_miou" not in known


def _loss_names(names: list[str]) -> list[str]:
    return [name for name in names if name.split("/")[-1].startswith("loss")]


def draw_panels(
    panels: Sequence[Panel], folder: Path, name: str, title: str, caption: str
) -> ReportFigure:
    """Panels side by side under one legend."""
    labels = dict.fromkeys(curve.label for panel in panels for curve in panel.curves)
    order = {label: number for number, label in enumerate(labels)}
    with matplotlib.rc_context(STYLE):
        figure, axes = panel_grid(len(panels), across=3, width=3.4, height=2.6)
        handles = {}
        for axis, panel in zip(axes, panels, strict=True):
            for curve in panel.curves:
                index = order[curve.label]
                (handles[curve.label],) = axis.plot(
                    curve.steps,
                    curve.values,
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=STYLES[index // len(COLOURS) % len(STYLES)],
                    marker="." if len(curve.steps) < 3 else None,
                    lw=1.1,
                )
            axis.set_title(panel.title, fontsize=8)
            axis.set_xlabel("step")
            axis.grid(alpha=0.3, lw=0.5)
        columns = 1 if max(map(len, labels)) > _LONG else 2 if len(labels) < 4 else 4
        columns = min(columns, 2) if max(map(len, labels)) > _LONG // 2 else columns
        figure.legend(
            [handles[label] for label in labels],
            list(labels),
            loc="outside upper left",
            ncols=columns,
        )
        return save(figure, folder, name, title, caption)


def problems(logs: Sequence[Log]) -> str:
    """What of the logs could not be read, as the end of a caption."""
    return "".join(f" {log.problem}." for log in logs if log.problem)


def labels_of(runs: Sequence[Run], places: Places) -> dict[str, str]:
    """Run key -> its table row, and what else tells it from the other runs; the seed does not."""
    recipes = {run.key: tuple(cell_settings(places.plan, (run.key,)).items()) for run in runs}
    first: dict[object, dict[str, str]] = {}
    for run in runs:
        first.setdefault(recipes[run.key], places.tags(run))
    tags = list(first.values())
    labels = [one.get("row", one["run_id"]) for one in tags]
    for name in (*_TOLD, "run_id"):
        labels = _told_apart(labels, [one.get(name, "") for one in tags])
    label_of = dict(zip(first, labels, strict=True))
    return {run.key: label_of[recipes[run.key]] for run in runs}


def _told_apart(labels: list[str], words: list[str]) -> list[str]:
    """Labels that are there several times get their words, where these differ."""
    different: dict[str, set[str]] = {}
    for label, word in zip(labels, words, strict=True):
        different.setdefault(label, set()).add(word)
    return [
        f"{label} · {word}" if word and len(different[label]) > 1 else label
        for label, word in zip(labels, words, strict=True)
    ]


def choose_runs(places: Places, conditions: Sequence[str]) -> list[Run]:
    """Training runs that meet all conditions.

    Args:
        conditions: "key=value" with any tag of a run as MLflow has it (stage, seed, method, row,
            dataset, variant, ...), or id; `table` and `row` are any that need the run. The value
            may be several with commas between, each with * and ?.
    Raises:
        UserError: a condition is none, its key is unknown, or no run meets it.
    """
    left = [(run, _described(run, places)) for stage in LOGGED for run in places.plan.stage(stage)]
    keys = dict.fromkeys(key for _, tags in left for key in tags)
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals or key not in keys:
            raise UserError(
                f"--where {condition!r}: write key=value; "
                + (
                    f"no key {key!r}; {nearest(key, keys)}"
                    if equals
                    else f"keys: {', '.join(keys)}"
                )
            )
        meeting = [(run, tags) for run, tags in left if _meets(tags.get(key, set()), wanted)]
        if not meeting:
            there = sorted({value for _, tags in left for value in tags.get(key, set())})
            raise UserError(
                f"--where {condition!r}: no run of campaign and earlier conditions has that; "
                f"{key} is one of: {', '.join(there[:20])}{' ...' if len(there) > 20 else ''}"
            )
        left = meeting
    return [run for run, _ in left]


def _described(run: Run, places: Places) -> dict[str, set[str]]:
    rows = places.rows[run.key]
    tags = {key: {value} for key, value in places.tags(run).items()}
    several = {"table": {row.table for row in rows}, "row": {row.name for row in rows}}
    return {"stage": {run.stage}, "id": {run.id}} | tags | (several if rows else {})


def _meets(values: set[str], wanted: str) -> bool:
    return any(fnmatchcase(value, one) for value in values for one in wanted.split(","))
