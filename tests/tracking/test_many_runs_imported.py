"""An import sends as many statements a run however many runs there are, and none for old ones."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from imported import Campaign

STEPS = range(1, 4)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What SQLAlchemy executes."""
    found: list[str] = []

    def seen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    target = sqlalchemy.engine.Engine, "before_cursor_execute", seen
    sqlalchemy.event.listen(*target)
    yield found
    sqlalchemy.event.remove(*target)


def test_statements_grow_with_the_runs(campaign: Campaign, statements: list[str]) -> None:
    runs = list(campaign.plan.stage("finetune"))[:14]
    sent: list[int] = []
    nothing_new: list[int] = []
    one_changed: list[int] = []
    for some in (runs[:2], runs[2:6], runs[6:14]):
        for run in some:
            campaign.write(run, STEPS)
            campaign.attempt(run, 1, "done")
            campaign.finish(run)
        for counts in (sent, nothing_new, one_changed):
            statements.clear()
            campaign.track()
            counts.append(len(statements))
            if counts is nothing_new:
                campaign.finish(runs[0], time=6000.0 + len(some))
    assert all(0 < count < 100 * new for count, new in zip(sent, (2, 4, 8), strict=True)), sent
    assert nothing_new == [0, 0, 0]
    assert one_changed[0] == one_changed[1] == one_changed[2] > 0
