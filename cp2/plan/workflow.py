"""What the Snakefile asks: paths, inputs, parameters and resources of every job."""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.fit import misfits
from cp2.plan.graph import Plan, Run
from cp2.plan.planned import VARIABLE, read_planned, write_planned
from cp2.plan.requests import JobRequest, job_request
from cp2.record.digest import digest
from cp2.record.mlflow_links import count_failed
from cp2.settings.campaign import Resources
from cp2.settings.load import load_campaign
from cp2.settings.messages import nearest
from cp2.settings.sites import load_site
from cp2.stages import ON_CLUSTER, STAGES, Stage, files_of

SNAKEMAKE_KEYS = ("campaign", "set", "site")


class Workflow:
    """A campaign's plan in the form that Snakemake's rules need.

    Args:
        config: Snakemake's config; `campaign` is a name or a path, `set` one assignment
            ("protocols.cp2.amp=bf16") or a list of them, `site` a name or a path.
        in_job: this is Snakemake's inner process in a scheduler's job, which makes one run.
    Raises:
        UserError: an unknown key, or settings that do not hold.
    """

    def __init__(self, config: Mapping[str, Any], in_job: bool = False) -> None:
        self._in_job = in_job
        unknown = sorted(set(config) - set(SNAKEMAKE_KEYS))
        if unknown:
            raise UserError(
                f"--config {unknown[0]}: unknown; write campaign=<name or path>, "
                "set=section.name.key=value, site=<name or path>"
            )
        self.campaign = str(config.get("campaign", "demo"))
        given = config.get("set") or []
        if not isinstance(given, str | list) or not all(isinstance(text, str) for text in given):
            raise UserError(
                f"--config set: {given!r} is no list of assignments: Snakemake reads the value as "
                "YAML, where braces, colons and lists have a meaning. Write "
                """set='["section.name.key=value", "..."]'"""
            )
        self.assignments = [given] if isinstance(given, str) else list(given)
        self.configuration = load_campaign(self.campaign, self.assignments)
        self.site_name = str(config["site"]) if config.get("site") else None
        self.site = load_site(self.site_name) if self.site_name else None
        self.results = self.configuration.results.as_posix()
        self.reports = self.configuration.reports.as_posix()
        name = digest([self.campaign, *self.assignments])[:8]
        self.planned = Path(f".snakemake/cp2-planned-{name}.json").absolute()

    @cached_property
    def plan(self) -> Plan:
        """All runs, which a scheduler's job does without."""
        return build_plan(self.configuration)

    @property
    def tables(self) -> list[str]:
        return list(self.plan.tables)

    @property
    def pretrained(self) -> list[str]:
        """Files of the pretrainings that the campaign names itself."""
        return [path.as_posix() for key in self.plan.pretrainings for path in self._files(key)]

    def check_words(self, words: Iterable[str]) -> None:
        """Whether tables and runs that a command line names exist; Snakemake would only say that no
        rule produces them.

        Raises:
            UserError: one does not.
        """
        for word in words:
            if re.fullmatch("table_[a-z0-9_]+", word) and word[6:] not in self.tables:
                raise UserError(
                    f"snakemake {word}: no table {word[6:]!r} in this campaign; "
                    f"{nearest(word[6:], self.tables)}"
                )
            stage, run_id = ["", "", *Path(word).parts[:-1]][-2:]
            if stage in STAGES and Path(word).parents[2] == Path(self.results):
                self.plan.run(stage, run_id)

    def hand_on(self) -> None:
        """Write the runs for the jobs that are about to be started."""
        write_planned(self.planned, self.plan)

    def shell_prefix(self) -> str:
        """Defines `cp2` for the rules' shell: this Python and no other environment's.

        Braces are doubled, because Snakemake formats the prefix. CP2_LAUNCH is what starts it on
        several nodes.

        In a scheduler's job, one that has saved its state is to queue itself again.
        """
        words = ["--campaign", self.campaign]
        for text in self.assignments:
            words += ["--set", text]
        again = "export CP2_REQUEUE=1; " if self._in_job else ""
        python = shlex.quote(sys.executable)
        prefix = (
            f"set -euo pipefail; {again}export {VARIABLE}={shlex.quote(str(self.planned))}; "
            f'cp2() {{ ${{CP2_LAUNCH-}} {python} -m cp2 "$@" {shlex.join(words)}; }}; '
        )
        return prefix.replace("{", "{{").replace("}", "}}")

    def outputs(self, stage: Stage) -> dict[str, str]:
        """A rule's output files by name, with the wildcard `run`."""
        return {n: p.as_posix() for n, p in stage.paths(Path(self.results), "{run}").items()}

    def log(self, stage: Stage) -> str:
        """What a rule's job prints, with the wildcard `run`."""
        return (stage.run_folder(Path(self.results), "{run}").path / "job.log").as_posix()

    def command(self, stage: Stage) -> str:
        """A rule's shell command.

        Snakemake's code trigger compares it: another wording makes finished runs again.
        """
        threads = "{threads}" if stage.threads is None else stage.threads
        request = self.request(stage.name)
        count = "{resources.gpu}" if request.plain_gpus else request.gpus
        processes = f" --processes {count}" if stage.processes else ""
        run = f"cp2 {stage.name} {{wildcards.run}}{processes}"
        log = "{log}" if shlex.quote(self.results) == self.results else "{log:q}"
        several = f"CP2_NODES={request.nodes} CP2_LAUNCH='{request.srun()}' "
        return f"OMP_NUM_THREADS={threads} {several * (request.nodes > 1)}{run} > {log} 2>&1"

    def needs(self, stage: str, run_id: str) -> list[str]:
        """Final files of the runs that a run starts from."""
        needs = self._run(stage, run_id).needs
        return [p.as_posix() for need in needs for p in self._files(need)]

    def digest(self, stage: str, run_id: str) -> str:
        """Changes exactly when the run's numbers may change; a Snakemake parameter."""
        return self._run(stage, run_id).digest

    def world_digest(self, part: str = "scenes") -> str:
        """Changes when the demo world's settings change; empty without that part of it."""
        run = self.plan.runs.get(f"world/{part}")
        return run.digest if run else ""

    def table_needs(self, table: str) -> list[str]:
        """Scores that a table is made of."""
        return [p.as_posix() for key in self.plan.tables[table].runs for p in self._files(key)]

    def table_digest(self, table: str) -> str:
        """Changes when anything that the table shows may change."""
        planned = self.plan.tables[table]
        settings = self.configuration.table(table)
        return digest(
            {
                "runs": [self.plan.runs[key].digest for key in planned.runs],
                "missing": [cell.missing for cell in planned.cells],
                "imported": [c.imported and c.imported.model_dump() for c in planned.cells],
                "table": settings.model_dump(mode="json"),
                "scale": self.configuration.campaign.scale,
            }
        )[:16]

    def report_digest(self) -> str:
        """Changes when anything that the page shows may change."""
        shown = [self.configuration.campaign.title, *map(self.table_digest, self.tables)]
        return digest(shown)[:16]

    def published(self, table: str) -> list[str]:
        """The file of published numbers that a table is held against, if there is one."""
        name = self.configuration.table(table).published
        return [f"reports/published/{name}.csv"] if name else []

    def table_files(self) -> list[str]:
        """The Markdown file of every table."""
        return [f"{self.reports}/tables/{table}.md" for table in self.tables]

    def failed_imports(self) -> int:
        """How many imports into MLflow failed so far."""
        return count_failed(self.configuration.reports)

    def request(self, stage: str) -> JobRequest:
        """What a stage's jobs ask the scheduler for: the campaign's wishes in the site's words."""
        wishes = self.configuration.campaign.resources.get(stage, Resources())
        return job_request(stage, wishes, self.site)

    def misfits(self, jobs: Iterable[Any]) -> list[str]:
        """Why some of Snakemake's jobs would be refused, as far as is known before."""
        keys = (f"{job.rule.name}/{getattr(job.wildcards, 'run', '')}" for job in jobs)
        runs = [self.plan.runs[key] for key in keys if key in self.plan.runs]
        processes = {stage: self.request(stage).processes for stage in ON_CLUSTER}
        execution = self.configuration.campaign.execution
        return misfits(runs, self.plan, self.configuration.results, execution, processes)

    def resources(self, stage: str) -> dict[str, Any]:
        """A rule's resources; never part of a run's id nor of a rule's parameters."""
        return self.request(stage).snakemake()

    def _files(self, key: str) -> list[Path]:
        return list(files_of(key, self.configuration.results).values())

    def _run(self, stage: str, run_id: str) -> Run:
        """A job's own run, from the file that the submitting Snakemake wrote; else the plan's."""
        planned = read_planned(self.planned, stage, run_id) if self._in_job else None
        return planned or self.plan.run(stage, run_id)
