"""Linear SVMs of one class against the rest, and their average precision.

As in DenseCL's release (benchmarks/svm_tools). Its solver visits images in an order from NumPy's
global generator, here from seed 0. Processes import this module, so it imports no torch.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from cp2.data.annotations import ABSENT, DIFFICULT, PRESENT
from cp2.errors import UserError, WrongFile
from cp2.record.files import read_json, write_json
from cp2.settings.protocols.svm import SvmSchedule

Labels = npt.NDArray[np.int8]  # PRESENT, ABSENT or DIFFICULT: (images,), or (images, classes)
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Split(NamedTuple):
    """Images: features (images, values), and the labels of one class."""

    features: Floats
    labels: Labels


class ClassResult(NamedTuple):
    """One class.

    Attributes:
        ap: on the test images with the chosen cost; low-shot: mean over the samples, of each cost.
            None: no test image shows the class.
        cost: the chosen one.
        cross_validation: mean AP over the folds, of each cost.
    """

    ap: list[float] | None
    cost: float | None = None
    cross_validation: list[float] | None = None


def kept_result(
    files: list[Path], labels: list[Labels], schedule: SvmSchedule, number: int, classes: int
) -> ClassResult:
    """The class's result, which is kept beside the features."""
    kept = files[0].with_name(f"class-{number}.json")
    with suppress(WrongFile, TypeError):
        return ClassResult(*read_json(kept))
    train, test = (np.load(file, mmap_mode="r") for file in files)
    splits = Split(train, labels[0]), Split(test, labels[1])
    found = score_class(*splits, schedule, number, classes)
    write_json(kept, found)
    return found


def score_class(
    train: Split, test: Split, schedule: SvmSchedule, number: int, classes: int
) -> ClassResult:
    """Fit and test one class, whose place among `classes` is `number`.

    As released, images that show it in difficult objects alone are negatives of the fit and the
    cross-validation; in low-shot they are left out.
    """
    if not (test.labels == PRESENT).any():
        return ClassResult(None)
    costs = schedule.costs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as released: the last step counts
        if schedule.shots:
            drawn = (
                draw_shots(train.labels, schedule.shots, classes, [number, draw])
                for draw in range(schedule.draws)
            )
            samples = [Split(train.features[rows], train.labels[rows]) for rows in drawn]
            aps = [[fit_and_score(one, test, cost, schedule) for cost in costs] for one in samples]
            return ClassResult(np.mean(aps, axis=0).tolist())
        found = [cross_validated(train, cost, schedule) for cost in costs]
        cost = costs[int(np.argmax(found))]
        return ClassResult([fit_and_score(train, test, cost, schedule)], cost, found)


def draw_shots(
    labels: Labels, shots: int, classes: int, seed: Sequence[int]
) -> npt.NDArray[np.intp]:
    """Rows of `shots` images of a class, and of as many for each other class that lack it."""
    rng = np.random.default_rng(seed)
    counts = {PRESENT: shots, ABSENT: shots * (classes - 1)}
    rows = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in counts.items()
    ]
    return np.sort(np.concatenate(rows))


def cross_validated(train: Split, cost: float, schedule: SvmSchedule) -> float:
    """Mean AP (scikit-learn's) over stratified folds in the images' order."""
    signs, cv = _signs(train), schedule.folds
    model = _classifier(cost, schedule)
    scores = cross_val_score(model, train.features, signs, cv=cv, scoring="average_precision")
    return float(scores.mean())


def fit_and_score(train: Split, test: Split, cost: float, schedule: SvmSchedule) -> float:
    """AP on the test images; those that show the class in difficult objects alone do not count."""
    counted = test.labels != DIFFICULT
    scores = decide(train, test.features, cost, schedule)
    return average_precision(test.labels[counted] == PRESENT, scores[counted])


def decide(train: Split, features: Floats, cost: float, schedule: SvmSchedule) -> Floats:
    """Scores (images,) of the SVM of some training images."""
    model = _classifier(cost, schedule).fit(train.features, _signs(train))
    scores: Floats = model.decision_function(features)
    return scores


def _signs(train: Split) -> npt.NDArray[np.int_]:
    return np.where(train.labels == PRESENT, 1, -1)


def _classifier(cost: float, schedule: SvmSchedule) -> LinearSVC:
    weights = {1: schedule.positive_weight, -1: 1.0}
    steps = schedule.max_iterations
    return LinearSVC(C=cost, class_weight=weights, dual=True, max_iter=steps, random_state=0)


def average_precision(targets: Bools, scores: Floats) -> float:
    """VOC's AP since 2010; as released, of equal scores the last image comes first."""
    hits = targets[np.argsort(scores, kind="stable")[::-1]].cumsum()
    return envelope_area(hits / hits[-1], hits / np.arange(1, len(hits) + 1))


def envelope_area(recall: Floats, precision: Floats) -> float:
    """Area under precision over recall, where precision is the best at any higher recall."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall, prepend=0.0) @ best)


def check_labels(labels: Labels, schedule: SvmSchedule, classes: Sequence[str], where: str) -> None:
    """Whether the training images (images, classes) are enough.

    Raises:
        UserError: a class lacks images to fit and cross-validate with, or to draw.
    """
    key, need, rest = "folds", schedule.folds, schedule.folds
    if schedule.shots:
        key, need, rest = "shots", schedule.shots, schedule.shots * (len(classes) - 1)
    few = []
    for column, name in zip(labels.T, classes, strict=True):
        shown, hard, absent = (int((column == n).sum()) for n in (PRESENT, DIFFICULT, ABSENT))
        if shown < need or absent < rest:
            few.append(
                f"class {name!r} is shown by {shown} training images (by {hard} more only in "
                f"difficult objects) and missing in {absent}"
            )
    if few:
        more = f"; so it is with {len(few) - 1} more classes" if len(few) > 1 else ""
        raise UserError(
            f"{where}: {few[0]}{more}; {key} {need} needs {need} and {rest} of each. Add images, "
            f"lower {key}, or take the class's objects out of the annotations and its name out of "
            "the class list"
        )
