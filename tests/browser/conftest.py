import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # chromium.py, filled_campaign.py, ...
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))  # fake_runs.py

from chromium import start, why_not
from filled_campaign import fill
from tiny_campaign import PUBLISHED

from cp2.plan.graph import Plan
from cp2.reporting.report import write_report
from cp2.settings.load import Configuration


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, or a skip that says why there is none; a failure where one must be."""
    if reason := why_not():
        if os.environ.get("CP2_NEED_BROWSER"):
            pytest.fail(f"{reason} (CP2_NEED_BROWSER is set)")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = start(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Configuration, Plan]:
    """The campaign of the tests of the report."""
    return fill(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="session")
def report(filled: tuple[Configuration, Plan]) -> Path:
    """The main page of that campaign."""
    return write_report(*filled, PUBLISHED).resolve()
