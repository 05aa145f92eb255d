"""A report reads the records of each run a few times, however many runs there are."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_runs import Make, write_done, write_losses

from cp2.plan.graph import Run
from cp2.reporting import page, provenance, report
from cp2.reporting.report import write_report
from cp2.stages import TRACKED

MOST = {"recipe.json": 3, "environment.json": 1, "done.json": 1, "scores.json": 2, "log.txt": 1}


def _write(run: Run, results: Path) -> None:
    if run.stage != "evaluate":
        write_losses(run, results)
    write_done(run, results, 0.5 if run.stage == "evaluate" else None)
    lines = [f"step {n} of http://host/?token=secret" for n in range(100)]
    run.folder(results).log.write_text("\n".join(lines))


def test_no_record_is_read_more_often_for_more_runs(
    make: Make, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, plan = make("paper")
    results = configuration.results
    tracked = [run for run in plan.runs.values() if run.stage in TRACKED]
    folders = {run.folder(results).path for run in tracked}
    opened: Counter[Path] = Counter()
    calls: Counter[str] = Counter()
    known, text, plain = io.open, page.recipe_text, provenance.plain_urls

    def opening(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, (str, Path)) and Path(file).parent in folders:
            opened[Path(file)] += 1
        return known(file, *args, **kwargs)

    def dumped(run: Run) -> str:
        calls["recipe"] += 1
        return text(run)

    def redacted(line: str) -> str:
        calls["line"] += 1
        return plain(line)

    for some in ([run for run in tracked if not run.seed], tracked):
        for run in some:
            _write(run, results)
        opened.clear()
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(io, "open", opening)
            patch.setattr(page, "recipe_text", dumped)
            patch.setattr(provenance, "plain_urls", redacted)
            patch.setattr(report, "write_figures", lambda *_: [])  # which are of no run
            write_report(configuration, plan, published)
        assert {path.name for path in opened} >= MOST.keys()
        for path, times in opened.items():
            assert times <= MOST.get(path.name, 2), path
        assert calls["line"] == provenance.LOG_LINES * len(some)
        # Seeds share their recipe, as the page does.
        assert calls["recipe"] == len({text(run) for run in tracked}) < len(tracked)
    assert "secret" not in (configuration.reports / "index.html").read_text()
