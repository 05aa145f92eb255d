"""Whether a worker of the input pipeline keeps its size, sample after sample."""

from collections.abc import Sequence
from pathlib import Path

from cp2.bench.data import cp2_settings, worker_batches
from cp2.bench.figures import Figures, Say
from cp2.bench.memory import worker_rss_mib
from cp2.bench.pretrain import all_backgrounds
from cp2.bench.record import describe_machine
from cp2.bench.scratch import Scratch, scratch
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.settings.methods import Cp2Settings

BATCH = 16
POINTS = 20  # at which memory is read, evenly spread over the samples
WARM = 2  # the point, a tenth of the samples, from which on memory must stay as it is
GROWTH_LIMIT = 0.05  # of the memory at that point


def bench_memory(paths: Sequence[Path] | None, samples: int, say: Say = print) -> Figures:
    """Watch the memory of one worker over so many samples, for each kind of backgrounds.

    Args:
        paths: photographs; None: synthetic ones.

    Returns:
        By way: `samples` and `rss_mib` of each point, `growth_mib` and `growth` (a share) from a
        tenth of the samples to the end, `flat`; and `flat` of all.

    Raises:
        UserError: too few samples, or the system does not tell a worker's memory.
    """
    if samples < POINTS * BATCH:
        raise UserError(f"bench data --memory {samples}: {POINTS * BATCH} samples are the least")
    with scratch(paths) as room:
        ways = {
            f"ours, background {kind}": _watch(room, cp2_settings(kind), samples)
            for kind in all_backgrounds()
        }
        images = room.description
    for name, way in ways.items():
        say(
            f"{name}: {way['rss_mib'][-1]:.0f} MiB in the worker after {way['samples'][-1]} "
            f"samples, {way['growth_mib']:+.1f} MiB ({way['growth']:+.1%}) since "
            f"{way['samples'][WARM - 1]} samples; "
            f"{'within' if way['flat'] else 'MORE THAN'} the limit of {GROWTH_LIMIT:+.0%}"
        )
    return {
        "machine": describe_machine(choose_device()),
        "images": images,
        "limit": GROWTH_LIMIT,
        "ways": ways,
        "flat": all(way["flat"] for way in ways.values()),
    }


def _watch(room: Scratch, settings: Cp2Settings, samples: int) -> Figures:
    steps = samples // BATCH
    points = [steps * point // POINTS for point in range(1, POINTS + 1)]
    sizes = []
    stream = iter(worker_batches(room, settings, samples=samples + BATCH, batch=BATCH))
    for step in range(1, steps + 1):
        next(stream)
        if step in points:
            sizes.append(_worker_mib())
    growth = sizes[-1] - sizes[WARM - 1]
    return {
        "samples": [point * BATCH for point in points],
        "rss_mib": sizes,
        "growth_mib": growth,
        "growth": growth / sizes[WARM - 1],
        "flat": growth <= GROWTH_LIMIT * sizes[WARM - 1],
    }


def _worker_mib() -> float:
    size = worker_rss_mib()
    if size is None:
        raise UserError(
            "bench data --memory: this system does not tell a worker's memory "
            "(/proc/<process>/status); run it on Linux"
        )
    return size
