"""What Snakemake hands over of --config."""

from pathlib import Path
from typing import Any

import pytest

from cp2.errors import UserError
from cp2.plan.workflow import Workflow
from cp2.stages import STAGES

ONE = "campaign.seeds.finetune=[0, 1]"


@pytest.mark.parametrize("given", [ONE, [ONE], ["campaign.epochs={200: 3, 20: 2}", ONE]])
def test_assignments(given: Any) -> None:
    assert Workflow({"set": given}).assignments[-1] == ONE


@pytest.mark.parametrize("given", [{"protocols.cp2.amp={a": 1}, 7, [{"a": 1}], True])
def test_what_yaml_made_something_else_of(given: Any) -> None:
    with pytest.raises(UserError, match=r"--config set: .* is no list of assignments: .*set='\["):
        Workflow({"set": given})


def test_only_a_schedulers_jobs_queue_themselves_again() -> None:
    assert "CP2_REQUEUE" not in Workflow({}).shell_prefix()
    assert "export CP2_REQUEUE=1; " in Workflow({}, in_job=True).shell_prefix()


def test_several_nodes_are_started_by_srun(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("pretrain: {nodes: 2, gpus: 4, cpus: 16}")
    found = Workflow({"site": str(site)}).command(STAGES["pretrain"])
    assert found.startswith(
        "OMP_NUM_THREADS={threads} CP2_NODES=2 CP2_LAUNCH='srun --nodes=2 --ntasks=2 "
        "--ntasks-per-node=1 --cpus-per-task=16 --overlap --kill-on-bad-exit=1 --input=none' "
        "cp2 pretrain {wildcards.run} --processes 4 > "
    )
