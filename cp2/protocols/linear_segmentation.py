"""A linear classifier of frozen positions, fitted to its optimum: one model has one score."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor
from torch.nn import functional as F

from cp2.errors import UserError
from cp2.models.devices import full_precision
from cp2.plan.graph import Run
from cp2.protocols.frozen_maps import Extraction, Positions, present_classes, score_run
from cp2.protocols.registry import Scored
from cp2.protocols.segmentation.scores import ConfusionMatrix, score
from cp2.settings.campaign import Execution
from cp2.settings.protocols.probes import LinearSchedule

Floats = npt.NDArray[np.float64]
CPU = torch.device("cpu")
FLAT = 1e-8  # an iteration that lowers the loss by less is the last: float32 tells no more
LINE_SEARCH = 2  # SciPy's status where it failed


class Linear(NamedTuple):
    """Weights (K, C) and biases (K), of the logits of features as they are."""

    weights: Tensor
    biases: Tensor


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """Score one backbone; see `score_run`."""
    return score_run(run, results, execution, device, probe)


def probe(extraction: Extraction, train: Positions, val: Positions) -> Scored:
    """Fit to the training positions, score the validation images."""
    schedule = extraction.recipe.schedule
    assert isinstance(schedule, LinearSchedule)
    features, classes = train.labelled()
    present, note = present_classes(classes, extraction.index)
    device = _fitting(features, extraction.device)
    l2, curve = choose_l2(train, schedule, device)
    fitted = fit(features, torch.searchsorted(present, classes), [l2], schedule, device)[0]
    count = len(extraction.index.classes or ())

    def class_map(features: Tensor) -> Tensor:
        logits = torch.einsum("kc,chw->khw", fitted.weights, features)
        full = torch.full((count, *logits.shape[1:]), -1e9)  # finite, as enlarging multiplies by 0
        full[present] = logits + fitted.biases[:, None, None]
        return full

    more = {"l2": l2, "held_out_miou": curve, **note}
    if curve and (edge := edge_note(l2, schedule)):
        print(edge)
        more["l2_note"] = edge
    return extraction.scored(map(class_map, val.features), more)


def _fitting(features: Tensor, device: torch.device) -> torch.device:
    """The device, if its free memory holds the features and the two copies that `fit` makes."""
    if device.type == "cuda" and 3 * features.nbytes > torch.cuda.mem_get_info(device)[0]:
        return CPU
    return device


def choose_l2(
    train: Positions, schedule: LinearSchedule, device: torch.device = CPU
) -> tuple[float, list[float]]:
    """The penalty of the best mIoU over the positions of held-out images, and all of these mIoUs.

    Of equally good ones the first. Where too few images or classes are left to fit, the first.
    Those from the first on that did not converge are not judged.
    """
    if len(schedule.l2) == 1:
        return schedule.l2[0], []
    numbers = torch.arange(len(train.classes))
    held = (numbers * schedule.held_out).long() != ((numbers + 1) * schedule.held_out).long()
    features, classes = train.labelled(~held)
    present = classes.unique()
    asked, answers = train.labelled(held)
    if len(present) < 2 or not len(answers):
        return schedule.l2[0], []
    found = []
    for one in fit(features, torch.searchsorted(present, classes), schedule.l2, schedule, device):
        predicted = present[(asked @ one.weights.T + one.biases).argmax(1)]
        confusion = ConfusionMatrix(int(max(answers.max(), present.max())) + 1, asked.device)
        confusion.add(predicted, answers)
        found.append(score(confusion.matrix())[0]["miou"])
    return schedule.l2[int(np.argmax(found))], found


def edge_note(l2: float, schedule: LinearSchedule) -> str:
    """A sentence where the chosen penalty has candidates on one side only; else nothing."""
    for end, more, words in ((min, "weaker", "weakest"), (max, "stronger", "strongest")):
        if l2 == end(schedule.l2):
            return (
                f"the {words} penalty of the grid, {l2:g}, was chosen: a {more} one may score "
                "higher; protocols.<protocol>.datasets.<data set>.l2 is the grid"
            )
    return ""


def fit(
    features: Tensor,
    classes: Tensor,
    penalties: Sequence[float],
    schedule: LinearSchedule,
    device: torch.device = CPU,
) -> list[Linear]:
    """The classifiers that minimise mean cross-entropy + penalty |W|^2 / 2, by L-BFGS.

    W is of features with mean 0 and deviation 1; each penalty starts from the one before.

    Args:
        features: (P, C).
        classes: (P), int64, from 0.
        penalties: strongest first; weaker ones take more iterations.
        device: of the products; L-BFGS itself is SciPy's, on the CPU.
    Returns:
        One each, on the features' device, up to the first that did not converge.
    Raises:
        UserError: the first did not.
    """
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    inputs = ((features - mean) / scale).to(device)
    inputs = F.pad(inputs, (0, 1), value=1.0)  # a last column for biases
    classes = classes.to(device)
    shape = (int(classes.max()) + 1, inputs.shape[1])
    theta = np.zeros(shape).ravel()
    found: list[Linear] = []
    for penalty in penalties:
        objective = partial(_loss, classes=classes, shape=shape, penalty=penalty)
        with full_precision(device):
            end = _minimum(objective, theta, inputs, schedule)
            if end.status == LINE_SEARCH:  # is it rounding that hides the way down?
                end = _minimum(objective, end.x, inputs.double(), schedule)
        if not end.success:
            problem = _problem(end, penalty, schedule)
            if not found:
                raise UserError(problem)
            print(f"{problem}; the best of the stronger ones is taken")
            break
        if (steepest := _steepest(end)) > schedule.tolerance:
            print(
                f"the linear classifier with l2 {penalty:g} ended where float32 tells no lower "
                f"loss: the gradient's largest entry is {steepest:.1e}, tolerance "
                f"{schedule.tolerance:g}"
            )
        theta = end.x
        weights = torch.from_numpy(theta).view(shape).to(features)
        slopes = weights[:, :-1] / scale
        found.append(Linear(slopes, weights[:, -1] - slopes @ mean))
    return found


def _minimum(
    objective: Callable[..., tuple[float, Floats]],
    theta: Floats,
    inputs: Tensor,
    schedule: LinearSchedule,
) -> OptimizeResult:
    """Where L-BFGS ends from theta on; products are in the inputs' precision."""
    options = {
        "maxiter": schedule.max_iterations,
        "maxfun": 100 * schedule.max_iterations,  # no limit: an iteration has 20
        "gtol": schedule.tolerance,
        "ftol": FLAT,
    }
    objective = partial(objective, inputs=inputs)
    return minimize(objective, theta, jac=True, method="L-BFGS-B", options=options)


def _problem(end: OptimizeResult, penalty: float, schedule: LinearSchedule) -> str:
    """Why a fit did not converge, and what to do."""
    what = f"the linear classifier with l2 {penalty:g} did not converge"
    if end.nit >= schedule.max_iterations:
        return (
            f"{what} within {schedule.max_iterations} iterations; raise max_iterations or leave "
            "small l2 out"
        )
    return (
        f"{what}: L-BFGS says {end.message.strip(': ')} after {end.nit} iterations, where the "
        f"gradient's largest entry is {_steepest(end):.1e}; raise tolerance (here "
        f"{schedule.tolerance:g}) above it, or leave this l2 out"
    )


def _steepest(end: OptimizeResult) -> float:
    return float(np.abs(end.jac).max())


def _loss(
    flat: Floats, *, inputs: Tensor, classes: Tensor, shape: tuple[int, int], penalty: float
) -> tuple[float, Floats]:
    """The objective and its gradient, in double precision behind the matrix products."""
    weights = torch.from_numpy(flat).view(shape)
    rows = torch.arange(len(classes), device=classes.device)
    logs = torch.log_softmax(inputs @ weights.to(inputs).T, 1)
    own = logs[rows, classes]  # summed in double: L-BFGS compares values
    value = penalty / 2 * weights[:, :-1].square().sum() - own.double().mean().cpu()
    errors = logs.exp_()
    errors[rows, classes] -= 1
    gradient = (errors.T @ inputs).double().cpu() / len(inputs)
    gradient[:, :-1] += penalty * weights[:, :-1]
    return float(value), gradient.numpy().ravel()
