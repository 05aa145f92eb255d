"""A copy of the project in which a campaign is run, and a Snakemake that runs it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scheduler import Slurm

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.record.attempts import read_attempts
from cp2.record.metrics import read_metrics
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[2]
# The profiles ask as seldom as a shared cluster likes it; the Slurm executor asks ever more seldom.
# This Slurm has no accounting, hence squeue.
QUICK = {
    "slurm": ["--slurm-init-seconds-before-status-checks=8", "--slurm-status-command=squeue"],
    "cluster-generic": ["--max-status-checks-per-second=10"],
}
EXECUTORS = list(QUICK)


class Project:
    """One folder with what Snakemake reads; results go into it, too."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        self.folder, self.slurm = folder, slurm
        self.drivers: list[Driver] = []
        self.environment = slurm.environment | {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{slurm.environment['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CP2_DEVICE": "cpu",  # the scheduler's GPUs are pretended
        }

    @staticmethod
    def fresh(folder: Path, slurm: Slurm) -> "Project":
        """A new copy, as a clone is."""
        folder.mkdir()
        for name in ("Snakefile", "environment.yml"):
            shutil.copy(ROOT / name, folder)
        for name in ("workflow", "configs", "reports/published"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(Path(__file__).parent / "campaign.yaml", folder)
        return Project(folder, slurm)

    def copy(self, folder: Path) -> "Project":
        """This project with all that was made in it."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".snakemake"))
        return Project(folder, self.slurm)

    def plan(self, *assignments: str) -> Plan:
        return build_plan(
            load_campaign(str(self.folder / "campaign.yaml"), assignments, self.folder / "configs")
        )

    def run_of(self, stage: str, *assignments: str) -> Run:
        """The only, or the first, run of a stage."""
        return next(iter(self.plan(*assignments).stage(stage)))

    def path(self, run: Run) -> Path:
        return run.folder(self.folder / "results").path

    def steps(self, run: Run) -> int:
        """Steps of a run that are logged by now."""
        file = self.path(run) / "metrics.jsonl"
        return len(read_metrics(file)) if file.exists() else 0

    def start(
        self,
        profile: str,
        *arguments: str,
        assignments: Sequence[str] = (),
        site: str | None = None,
    ) -> "Driver":
        """Start Snakemake as the README says; returns at once."""
        config = ["campaign=campaign.yaml"]
        if assignments:
            config.append(f"set={list(assignments)!r}")
        if site:
            config.append(f"site={site}")
        command = [sys.executable, "-m", "snakemake"]
        command += ["--workflow-profile", f"workflow/profiles/{profile}", *QUICK.get(profile, [])]
        command += ["--seconds-between-status-checks", "1", "--latency-wait", "10"]
        self.drivers.append(Driver(self, [*command, "--config", *config, "--", *arguments]))
        return self.drivers[-1]

    def recovery(self, run: Run, begin: float, steps: int) -> dict[str, float]:
        """What an interruption cost, by the run's own files.

        Args:
            begin: time of the interruption, seconds since 1970.
            steps: that were logged by then.
        """
        last = read_attempts(self.path(run))[-1]
        lines = read_metrics(self.path(run) / "metrics.jsonl")
        first = next(line for line in lines if line["time"] >= last.started)
        seconds = round(first["time"] - begin, 1)
        return {
            "seconds to the next step": seconds,
            "steps lost": max(0, steps + 1 - first["step"]),
        }

    def cp2(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """A command of the command line, in this folder, without the scheduler."""
        return subprocess.run(
            [sys.executable, "-m", "cp2", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


class Driver:
    """A running Snakemake; its output goes into a file, so that it never waits for a reader."""

    def __init__(self, project: Project, command: Sequence[str]) -> None:
        self.project = project
        number = len(list(project.folder.glob("driver-*.log")))
        self.log = project.folder / f"driver-{number}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=project.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = 600) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.report()}") from None

    def until(self, condition, what: str, seconds: float = 240) -> None:
        """Wait for something that this driver brings about."""

        def holds() -> bool:
            if condition():
                return True
            assert self.process.poll() is None, f"ended before {what}:\n{self.report()}"
            return False

        self.project.slurm.wait(holds, what, seconds)

    def kill(self) -> None:
        """kill -9, of the driver and what it runs here; its jobs in the queue live on."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def report(self) -> str:
        """Its output, the queue and the ends of the jobs' logs."""
        texts = [self.output[-6000:], *self.project.slurm.jobs()]
        for path in sorted(self.project.folder.glob("results/**/*.log")):
            texts.append(f"--- {path}\n{path.read_text(errors='replace')[-1500:]}")
        return "\n".join(texts)
