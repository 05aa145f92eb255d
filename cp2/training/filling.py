"""The loop of stages that go through a data set's images once: `cache` and `masks`."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from cp2.data.derived import AppendedFiles
from cp2.plan.graph import Run
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.progress import Progress

Batch = TypeVar("Batch")


def fill(
    run: Run,
    files: AppendedFiles,
    total: int,
    batches: Iterable[Batch],
    append: Callable[[Batch], None],
    progress: Progress,
    deadline: Deadline,
    save_minutes: float,
) -> None:
    """Append to `files` what is not there yet, and save and close them.

    Args:
        total: images of the data set.
        batches: what is left to do, in the images' order.
        append: adds a batch to the files.
        save_minutes: between two saves.

    Raises:
        UserError: a full disk.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    try:
        for batch in batches:
            before = files.images
            append(batch)
            progress.step(files.images - before)
            reason = deadline.reason()
            if reason and files.images < total:
                files.save()
                done = f"{files.images} of {total} images"
                progress.say(f"stopped after {done}: {reason}; start again to go on")
                raise StoppedForResumeError(f"{run.key}: saved after {done} because {reason}")
            files.save_if_due(save_minutes)
        files.save()
    finally:
        files.close()
