"""A small campaign, its costs, and a results folder in any state."""

import json
from pathlib import Path

from campaigns import BASE, load

from cp2.costs.cost import Costs, cost_campaign
from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.settings.load import Configuration

CAMPAIGN = BASE + "seeds: {pretrain: [0], finetune: [0, 1]}\n"
# 15,676 photographs at 128 a step are 122 steps an epoch; 8,000 steps of 16; 1,449 images
PRETRAIN, FINETUNE, EVALUATE = 122 * 128, 8000 * 16, 1449
KINDS = (
    {"stage": "pretrain", "method": "moco-v2", "crop_size": 96},
    {"stage": "pretrain", "method": "cp2", "head": "aspp-small", "crop_size": 96},
    {"stage": "finetune", "head": "aspp-small", "crop_size": [192, 192]},
    {"stage": "evaluate", "head": "aspp-small", "crop_size": [192, 768]},
)


def rows(*rates: float, device: str = "X1") -> list[dict]:
    """Rows for MoCo v2, CP², finetuning and evaluation; a rate of 0 leaves the row out."""
    return [
        kind
        | {"backbone": "resnet18", "device": device, "samples_per_second": rate, "source": "a test"}
        for kind, rate in zip(KINDS, rates, strict=True)
        if rate
    ]


def configuration(folder: Path, *assignments: str) -> Configuration:
    small = "{batch_size: 128, views: {crop_size: 96}}"
    batch = [f"methods.{name}={small}" for name in ("cp2", "moco-v2")]
    place = f"campaign.execution.results={folder / 'results'}"
    return load(folder, CAMPAIGN, place, *batch, *assignments)


def costs(folder: Path, rates: tuple[float, ...], *assignments: str, **options: str) -> Costs:
    table = folder / "throughput.json"
    table.write_text(json.dumps(rows(*rates)))
    settings = configuration(folder, *assignments)
    return cost_campaign(settings, build_plan(settings), table, **options)


def finish(run: Run, results: Path) -> None:
    """Write a run's final files, empty."""
    for path in run.outputs(results).values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def log_steps(run: Run, results: Path, *lines: dict) -> None:
    path = run.folder(results).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
