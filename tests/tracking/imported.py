"""Runs as stages leave them, and what MLflow shows of them."""

import json
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.record.files import write_json
from cp2.settings.load import Configuration
from cp2.tracking.mlflow_import import Tracker, TrackSummary

START = 1000.0  # seconds since 1970, of all first attempts


def folders(root: Path) -> list[str]:
    """Settings that keep a campaign's results and reports below a folder."""
    return [f"campaign.execution.{name}={root / name}" for name in ("results", "reports")]


class Campaign:
    """The demo campaign with its results in a temporary folder, and a view of its database."""

    def __init__(self, configuration: Configuration, uri: str) -> None:
        self.configuration = configuration
        self.results = configuration.results
        self.plan: Plan = build_plan(configuration)
        self.uri = uri

    def tracker(self, **options: Any) -> Tracker:
        return Tracker(self.configuration, self.plan, self.uri, **options)

    def track(self, verify: bool = False) -> TrackSummary:
        return self.tracker().track(verify)

    def mlflow_runs(self) -> dict[str, Any]:
        """MLflow's runs by our key; each must be there once."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("demo")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        found = {run.data.tags["cp2.run_id"]: run for run in runs}
        assert len(found) == len(runs)
        return found

    def children(self) -> list[str]:
        return [key for key in self.mlflow_runs() if not key.startswith("row/")]

    def history(self, key: str, metric: str) -> list[tuple[int, float]]:
        client = MlflowClient(self.uri)
        points = client.get_metric_history(self.mlflow_runs()[key].info.run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def status(self, run: Run) -> str:
        return str(self.mlflow_runs()[run.key].info.status)

    def write(self, run: Run, steps: range, begin: float = START, attempt: int = 1) -> None:
        """A run in progress: its recipe, environment and lines for `steps`."""
        folder = run.folder(self.results)
        tags = {**run.tags, "stage": run.stage, "run_id": run.id}
        write_json(folder.recipe, {"recipe": run.recipe.model_dump(mode="json"), "tags": tags})
        environment = {"git_commit": "abc", "host": "node7", "device": "cpu", "attempt": attempt}
        write_json(folder.environment, environment | {"started": begin})
        with folder.metrics.open("a", encoding="utf-8") as file:
            for s in steps:
                line = {"step": s, "time": begin + s, "loss": 10.0 - s, "loss_dense": None}
                file.write(json.dumps(line) + "\n")

    def attempt(
        self,
        run: Run,
        number: int,
        outcome: str | None,
        error: str | None = None,
        device: str = "cpu",
    ) -> None:
        """One attempt of an hour; None: it was killed."""
        begin = START + 3600 * (number - 1)
        started = {"event": "started", "attempt": number, "time": begin, "host": "node7"}
        started |= {"pid": 99999999, "job": None, "device": device, "processes": 2}
        ended = {"event": "ended", "attempt": number, "time": begin + 3600, "outcome": outcome}
        ended |= {"step": 1, "error": error}
        with run.folder(self.results).attempts.open("a", encoding="utf-8") as file:
            file.write(json.dumps(started) + "\n")
            if outcome:
                file.write(json.dumps(ended) + "\n")

    def finish(self, run: Run, miou: float | None = None, time: float = 5000.0) -> None:
        """All outputs of a run; evaluations need a score."""
        folder = run.folder(self.results)
        for path in run.outputs(self.results).values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"output")
        if miou is not None:
            values = {"miou": miou, "accuracy": 0.75, "mean_accuracy": None}
            scores = {"split": "val", "dataset": run.tags["dataset"], "metrics": values}
            scores["per_class"] = {"sky": 0.25, 'a "quoted", one': 0.5, "unseen": None}
            write_json(folder.scores, scores)
        folder.pictures.mkdir(exist_ok=True)
        (folder.pictures / "0.png").write_bytes(b"picture")
        write_json(folder.done, {"finished": time, "seconds": 60.0, "model_sha256": "f" * 64})
