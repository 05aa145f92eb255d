"""The project's own code as variants: its loops as they are, and its step alone."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.harness import Role, Stopwatch, Variant
from benchmarks.sizes import Sizes
from cp2.augment.samples import ViewBatch
from cp2.costs.networks import count_pretraining
from cp2.costs.work_folder import WorkFolder, silent
from cp2.errors import UserError
from cp2.methods import registry
from cp2.models.backbones import Backbone
from cp2.models.encoders import DenseEncoder, DenseProjection
from cp2.models.heads import Head
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe, Recipe
from cp2.plan.stages import Stages
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.load import Configuration, load_campaign
from cp2.settings.tables import Pretraining
from cp2.training import pretrain as pretraining
from cp2.training.clock import StoppedForResumeError

Loop = Callable[[Run, Path, Execution, Stopwatch], None]
DATASET = "bench"
CLASSES = 21  # of made-up labels
CP2, MOCO = "cp2", "moco-v2"
ON_THAT_NETWORK = "moco-v2 on cp2's network"


@dataclass(frozen=True)
class Measured:
    """A pretraining that is timed.

    Attributes:
        name: of the variant.
        averaging: trains CP²'s network by MoCo v2; see `AveragingEncoder`.
        baseline: name of the MoCo v2 that it is measured beside; None: there is none.
    """

    name: str
    recipe: PretrainRecipe
    averaging: bool = False
    baseline: str | None = None

    @cached_property
    def flops(self) -> float:
        """Of a sample's step."""
        with self.network():
            return 1e9 * count_pretraining(self.recipe).gflop

    def network(self) -> AbstractContextManager[object]:
        """Around what builds its encoders."""
        if not self.averaging:
            return ExitStack()
        return mock.patch.object(registry, "build_encoder", averaging_encoder)


def configuration() -> Configuration:
    """The paper campaign's settings, by name."""
    return load_campaign("paper")


def pretrain_recipe(
    config: Configuration, method: str, sizes: Sizes, **changes: Any
) -> PretrainRecipe:
    """What the plan makes of a method, from random weights at these sizes.

    So it has the backbone's output stride and the head that a campaign gives it, or none.

    Args:
        changes: keys of the method.

    Raises:
        UserError: unknown names; sizes that do not suit the method.
    """
    usual = config.method(method)
    small = usual.for_batch(sizes.batch * (sizes.crop // (usual.output_stride or 32)) ** 2)
    unread = getattr(usual, "unread", ())
    if "queue_size" in type(usual).model_fields and "queue_size" not in unread:
        small["queue_size"] = sizes.queue
    settings = {
        "views": {"crop_size": sizes.crop},
        "batch_size": sizes.batch,
        **small,
        "amp": sizes.amp,
        "compile": sizes.compile,
        **changes,
    }
    asked = Pretraining(method=method, epochs=1, dataset="imagenet", settings=settings)
    run = Stages(config, Plan()).pretrain(
        asked, sizes.backbone, sizes.head, seed=0, as_written=True
    )
    assert isinstance(run.recipe, PretrainRecipe)
    return run.recipe.model_copy(update={"dataset": DATASET})


def all_methods(config: Configuration, backbone: str) -> list[str]:
    """Methods of configs/methods/ that train such a backbone: CP², the MoCo v2s, the others."""
    family = config.backbone(backbone).family
    found = {name: config.method(name) for name in config.names("methods")}
    order = {"cp2": 0, "moco-v2": 1}
    names = [name for name, method in found.items() if family in method.optimizer]
    return sorted(names, key=lambda name: (order.get(found[name].kind, 2), name))


def measured(config: Configuration, names: list[str], sizes: Sizes) -> list[Measured]:
    """These methods, and for CP² also MoCo v2 on CP²'s network.

    The baseline of a method is the first of these MoCo v2s that has the same backbone, output
    stride included; CP²'s is that on its own network.
    """
    recipes = {name: pretrain_recipe(config, name, sizes) for name in dict.fromkeys(names)}
    mocos = [name for name, recipe in recipes.items() if recipe.method.kind == "moco-v2"]
    found = []
    for name, recipe in recipes.items():
        if recipe.head is not None:
            found.append(Measured(name, recipe, baseline=ON_THAT_NETWORK))
            changes = {"backbone": recipe.backbone, "head": recipe.head}
            moco = pretrain_recipe(config, MOCO, sizes).model_copy(update=changes)
            found.append(Measured(ON_THAT_NETWORK, moco, averaging=True))
            continue
        same = (moco for moco in mocos if recipes[moco].backbone == recipe.backbone)
        baseline = None if name in mocos else next(same, None)
        found.append(Measured(name, recipe, baseline=baseline))
    if len({one.name for one in found}) < len(found):
        raise UserError("step: more than one of these methods has a head; name one of them")
    return found


class AveragingEncoder(nn.Module):
    """CP²'s dense encoder, its feature map averaged to one vector an image.

    Images (N, 3, S, S) -> (N, dim). So MoCo v2 is timed on the very network that CP² trains.
    """

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.backbone = encoder.backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images).mean((2, 3))


def averaging_encoder(
    settings: PretrainingSettings, backbone: Backbone, head: Head | None
) -> AveragingEncoder:
    """CP²'s network for MoCo v2; in place of `build_encoder`."""
    assert head is not None
    projection = DenseProjection(head.channels, settings.dim)
    return AveragingEncoder(DenseEncoder(backbone, head, projection))


def run_step(watch: Stopwatch, step: Callable[[], object]) -> None:
    """Repeat a step until the stopwatch is over."""
    while not watch.over:
        step()
        watch.lap()


def log_every(sizes: Sizes) -> int:
    """Steps between two lines of metrics.jsonl, such that the timed steps are whole windows."""
    return max(2, min(10, sizes.steps))


def whole_windows(steps: int, sizes: Sizes) -> int:
    """The next multiple of `log_every`."""
    return math.ceil(steps / log_every(sizes)) * log_every(sizes)


def run_loop(
    watch: Stopwatch,
    loop: Loop,
    stage: str,
    recipe: Recipe,
    work: WorkFolder,
    sizes: Sizes,
    images: int | None = None,
) -> None:
    """The project's own loop, stopped as a scheduler's end would stop it.

    Args:
        images: in the data set; None: so many that the timed steps lie within one epoch.
    """
    labelled = stage == "finetune"
    count = images or (watch.warmup + watch.steps + 2) * watch.samples
    split = "train" if labelled else "unlabelled"
    results = work.results(DATASET, count, split, CLASSES if labelled else None)
    run = Run(stage, f"bench-{stage}", "", recipe, 0, (f"dataset/{DATASET}",), {})
    execution = Execution(
        workers=sizes.workers, log_every=log_every(sizes), save_minutes=1e6, results=str(results)
    )
    try:
        with silent():
            loop(run, results, execution, watch)
    except StoppedForResumeError:
        pass
    watch.set_waited(_waited(run.folder(results).metrics, watch))


def _waited(metrics: Path, watch: Stopwatch) -> float:
    """Seconds that the timed windows waited for data, by the loop's own record."""
    lines = read_metrics(metrics)
    total, before = 0.0, 0
    for line in lines:
        if line["step"] > watch.warmup:
            seconds = (line["step"] - before) * watch.samples / line["samples_per_second"]
            total += line["data_wait"] * seconds
        before = line["step"]
    return total


def loop_variant(
    name: str, loop: Loop, stage: str, recipe: Recipe, work: WorkFolder, sizes: Sizes
) -> Variant:
    """The project's own loop, from files to weights."""
    return Variant(
        name,
        partial(run_loop, loop=loop, stage=stage, recipe=recipe, work=work, sizes=sizes),
        sizes.batch,
        "ours",
        whole_windows(sizes.warmup, sizes),
        whole_windows(sizes.steps, sizes),
        precision=sizes.amp,
    )


def resident_variant(one: Measured, work: WorkFolder, sizes: Sizes, role: Role = "ours") -> Variant:
    """The pretraining loop on one batch that lies on the device."""
    sizes = replace(sizes, workers=0)

    def run(watch: Stopwatch) -> None:
        with one.network(), resident_batches(pretraining):
            run_loop(watch, pretraining.pretrain, "pretrain", one.recipe, work, sizes)

    variant = loop_variant(one.name, pretraining.pretrain, "pretrain", one.recipe, work, sizes)
    return replace(variant, run=run, role=role, flops=one.flops)


def resident_batches(loop: ModuleType) -> AbstractContextManager[object]:
    """A loop's module gets an epoch's first batch again and again, which lies on the device."""
    original = loop.prefetch

    def prepared(batches: Iterable[Any], make: Any, device: torch.device) -> Iterator[Any]:
        stream = iter(batches)
        batch = _to_device(next(stream), device)
        del stream  # and its workers
        again: Iterator[Any] = original(itertools.repeat(batch), make, device)
        return again

    return mock.patch.object(loop, "prefetch", prepared)


def _to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its pixels on the device; what the loops want on the host stays there."""
    if isinstance(batch, ViewBatch):
        return batch.to(device)
    return batch._replace(images=batch.images.to(device), labels=batch.labels.to(device))
