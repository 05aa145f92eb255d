"""Run folders made by hand, as the stages write them."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from cp2.plan.graph import Plan, Run
from cp2.record.files import write_json
from cp2.settings.load import Configuration
from cp2.tables.frame import CellScores

Make = Callable[[str], tuple[Configuration, Plan]]  # scale -> campaign
SCORES = {
    "per_class": {"background": 0.9, "cat": 0.5, "dog": None},
    "images": 24,
    "split": "val",
    "mode": "whole",
}


def write_done(run: Run, results: Path, miou: float | None = None) -> None:
    """A finished pretrain, finetune or evaluate run; `miou` is a share."""
    folder = run.folder(results)
    tags = run.tags | {"run_id": run.id}
    write_json(folder.recipe, {"recipe": run.recipe.model_dump(mode="json"), "tags": tags})
    write_json(
        folder.environment,
        {
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "host": "node7",
            "device": "cpu",
            "attempt": 1,
        },
    )
    write_json(folder.done, {"finished": 1000.0, "seconds": 200.4, "samples_per_second": 50.0})
    for path in run.outputs(results).values():
        if not path.exists():
            path.write_bytes(b"x")
    if miou is not None:
        values = {"miou": miou, "accuracy": 0.9, "mean_accuracy": 0.7}
        content = {"metrics": values, "dataset": run.tags["dataset"], **SCORES}
        write_json(folder.scores, content)


def make_cell(**given: object) -> CellScores:
    """A cell without runs, but for what is given."""
    empty = dict.fromkeys(CellScores.__annotations__)
    empty |= {"row": "r", "column": "x", "unit": "percent", "digits": 1, "n": 0, "planned": 0}
    empty |= {"values": (), "runs": (), "scores": {}, "printed": "", "missing": "", "footnote": ""}
    empty |= {"reason": "", "elsewhere": "", "imported": ""}
    return CellScores(**{**empty, **given})  # type: ignore[arg-type]


def write_losses(run: Run, results: Path, steps: int = 3) -> None:
    folder = run.folder(results)
    folder.path.mkdir(parents=True, exist_ok=True)
    lines = [
        {"step": s, "time": 10.0 + s, "loss": 5.0 - s, "loss_instance": 3.0, "loss_dense": None}
        for s in range(1, steps + 1)
    ]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_picture(path: Path, size: tuple[int, int] = (30, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 80, 20)).save(path)


def finish_cell(plan: Plan, table: str, place: int, results: Path, shares: list[float]) -> None:
    """Give the first runs of a table's cell these scores."""
    for key, share in zip(plan.tables[table].cells[place].runs, shares, strict=False):
        write_done(plan.runs[key], results, share)
