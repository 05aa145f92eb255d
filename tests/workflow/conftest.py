"""A project folder of a test's own."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Snakemake reads, so that tests share no .snakemake folder."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "configs", "reports/published"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path
