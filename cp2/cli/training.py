"""The long commands: stopped by the clock and resumed; those that train, on several GPUs."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import RUN, CampaignOptions, RunArgument, command, in_local_job
from cp2.cluster.commands import REQUEUE, requeue_this_job
from cp2.errors import UserError
from cp2.stages import STAGES
from cp2.training.clock import RESUME_EXIT_CODE, Deadline, StoppedForResumeError
from cp2.training.nodes import ALONE, Node, this_node
from cp2.training.processes import launch, reporting_to_launcher, this_rank

if TYPE_CHECKING:
    from cp2.plan.graph import Run
    from cp2.settings.campaign import Execution

    Loop = Callable[[Run, Path, Execution, Deadline], None]


@dataclass(frozen=True)
class LoopOptions(CampaignOptions):
    """Options of a command that saves its state and goes on with it."""

    max_minutes: Annotated[
        float | None,
        typer.Option("--max-minutes", help="save and leave with code 85 after this time"),
    ] = None
    requeue: Annotated[
        bool,
        typer.Option(
            "--requeue",
            envvar=REQUEUE,
            help="in a Slurm batch job whose time is up: queue it again, from its first line",
        ),
    ] = False


@dataclass(frozen=True)
class TrainingOptions(LoopOptions):
    """Options of a training, which may use several GPUs."""

    processes: Annotated[
        int, typer.Option("--processes", min=0, help="GPUs to share the batch; 0 is 1, GPU or not")
    ] = 1
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="micro-batches a step, to save memory")
    ] = None


@command(RUN)
def cache(run_id: RunArgument, options: LoopOptions) -> None:
    """Decode a data set once into one file that pretrainings read, or go on with it."""
    _train("cache", run_id, options)


@command(RUN)
def masks(run_id: RunArgument, options: LoopOptions) -> None:
    """Compute the self-attention that masks of kind dino are cut from, or go on with it."""
    _train("masks", run_id, options)


@command(RUN)
def pretrain(run_id: RunArgument, options: TrainingOptions) -> None:
    """Pretrain one model, or go on with it."""
    _train("pretrain", run_id, options, options.processes, options.accumulate)


@command(RUN)
def finetune(run_id: RunArgument, options: TrainingOptions) -> None:
    """Finetune one model on a labelled data set, or go on with it."""
    _train("finetune", run_id, options, options.processes, options.accumulate)


_LOOPS = {
    "cache": "cp2.training.cache.make_cache",
    "masks": "cp2.training.masks.compute_masks",
    "pretrain": "cp2.training.pretrain.pretrain",
    "finetune": "cp2.protocols.registry.finetune",
}


def _loop(stage: str) -> "Loop":
    """What a stage runs, imported only now: torch takes seconds."""
    module, _, name = _LOOPS[stage].rpartition(".")
    loop: Loop = getattr(import_module(module), name)
    return loop


def _train(
    stage: str,
    run_id: str,
    options: LoopOptions,
    processes: int = 1,
    accumulate: int | None = None,
) -> None:
    """Train a run, or go on with it.

    A saved, unfinished run leaves with its own exit code. Where the scheduler's end of the job was
    the reason, and the user wants it, the job is queued again first.
    """
    configuration, run = options.find(stage, run_id)
    execution = configuration.campaign.execution
    if accumulate is not None:
        execution = execution.model_copy(
            update={"accumulate": {**execution.accumulate, stage: accumulate}}
        )
    deadline = Deadline(options.max_minutes)
    try:
        if this_rank() is not None:
            deadline.listen()
            with reporting_to_launcher():
                _work(stage, run, configuration.results, execution, deadline)
        else:
            node = this_node() if STAGES[stage].processes else ALONE
            processes = max(processes, 1)
            if node.first:
                _hold(stage, run, configuration.results, execution, deadline, processes, node)
            else:
                _join(run, configuration.results, processes, node)
    except StoppedForResumeError as stopped:
        if this_rank() is None:
            if not node.first:  # srun's exit code is the largest
                raise typer.Exit(0) from None
            print(stopped, file=sys.stderr)
            asked = deadline.signalled or stopped.signalled or options.max_minutes is not None
            if options.requeue and not asked:  # the lock is let go of by now
                print(requeue_this_job() or "no Slurm job to queue again", file=sys.stderr)
        raise typer.Exit(RESUME_EXIT_CODE) from None
    except UserError:
        if this_rank() is None:
            raise
        raise typer.Exit(2) from None  # the launcher tells it, once


def _join(run: "Run", results: Path, processes: int, node: Node) -> None:
    """Train what the first node's command holds, unless it is done already."""
    from cp2.models.devices import check_gpus

    try:
        if not run.is_done(results):
            run.check_needs(results)
            print(f"{node}: {check_gpus(processes, node.count)}", flush=True)
            launch(sys.argv[1:], processes, node)
    except UserError as error:
        error.args = (f"{node}: {error}",)
        raise


def _hold(
    stage: str,
    run: "Run",
    results: Path,
    execution: "Execution",
    deadline: Deadline,
    processes: int,
    node: Node,
) -> None:
    """Hold the run for this process and train it, unless it is done already."""
    folder = run.folder(results)
    with folder.locked(wait=in_local_job()):
        if run.is_done(results) or run.take_back(results):
            print(f"{run.key} is done; to make it again delete {folder.path}")
            return
        deadline.listen()
        if deadline.note:
            print(deadline.note, flush=True)
        from cp2.models.devices import check_gpus, choose_device, device_name
        from cp2.record.attempts import recorded

        device = device_name(choose_device())
        everywhere = processes * node.count
        with recorded(folder.path, device, everywhere, saved=StoppedForResumeError):
            run.check_needs(results)
            print(check_gpus(processes, node.count), flush=True)
            if everywhere > 1:
                try:
                    launch(sys.argv[1:], processes, node)
                except StoppedForResumeError:
                    if not run.is_done(results):  # a signal may come just after the end
                        raise
            else:
                _work(stage, run, results, execution, deadline)


def _work(
    stage: str, run: "Run", results: Path, execution: "Execution", deadline: Deadline
) -> None:
    """Be the only training process, or one of several."""
    from cp2.training.parallel import joined
    from cp2.training.saving import wait_for_saves

    try:
        folder = run.folder(results).path
        with joined(
            folder,
            lambda: deadline.reason() or ("it is done" if run.is_done(results) else None),
            lambda: deadline.steps,
        ):
            _loop(stage)(run, results, execution, deadline)
    finally:
        wait_for_saves()
