"""The rules' commands and files, as earlier results were made by them."""

import pytest

from cp2.plan.workflow import Workflow
from cp2.stages import STAGES

# Snakemake compares commands: another wording would make finished runs again.
COMMANDS = {
    "publish": "OMP_NUM_THREADS={threads} cp2 publish {wildcards.run} > {log} 2>&1",
    "dataset": "OMP_NUM_THREADS={threads} cp2 dataset {wildcards.run} > {log} 2>&1",
    "checkpoint": "OMP_NUM_THREADS={threads} cp2 checkpoint {wildcards.run} > {log} 2>&1",
    "cache": "OMP_NUM_THREADS=1 cp2 cache {wildcards.run} > {log} 2>&1",
    "masks": "OMP_NUM_THREADS={threads} cp2 masks {wildcards.run} > {log} 2>&1",
    "pretrain": "OMP_NUM_THREADS={threads} cp2 pretrain {wildcards.run} --processes "
    "{resources.gpu} > {log} 2>&1",
    "finetune": "OMP_NUM_THREADS={threads} cp2 finetune {wildcards.run} --processes "
    "{resources.gpu} > {log} 2>&1",
    "evaluate": "OMP_NUM_THREADS={threads} cp2 evaluate {wildcards.run} > {log} 2>&1",
}
DONE = {
    "publish": "results/world/published/{run}/SHA256SUMS",
    "dataset": "results/datasets/{run}/dataset.json",
    "checkpoint": "results/checkpoints/{run}/done.json",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_rules_keep_their_commands_and_files(name: str) -> None:
    plan = Workflow({})
    assert plan.command(STAGES[name]) == COMMANDS[name]
    assert plan.outputs(STAGES[name])["done"] == DONE.get(name, f"results/{name}/{{run}}/done.json")
    assert plan.log(STAGES[name]).endswith("/{run}/job.log")


def test_every_stage_is_listed_here() -> None:
    assert set(COMMANDS) == set(STAGES) - {"world"}
