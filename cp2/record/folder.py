"""The folder of one run: what lies where, and whether it is done."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cp2.record import attempts
from cp2.record.attempts import read_attempts
from cp2.record.environment import describe_environment
from cp2.record.files import clear_temporaries, write_json
from cp2.record.kept import has_content
from cp2.record.lock import Holder, hold, holder


@dataclass(frozen=True)
class RunFolder:
    """results/<stage>/<run id>/ and the names of the files in it.

    `state/` holds what a resume needs and is no Snakemake output; `done.json` is written last, so a
    folder that has it is complete.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def probes(self) -> Path:
        """Scores of frozen features, a line a step; none: it was never probed."""
        return self.path / "probes.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def scores(self) -> Path:
        return self.path / "scores.json"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def unreadable(self) -> Path:
        """Names of the images that could not be read, one a line; none: no such file."""
        return self.path / "unreadable.txt"

    def snapshot(self, epoch: int) -> Path:
        """Weights that a pretraining keeps after so many epochs."""
        return self.path / "snapshots" / f"epoch-{epoch}.safetensors"

    def snapshots(self) -> dict[int, Path]:
        """Those that are there, by epoch in rising order."""
        there = (self.path / "snapshots").glob("epoch-*.safetensors")
        epochs = {path.stem.removeprefix("epoch-"): path for path in there}
        return {int(one): epochs[one] for one in sorted(filter(str.isdecimal, epochs), key=int)}

    @property
    def done(self) -> Path:
        return self.path / "done.json"

    @property
    def attempts(self) -> Path:
        return self.path / attempts.FILE

    def locked(self, wait: bool = False) -> AbstractContextManager[None]:
        """Hold the run for this process; the system lets go of it however the process ends.

        Args:
            wait: for another process that works on the run.
        Raises:
            UserError: another process works on the run (names its job, host, process id and last
                sign of life), or the folder cannot be written to.
        """
        return hold(self.path, wait)

    def holder(self) -> Holder | None:
        """Who works on the run now, or None; takes nothing."""
        return holder(self.path)

    def is_done(self) -> bool:
        return has_content(self.done)

    def start(self, recipe: dict[str, Any], tags: dict[str, Any], device: str) -> None:
        """Write the resolved recipe and the environment before the first step.

        Args:
            recipe: all settings that can change the run's numbers.
            tags: stage, run id, seed, method, backbone, head, dataset, tables: how it is found.
            device: "cpu" or the GPU's name.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        clear_temporaries(self.path)
        self.done.unlink(missing_ok=True)
        write_json(self.recipe, {"recipe": recipe, "tags": tags})
        known = read_attempts(self.path)
        number = known[-1].number if known else 1
        started = {"attempt": number, "started": time.time()}
        write_json(self.environment, describe_environment(device) | started)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write done.json: the run is complete."""
        write_json(self.done, {"finished": time.time(), **summary})
