"""Figures of the pretrainings themselves: losses, and what they saw."""

from pathlib import Path

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.reporting.figures.curves import Log, Panel, draw_panels, problems, read_logs
from cp2.reporting.figures.drawing import ReportFigure, panel_grid, read_picture, save


def losses(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """A small panel for each pretraining that has logged a loss."""
    logs = [(log, names) for log in _logs(plan, results) if (names := _loss_names(log.names))]
    if not logs:
        return None
    panels = [Panel(_title(log.run), [log.curve(n, n) for n in names]) for log, names in logs]
    caption = (
        "Training loss of every pretraining, as logged; losses of two methods do not compare. The "
        "instance loss rises at first: the queue starts with random vectors, and fills with keys "
        "that are harder to tell apart. CP²'s dense loss stays near the logarithm of the number of "
        "cells and moves by a few tenths only."
    )
    caption += problems([log for log, _ in logs])
    return draw_panels(panels, folder, "losses", "Pretraining losses", caption)


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
    damage = ""
    figure, panels = panel_grid(len(kinds), across=2, width=5.0, height=2.8)
    for panel, (run, path) in zip(panels, kinds.values(), strict=True):
        panel.set_axis_off()
        panel.set_title(_title(run), fontsize=8)
        try:
            panel.imshow(read_picture(path), interpolation="none")
        except WrongFile as error:
            panel.text(0.5, 0.5, "damaged", ha="center", va="center", color="0.5")
            damage += f" {error}."
    caption = (
        "A line an image. CP²: foreground, background, mask and composed image of the query, "
        "then of the key. MoCo v2: the two views. One sheet for each method, mask and data set."
    )
    title = "What the pretrainings see"
    return save(figure, folder, "composed", title, caption + damage, photographs=True)


def _logs(plan: Plan, results: Path) -> list[Log]:
    return read_logs(list(plan.stage("pretrain")), results)


def _loss_names(names: list[str]) -> list[str]:
    return [name for name in names if name.split("/")[-1].startswith("loss")]


def _masks(run: Run) -> list[str]:
    """The parts of the run's variant that change what is seen."""
    return [word for word in run.tags.get("variant", "").split() if word.startswith("mask.")]


def _title(run: Run) -> str:
    variant = run.tags.get("variant")
    return run.id.rsplit("-", 1)[0] + (f"\n{variant}" if variant else "")
