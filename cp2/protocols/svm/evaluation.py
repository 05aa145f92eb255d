"""Features of both splits, an SVM a class, and the mean of their average precisions.

What is done stays in the run's state/ until its scores are there, so that a killed job goes on.
"""

import shutil
from pathlib import Path

import joblib
import numpy as np
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from cp2.data.annotations import image_labels
from cp2.data.index import read_index
from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols.svm import SvmRecipe
from cp2.protocols.registry import Scored
from cp2.protocols.svm.features import extract
from cp2.protocols.svm.fitting import ClassResult, Labels, check_labels, kept_result
from cp2.record.files import whole_file
from cp2.settings.campaign import Execution
from cp2.settings.protocols.svm import SvmSchedule
from cp2.training.pretrained import pretrained_backbone

PARALLEL_FROM = 2_000_000  # training features; below, starting processes takes longer


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """Score one backbone.

    Raises:
        UserError: the weights or the data set are missing or damaged, a class has too few images.
    """
    recipe, state = run.recipe, run.folder(results).state
    assert isinstance(recipe, SvmRecipe)
    index = read_index(run.needed_folder("dataset", results).path)
    classes, where = index.classes or (), f"data set {index.record.name}"
    splits = ("train", recipe.split)
    labels = [image_labels(index.labels(split), classes) for split in splits]
    check_labels(labels[0], recipe.schedule, classes, where)
    files = [state / f"{split}.npy" for split in splits]
    for split, file in zip(splits, files, strict=True):
        if not file.exists():
            backbone = pretrained_backbone(run, recipe.backbone, results).to(device).eval()
            features = extract(backbone, index.paths(split), recipe.schedule, execution.workers)
            with whole_file(file) as temporary, temporary.open("wb") as stream:
                np.save(stream, features)
    found = _score_classes(files, labels, recipe.schedule)
    scored = {name: one for name, one in zip(classes, found, strict=True) if one.ap}
    if not scored:
        raise UserError(f"{where}: no image of split {recipe.split} shows any class")
    table = np.array([one.ap for one in scored.values()])  # (classes, 1), low-shot: costs
    best = int(np.argmax(table.mean(0)))
    per_class = dict.fromkeys(classes) | dict(zip(scored, table[:, best].tolist(), strict=True))
    costs = {name: one.cost or recipe.schedule.costs[best] for name, one in scored.items()}
    shutil.rmtree(state)
    mean = float(table[:, best].mean())
    return Scored({"map": mean}, len(labels[1]), per_class, {"costs": costs})


def _score_classes(
    files: list[Path], labels: list[Labels], schedule: SvmSchedule
) -> list[ClassResult]:
    """One after the other where they are small, else by as many processes as the job has cores."""
    classes = labels[0].shape[1]
    small = np.load(files[0], mmap_mode="r").size < PARALLEL_FROM
    jobs = (
        joblib.delayed(kept_result)(files, [one[:, n] for one in labels], schedule, n, classes)
        for n in range(classes)
    )
    pool = joblib.Parallel(n_jobs=1 if small else torch.get_num_threads(), return_as="generator")
    try:
        return list(tqdm(pool(jobs), total=classes, desc="fitting", unit="class", disable=None))
    except TerminatedWorkerError as error:
        raise UserError(
            "a process that fits an SVM was killed, most likely for memory: each needs about 1 GB "
            "for VOC 2007; ask for more (resources.evaluate.mem_mb) or for fewer cpus"
        ) from error
