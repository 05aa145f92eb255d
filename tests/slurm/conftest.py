import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # scheduler.py, project.py

from long_run import LONG, Record
from project import Project
from scheduler import Slurm, skip_or_fail, why_not


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A real scheduler of our own, or a skip that says why there is none; a failure where one must
    be."""
    skip_or_fail(why_not())
    cluster = Slurm()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def prepared(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose data sets are made already, by the stages that run where Snakemake runs."""
    project = Project.fresh(tmp_path_factory.mktemp("slurm") / "prepared", slurm)
    names = [run.id for run in project.plan().stage("dataset")]
    targets = [f"results/datasets/{name}/dataset.json" for name in names]
    driver = project.start("local", *targets)
    assert driver.wait() == 0, driver.report()
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the prepared project; what is left running in it is ended afterwards."""
    copy = prepared.copy(tmp_path / "project")
    yield copy
    for driver in copy.drivers:
        driver.stop()
    for line in prepared.slurm.jobs("PENDING,RUNNING", "%i|%Z"):
        job, _, folder = line.partition("|")
        if Path(folder) == copy.folder:
            prepared.slurm.command("scancel", job, check=False)


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Keeps figures for the summary at the end."""

    def keep(figures: dict[str, float]) -> None:
        for name, value in figures.items():
            record_property(name, value)

    return keep


@pytest.fixture(scope="session")
def uninterrupted(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the long pretraining, made in one go without a scheduler."""
    project = prepared.copy(tmp_path_factory.mktemp("reference") / "project")
    run = project.run_of("pretrain", *LONG)
    words = [word for text in LONG for word in ("--set", text)]
    done = project.cp2("pretrain", run.id, "--campaign", "campaign.yaml", *words)
    assert done.returncode == 0, done.stderr
    return (project.path(run) / "model.safetensors").read_bytes()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each fault cost, for docs/cluster.md; shown without xdist only."""
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and report.user_properties:
            figures = ", ".join(f"{name}: {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.partition('::')[2]}: {figures}")
