"""The Trainer: what training loops share around their step (resume, log, save, stop)."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from cp2.data.hashing import digest
from cp2.errors import WrongFile
from cp2.models.batch_norm import average_statistics
from cp2.models.devices import choose_device, device_name
from cp2.models.distributed import rank
from cp2.plan.graph import Run
from cp2.record.metrics import MetricsWriter, collapse
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import Execution
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.machine import machine_metrics
from cp2.training.optimizers import Precision
from cp2.training.parallel import Agreement, DataParallel
from cp2.training.progress import Progress
from cp2.training.saving import StateWriter, load_state, remove_state
from cp2.training.window import Term, Window

Batch = TypeVar("Batch")


class Trainer:
    """One attempt at a run: goes on from the saved state, logs, saves, stops by the clock.

    Args:
        run: the run; its recipe and environment are written before the first step.
        module: what is trained; its state dict is saved.
        terms: names of the scalars that a step's forward passes hand to `learn`.
        total: steps of the whole run.
    Attributes:
        step: steps done, by earlier attempts too.
    """

    def __init__(
        self,
        run: Run,
        results: Path,
        execution: Execution,
        deadline: Deadline,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        amp: str,
        terms: Sequence[str],
        total: int,
    ) -> None:
        self.device = choose_device()
        self.folder = run.folder(results)
        self._leads = rank() == 0  # the first process writes all files
        if self._leads:
            self.folder.start(
                hashed_fields(run.recipe) | {"seed": run.seed},
                {**run.tags, "stage": run.stage, "run_id": run.id, "seed": str(run.seed)},
                device_name(self.device),
            )
        self._run, self._results = run, results
        self._execution, self._deadline = execution, deadline
        self._module, self._optimizer, self._total = module, optimizer, total
        self.precision = Precision(amp, self.device)
        self.step, self._seconds_before = 0, 0.0
        self._window = Window(list(terms), scaled=amp == "fp16")
        waiting = self._restore()
        self.parallel = DataParallel(module)
        self._agreement = Agreement()
        self._agreement.on_step(self.step, self.folder.path)
        log = self.folder.log if self._leads else None
        self._progress = Progress(run.id, total, self.step, log)
        self._metrics = (
            MetricsWriter(self.folder.metrics, self.step, waiting) if self._leads else None
        )
        self._writer = StateWriter(self.folder.state, self._progress.say) if self._leads else None
        self._begin = self._last_save = time.monotonic()
        self._values: dict[str, float] = {}
        self._gradient: torch.Tensor | None = None
        self._collapsed = ""
        self._notes: list[str] = []

    def _restore(self) -> list[str]:
        """Go on from the saved state, if there is one; returns its metrics that had no room."""
        saved = load_state(self.folder.state, self.device, self._check)
        if saved is None:
            return []
        self.step = int(saved["step"])
        self._seconds_before = float(saved["seconds"])
        self._module.load_state_dict(saved["module"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self.precision.scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"].cpu())
        self._window = Window(self._window.names, saved["window"], self._window.scaled)
        return list(saved.get("metrics", []))

    def _check(self, saved: dict[str, Any]) -> None:
        """Raise where a state is not one of this run: before any of it is taken over."""
        if saved.get("run", self._run.digest) != self._run.digest:
            raise WrongFile("it is of another run")
        if not 0 < saved["step"] <= self._total:
            raise WrongFile(f"it is of step {saved['step']} of {self._total}")
        forms = (
            (saved["module"], self._module.state_dict()),
            ({"rng": saved["rng"]}, {"rng": torch.get_rng_state()}),
            (_moments(saved["optimizer"]), _moments(self._optimizer.state_dict())),
        )
        if any(_shapes(found) != _shapes(own) for found, own in forms):
            raise WrongFile("its weights are not those of this network")
        if saved["window"].shape[1:] != (len(self._window.names),):
            raise WrongFile("its loss terms are not those of this method")
        float(saved["seconds"]), dict(saved["scaler"]), list(saved.get("metrics", []))

    def announce(self, work: str, notes: Sequence[str | None]) -> None:
        """Say what is about to be done, and what was adapted on the way here."""
        self._notes = [note for note in notes if note]
        for note in self._notes:
            self._progress.say(note)
        resumed = f", resumed at step {self.step}" if self.step else ""
        precision = f", {self.precision.text}" if self.device.type == "cuda" else ""
        self._progress.say(f"{work}, on {device_name(self.device)}{precision}{resumed}")

    def waiting(self) -> AbstractContextManager[None]:
        """Around fetching a batch: the time inside is data wait."""
        return self._progress.waiting()

    def learn(self, forwards: Sequence[Callable[[], Mapping[str, Term]]]) -> None:
        """The gradient over all micro-batches and the optimiser's step.

        Args:
            forwards: one a micro-batch; gives its scalars, of which `loss` has the gradient.
        Raises:
            UserError: a term is not finite.
        """
        count = len(forwards)
        for number, forward in enumerate(forwards, 1):
            with self.parallel.accumulating(last=number == count):
                with self.precision.autocast():
                    terms = forward()
                self._window.add(terms)
                loss = terms["loss"]
                assert isinstance(loss, torch.Tensor)
                self.precision.backward(loss / count if count > 1 else loss)
        self._window.end_step()
        if self.device.type == "cpu":  # nothing to wait for: stop before the weights are spoiled
            self._window.check(self.step + 1)
        if self.logs_next:
            self._gradient = self.precision.gradient_norm(self._optimizer)
        self.precision.step(self._optimizer)

    @property
    def logs_next(self) -> bool:
        """Whether the step that is about to be made will be logged."""
        after = self.step + 1
        return after == self._total or after % self._execution.log_every == 0

    def advance(self, samples: int, shown: Mapping[str, float]) -> None:
        """The step is complete: log it, save where a save is due, stop where asked to.

        Args:
            samples: images of the step, of all processes.
            shown: further numbers of the step, such as the learning rate.
        Raises:
            UserError: a term is not finite.
            StoppedForResumeError: the clock or a signal asked to stop; the state is saved.
        """
        logged = self.logs_next
        self.step += 1
        self._progress.step(samples)
        last = self.step == self._total
        if logged:
            means = self._window.means(self.step)
            norm = {} if self._gradient is None else {"gradient_norm": self._gradient.item()}
            self._values = self._progress.report(self.step, {**means, **shown, **norm})
            self._warn()
            if self._metrics:
                self._metrics.write(self.step, self._values | machine_metrics(self.device))
        self._agree(last)

    def _warn(self) -> None:
        """Say once that features collapse, and again where they had recovered."""
        said, self._collapsed = self._collapsed, collapse(self._values)
        if self._collapsed and not said:
            self.say(f"step {self.step}: {self._collapsed}")

    def _agree(self, last: bool) -> None:
        """Save or stop, all processes at the same step."""
        reason = self._deadline.reason()
        due = self._save_is_due()
        wish = Agreement.STOP if reason else Agreement.SAVE if due else Agreement.GO_ON
        answer = self._agreement.exchange(wish, last)
        if answer == Agreement.STOP:
            self._save_now()
            raise self._stopped(reason)
        if answer == Agreement.SAVE:
            state = self._state()
            if self._writer:
                self._writer.save(state)
            self._last_save = time.monotonic()

    def _stopped(self, reason: str | None) -> StoppedForResumeError:
        reason = reason or "another process was asked to stop"
        self.say(f"stopped at step {self.step}: {reason}; start again to go on")
        text = f"{self._run.key}: saved at step {self.step} because {reason}"
        return StoppedForResumeError(text, self.step)

    def after_training(self, batches: Iterable[Batch], count: int) -> Iterator[Batch]:
        """`count` batches behind the last step; stopped amid them, the next attempt repeats all."""
        self._save_now()
        for number, batch in enumerate(batches, 1):
            yield batch
            reason = self._deadline.reason()
            wish = Agreement.STOP if reason else Agreement.GO_ON
            if self._agreement.exchange(wish, last=number == count) == Agreement.STOP:
                raise self._stopped(reason)

    def _save_is_due(self) -> bool:
        """A save that takes longer than `save_minutes` delays the next one."""
        if self._writer is None or self._writer.busy:
            return False
        self._writer.poll()
        self._deadline.save_took(self._writer.seconds)
        return time.monotonic() - self._last_save > 60 * self._execution.save_minutes

    def _save_now(self) -> None:
        state = self._state()
        if self._writer:
            self._writer.save_now(state)

    def _state(self) -> dict[str, Any]:
        """All processes call this together."""
        self._window.check(self.step)
        average_statistics(self._module)
        return {
            "run": self._run.digest,
            "step": self.step,
            "seconds": self._seconds(),
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "window": self._window.tensor(),
            "metrics": self._metrics.waiting if self._metrics else [],
        }

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._begin

    def say(self, line: str) -> None:
        """A line for the log."""
        self._progress.say(line)

    def finish(
        self, export: Callable[[Path], None], notes: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """Write the model with `export`, then done.json; the state is no longer needed.

        Args:
            notes: what the record should say beside what was announced.
        """
        # A full disk during the export must not cost the training.
        self._save_now()
        if self._metrics:
            self._metrics.flush()
        if not self._leads:
            return
        export(self.folder.model)
        summary = self._progress.finish() | {"seconds": self._seconds()}
        sha256 = digest(self.folder.model, "sha256")
        self._notes += [*notes(), *filter(None, [self._collapsed])]
        if self._window.skipped:
            self._notes.append(f"{self._window.skipped} steps overflowed fp16 and were skipped")
        self._run.finish(
            self._results,
            {
                **summary,
                "model_sha256": sha256,
                "steps": self._total,
                "last": self._values,
                "notes": self._notes,
            },
        )
        remove_state(self.folder.state)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", value) for name, value in tensors.items()}


def _moments(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of each group; each parameter's entries are there if there are any."""
    return {str(n): group["params"] for n, group in enumerate(optimizer["param_groups"])} | {
        "state": isinstance(optimizer["state"], dict)
    }
