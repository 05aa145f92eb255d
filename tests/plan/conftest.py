from collections.abc import Callable
from pathlib import Path

import pytest

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.settings.load import load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """Plans a campaign of the project, or one given as YAML text, with --set assignments."""

    def plan(campaign: str, *assignments: str) -> Plan:
        if "\n" in campaign:
            file = tmp_path / "my.yaml"
            file.write_text(campaign, encoding="utf-8")
            campaign = str(file)
        return build_plan(load_campaign(campaign, assignments, CONFIGS))

    return plan
