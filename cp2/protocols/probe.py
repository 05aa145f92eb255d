"""`cp2 probe`: a checkpoint, or a pretraining's start and snapshots, by their frozen features.

Nothing of it is in a plan: scores go to probes.jsonl in the run's folder, a line a step as in
metrics.jsonl, of which the report and MLflow draw a curve.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from cp2.data.index import read_index
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.linear_segmentation import probe_recipe
from cp2.plan.recipes import CheckpointRecipe, PretrainRecipe
from cp2.plan.steps import steps_of
from cp2.protocols.frozen_maps import Extraction, Positions, frozen_network
from cp2.protocols.registry import Scored
from cp2.record.files import write_text
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.joined import module_of
from cp2.settings.protocols.probes import ProbeSchedule
from cp2.training.pretrain import build, export
from cp2.training.pretrained import PretrainedWeights


def probe_moments(
    run: Run,
    dataset: Run,
    probes: dict[str, tuple[str, ProbeSchedule]],
    plan: Plan,
    results: Path,
    execution: Execution,
    epochs: Sequence[int] = (),
) -> Iterator[str]:
    """Score weights by each probe and keep the scores; gives a line a score.

    Args:
        run: a checkpoint, or a pretraining, which need not be done.
        probes: kind of protocol and schedule, by the protocol's name.
        epochs: of the snapshots, 0 for the start; none: all snapshots, and the last weights.
    Raises:
        UserError: there is no such snapshot, or the data set is not prepared.
    """
    found = run.recipe
    assert isinstance(found, PretrainRecipe | CheckpointRecipe)
    index, device = read_index(dataset.folder(results).path), choose_device()
    for epoch, kept in _moments(run, results, epochs).items():
        with nullcontext(kept) if kept else _start(run, results) as path:
            weights = PretrainedWeights(run.key, results, path)
        maps: dict[ProbeSchedule, tuple[Positions, Positions]] = {}
        for name, (kind, schedule) in probes.items():
            recipe = probe_recipe(kind, dataset, run, found.backbone, schedule, "cp2 probe")
            network = frozen_network(recipe, weights, 0)
            extraction = Extraction(network, recipe, index, device, execution.workers)
            common = ProbeSchedule.model_validate(
                schedule.model_dump(include=set(ProbeSchedule.model_fields))
            )
            if common not in maps:
                try:
                    maps = {common: extraction.both()}
                except UserError as error:
                    raise UserError(f"{path.name}: {error}") from error
            module = module_of("cp2.protocols", kind, recipe.runner)
            scored: Scored = module.probe(extraction, *maps[common])
            shown = [one for one in recipe.metrics if scored.shown in (None, one.name)]
            values = "  ".join(
                f"{one.title} {one.scale * scored.metrics[one.name]:.{one.digits}f}"
                for one in shown
            )
            metrics = {
                f"probe/{dataset.id}/{name}_{one.name}": scored.metrics[one.name] for one in shown
            }
            _keep(run, plan, results, epoch, metrics)
            yield f"{path.name if epoch or not kept else run.id}  {name}  {values}"


@contextmanager
def _start(run: Run, results: Path) -> Iterator[Path]:
    """The weights before the first step, as the pretraining draws or loads them."""
    assert isinstance(run.recipe, PretrainRecipe)
    with tempfile.TemporaryDirectory(prefix="cp2-probe-") as folder:
        path = Path(folder) / "epoch-0.safetensors"
        torch.manual_seed(run.seed or 0)
        export(build(run.recipe, results)[0], run.recipe, path, run.id)
        yield path


def _moments(run: Run, results: Path, epochs: Sequence[int]) -> dict[int, Path | None]:
    """Epoch -> weights; None: those of the start. A checkpoint's are of epoch 0."""
    outputs = run.outputs(results)
    if not isinstance(run.recipe, PretrainRecipe):
        if any(epochs):
            raise UserError(f"{run.key}: it has no epochs; leave out --epoch")
        return {0: outputs["model"]}
    found: dict[int, Path | None] = dict(run.folder(results).snapshots())
    if run.is_done(results):
        found[run.recipe.epochs] = outputs["model"]
    there = ", ".join(map(str, sorted(found))) or "none"
    if 0 in epochs:
        found[0] = None
    lacking = next((str(epoch) for epoch in epochs if epoch not in found), "")
    if lacking or not found:
        which = f"epoch {lacking}" if lacking else "any epoch"
        raise UserError(
            f"{run.key}: no weights of {which}; there are: {there}. execution.snapshot_every keeps "
            "them while it trains; epoch 0 is its start"
        )
    return {epoch: found[epoch] for epoch in sorted(epochs or found)}


def _keep(run: Run, plan: Plan, results: Path, epoch: int, metrics: dict[str, float]) -> None:
    """Put scores into the line of their epoch; what the same probe said before is replaced.

    Where the size of the unlabelled set is not known, neither are steps: an epoch is one.
    """
    path = run.folder(results).probes
    steps = steps_of(run, plan, results) if isinstance(run.recipe, PretrainRecipe) else None
    whole = run.recipe.epochs if isinstance(run.recipe, PretrainRecipe) else 1
    step = steps.count * epoch // whole if steps and steps.count else epoch
    lines = {line["epoch"]: line for line in read_metrics(path)}
    own = lines.setdefault(epoch, {"step": step, "epoch": epoch})
    own |= {"step": step, **metrics, "time": time.time()}
    write_text(path, "".join(json.dumps(lines[epoch]) + "\n" for epoch in sorted(lines)))
