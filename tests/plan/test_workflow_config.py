"""What Snakemake hands over of --config."""

from typing import Any

import pytest

from cp2.errors import UserError
from cp2.plan.workflow import Workflow

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
