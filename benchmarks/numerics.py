"""Whether a precision computes the same training: loss curves from the same start."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Say
from benchmarks.loops import DATASET, configuration, pretrain_recipe
from benchmarks.machine import describe_machine
from benchmarks.sizes import Sizes
from cp2.costs.work_folder import WorkFolder, silent, work_folder
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.plan.graph import Run
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.training.clock import Deadline
from cp2.training.pretrain import pretrain

WINDOW = 25  # steps whose mean is one point of a curve
RENEWED = 4  # times that the queue is filled anew in the run, so that keys of the network matter
MEAN_BAND, LARGEST_BAND = 0.01, 0.03  # of the float32 loss, over the curve's points
FULL, OTHER_SEED = "off", "off, another seed"

Curves = dict[str, list[float]]


def bench_numerics(
    sizes: Sizes, paths: Sequence[Path] | None = None, method: str = "cp2", say: Say = print
) -> Figures:
    """Pretrain in float32, in `sizes.amp` and in float32 with another seed; compare the losses.

    The first two have the same start, images, crops and colours. The difference of each loss term
    (for CP² the total, instance and dense) must lie within the band: MEAN_BAND of the term over all
    points, LARGEST_BAND at any. What another seed changes is printed beside it, and which terms
    hardly moved, so that the band tests little for them.

    Args:
        sizes: `steps` of each run.
        paths: images; None: synthetic ones.

    Raises:
        UserError: unknown names; too few steps for a point; nothing to compare with float32.
    """
    if sizes.steps < WINDOW:
        raise UserError(f"bench: --steps {sizes.steps}; a point of a curve needs {WINDOW}")
    if sizes.amp == FULL:
        raise UserError("bench: --amp off would compare float32 with itself; use bf16 or fp16")
    with work_folder(paths) as work:
        curves = {
            FULL: _curves(method, replace(sizes, amp=FULL), work, 0),
            sizes.amp: _curves(method, sizes, work, 0),
            OTHER_SEED: _curves(method, replace(sizes, amp=FULL), work, 1),
        }
        images = work.description
    figures: Figures = {
        "machine": describe_machine(choose_device()),
        "images": images,
        "sizes": vars(sizes),
        "method": method,
        "band": {"mean": MEAN_BAND, "largest": LARGEST_BAND},
        "window": WINDOW,
        "curves": curves,
        "differences": {
            name: {term: difference(curves[FULL][term], found[term]) for term in found}
            for name, found in curves.items()
            if name != FULL
        },
    }
    figures["within"] = all(map(within, figures["differences"][sizes.amp].values()))
    figures["moved"] = {term: moved(points) for term, points in curves[FULL].items()}
    _print(figures, sizes.amp, say)
    return figures


def difference(expected: Sequence[float], found: Sequence[float]) -> dict[str, float]:
    """Mean and largest |found - expected| / expected over the points of two curves."""
    shares = [abs(b - a) / abs(a) for a, b in zip(expected, found, strict=True)]
    return {"mean": sum(shares) / len(shares), "largest": max(shares)}


def moved(points: Sequence[float]) -> float:
    """How far a curve goes from its first point, as a share of it."""
    return max(abs(point - points[0]) for point in points) / abs(points[0])


def within(found: dict[str, float]) -> bool:
    """Whether a difference lies within the band."""
    return found["mean"] <= MEAN_BAND and found["largest"] <= LARGEST_BAND


def _curves(method: str, sizes: Sizes, work: WorkFolder, seed: int) -> Curves:
    """Each loss term's means over WINDOW steps."""
    queue = max(1, sizes.steps * sizes.batch // RENEWED)
    recipe = pretrain_recipe(configuration(), method, sizes, queue_size=queue)
    results = work.results(DATASET, sizes.steps * sizes.batch, "unlabelled")
    run = Run("pretrain", "bench-pretrain", "", recipe, seed, (f"dataset/{DATASET}",), {})
    execution = Execution(
        workers=sizes.workers, log_every=WINDOW, save_minutes=1e6, results=str(results)
    )
    with silent():
        pretrain(run, results, execution, Deadline())
    lines: list[dict[str, Any]] = [
        line for line in read_metrics(run.folder(results).metrics) if line["step"] % WINDOW == 0
    ]
    return {term: [line[term] for line in lines] for term in lines[0] if term.startswith("loss")}


def _print(figures: Figures, amp: str, say: Say) -> None:
    machine, losses = figures["machine"], {k: v["loss"] for k, v in figures["curves"].items()}
    say(f"{machine['device']}; {machine['cpu']}; torch {machine['torch']}; {figures['images']}")
    say("  ".join(f"{name} {value}" for name, value in figures["sizes"].items()))
    say(f"{'steps':>8}" + "".join(f"{name:>20}" for name in losses))
    for point, values in enumerate(zip(*losses.values(), strict=True), 1):
        say(f"{point * WINDOW:>8}" + "".join(f"{value:>20.4f}" for value in values))
    for name, terms in figures["differences"].items():
        for term, found in terms.items():
            say(
                f"{name:<20}{term:<16}differs from float32 by {100 * found['mean']:.2f} % "
                f"on average, {100 * found['largest']:.2f} % at most"
            )
    for term, share in figures["moved"].items():
        if share < LARGEST_BAND:
            say(f"{term} moved by {share:.2%} in float32: the band tests little for it")
    band = f"{MEAN_BAND:.0%} on average, {LARGEST_BAND:.0%} at most"
    for term, found in figures["differences"][amp].items():
        say(f"{term} in {amp}: {'within' if within(found) else 'OUTSIDE'} the band ({band})")
