"""Figures of the pretrainings themselves: losses, and what they saw."""

from pathlib import Path
from typing import Any

from cp2.plan.graph import Plan, Run
from cp2.record.metrics import read_metrics
from cp2.reporting.figures.drawing import (
    COLOURS,
    STYLES,
    ReportFigure,
    panel_grid,
    read_picture,
    save,
)


def losses(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """A small panel for each pretraining that has logged a loss."""
    curves = [
        (run, lines, names)
        for run in plan.stage("pretrain")
        if (names := _loss_names(lines := read_metrics(run.folder(results).metrics)))
    ]
    if not curves:
        return None
    figure, panels = panel_grid(len(curves), across=3, width=3.0, height=2.2)
    colour = dict.fromkeys(name for _, _, names in curves for name in names)
    order = {name: index for index, name in enumerate(colour)}
    for panel, (run, lines, names) in zip(panels, curves, strict=True):
        for name in names:
            points = [(x["step"], x[name]) for x in lines if x.get(name) is not None]
            index = order[name]
            panel.plot(
                *zip(*points, strict=True) if points else ([], []),
                color=COLOURS[index % len(COLOURS)],
                linestyle=STYLES[index % len(STYLES)],
                lw=1.2,
                label=name,
            )
        panel.set_title(_title(run), fontsize=8)
        panel.set_xlabel("step")
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    caption = (
        "Training loss of every pretraining, as logged; losses of two methods do not compare. The "
        "instance loss rises at first: the queue starts with random vectors, and fills with keys "
        "that are harder to tell apart. CP²'s dense loss stays near the logarithm of the number of "
        "cells and moves by a few tenths only."
    )
    return save(figure, folder, "losses", "Pretraining losses", caption)


def composed(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """What each kind of pretraining saw in its first batch."""
    kinds: dict[tuple[str, ...], tuple[Run, Path]] = {}
    for run in plan.stage("pretrain"):
        path = run.folder(results).pictures / "composed.png"
        kind = (run.tags["method"].removesuffix("-qt"), *_masks(run), run.tags["dataset"])
        if path.is_file():
            kinds.setdefault(kind, (run, path))
    if not kinds:
        return None
    figure, panels = panel_grid(len(kinds), across=2, width=5.0, height=2.8)
    for panel, (run, path) in zip(panels, kinds.values(), strict=True):
        panel.set_axis_off()
        panel.imshow(read_picture(path), interpolation="none")
        panel.set_title(_title(run), fontsize=8)
    caption = (
        "A line an image. CP²: foreground, background, mask and composed image of the query, "
        "then of the key. MoCo v2: the two views. One sheet for each method, mask and data set."
    )
    title = "What the pretrainings see"
    return save(figure, folder, "composed", title, caption, photographs=True)


def _loss_names(lines: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for line in lines for name in line)
    return [name for name in names if name.split("/")[-1].startswith("loss")]


def _masks(run: Run) -> list[str]:
    """The parts of the run's variant that change what is seen."""
    return [word for word in run.tags.get("variant", "").split() if word.startswith("mask.")]


def _title(run: Run) -> str:
    variant = run.tags.get("variant")
    return run.id.rsplit("-", 1)[0] + (f"\n{variant}" if variant else "")
