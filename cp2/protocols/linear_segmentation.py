"""A linear classifier of frozen positions, fitted to its optimum: one model has one score."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
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
        One each, on the features' device, up to the first that did not end within
        `max_iterations`.
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
        with full_precision(device):
            end = minimize(
                partial(_loss, inputs=inputs, classes=classes, shape=shape, penalty=penalty),
                theta,
                jac=True,
                method="L-BFGS-B",
                options={
                    "maxiter": schedule.max_iterations,
                    "gtol": schedule.tolerance,
                    "ftol": 1e-8,
                },
            )
        if end.nit >= schedule.max_iterations:
            problem = (
                f"the linear classifier with l2 {penalty:g} did not converge within "
                f"{schedule.max_iterations} iterations; raise max_iterations or leave small l2 out"
            )
            if not found:
                raise UserError(problem)
            print(f"{problem}; the best of the stronger ones is taken")
            break
        theta = end.x
        weights = torch.from_numpy(theta).view(shape).to(features)
        slopes = weights[:, :-1] / scale
        found.append(Linear(slopes, weights[:, -1] - slopes @ mean))
    return found


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
