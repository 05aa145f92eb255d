"""A pretraining that had collapsed when it ended is named under the tables that need it."""

import json
from pathlib import Path

import pytest
from fake_runs import Make

from cp2.reporting.formats import notes
from cp2.reporting.report import write_report
from cp2.reporting.tables import view_tables


@pytest.mark.parametrize(
    ("deviations", "said"),
    [([0.9, 0.04], True), ([0.04, 0.9], False), ([0.1], False), ([None], False), ([], False)],
)
def test_the_last_line_of_a_pretraining_says_whether_it_collapsed(
    make: Make, published: Path, deviations: list[float | None], said: bool
) -> None:
    configuration, plan = make("paper")
    (pretrain,) = plan.stage("pretrain")
    folder = pretrain.folder(configuration.results)
    folder.path.mkdir(parents=True)
    lines = [
        {"step": n, "time": 1.0 + n, "loss": 1.0, "health/deviation": value}
        for n, value in enumerate(deviations)
    ]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (view,) = view_tables(configuration, plan, published)
    start = f"{pretrain.id}: features collapse: deviation 0.040, 1 is healthy"
    assert any(note.startswith(start) for note in notes(view)) is said
    page = write_report(configuration, plan, published).read_text(encoding="utf-8")
    assert (start in page) is said
    assert ("features collapse" in page) is said
