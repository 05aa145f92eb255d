"""Methods that differ in more than their loss: nothing but their own file knows them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from test_pretrain import StopAfter
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.contrastive import Contrastive, Keys, Objective, Vectors
from cp2.methods.moco_v2_plus import encoder
from cp2.methods.step import LossTerms, Method, Step
from cp2.models.encoders import GlobalEncoder
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.load import Configuration
from cp2.settings.methods import PlainSettings
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain

COMMON = {
    "kind": "toy",
    "name": "toy",
    "title": "",
    "views": {"crop_size": 32},
    "batch_size": 4,
    "dim": 8,
    "optimizer": {"resnet": {"kind": "sgd", "lr": 0.1, "weight_decay": 1e-4}},
}


class SimClrSettings(PretrainingSettings):
    """One network; no momentum, queue or predictor."""

    kind: Literal["toy"]


class SimClr(Method):
    """NT-Xent over both views at once, with a gradient into either."""

    def __init__(self, settings: SimClrSettings, network: nn.Module, micro_batches: int) -> None:
        super().__init__(settings, micro_batches)
        self.encoder = self.grouped(network)

    @property
    def encoders_of_images(self) -> tuple[nn.Module, ...]:
        return (self.encoder,)

    def forward(self, batch: PreparedBatch, prepared: Any, step: Step) -> LossTerms:
        views = torch.cat([self.encoder(batch.images_q), self.encoder(batch.images_k)])
        z = F.normalize(views.float(), dim=1)
        logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
        partner = torch.arange(len(z)).roll(len(z) // 2)
        return {"loss": F.cross_entropy(logits, partner)}


class CentredSettings(PlainSettings):
    """DINO-like: a teacher, a centre of its outputs, no queue."""

    kind: Literal["toy"]  # type: ignore[assignment]


class Centred(Objective):
    """Cross-entropy with the centred teacher; a predictor sees the rows that a filter leaves."""

    terms = ("loss", "rows")
    centre: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 0, queues=())
        self.predictor = nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim))
        self.register_buffer("centre", torch.zeros(dim))

    def keys(self, features: Tensor) -> Vectors:
        return {"raw": features.float()}

    def forward(
        self, features: Tensor, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        chosen = keys["raw"].argsort(0)[:, 0] > 0  # three rows of four
        student = self.predictor(features[chosen]).log_softmax(1)
        teacher = ((keys["raw"][chosen] - self.centre) / 0.1).softmax(1)
        rows = torch.tensor(float(chosen.sum()))
        return {"loss": -(teacher * student).sum(1).mean(), "rows": rows}

    def update(self, keys: Keys, step: Step) -> None:
        means = [view["raw"].mean(0) for view in keys]
        assert len(means) == 2
        self.centre.lerp_(torch.stack(means).mean(0), 0.1)


class Teacher(Contrastive):
    """Exports its key encoder, whose momentum starts at the current step."""

    @property
    def exported(self) -> nn.Module:
        return self.encoders.key

    def momentum(self, step: Step) -> float:
        return 0.5 + 0.5 * step.number / step.total


SIMCLR = SimpleNamespace(
    encoder=lambda settings, backbone, head: GlobalEncoder(backbone, settings.dim),
    method=SimClr,
)
TEACHER = SimpleNamespace(
    encoder=encoder,
    method=lambda settings, network, micro_batches: Teacher(
        settings, network, Centred(settings.dim), micro_batches
    ),
)


@pytest.mark.parametrize(
    ("settings", "file", "parts"),
    [
        (SimClrSettings.model_validate(COMMON), SIMCLR, {"backbone", "fc"}),
        (
            CentredSettings.model_validate(COMMON | {"symmetric": True, "key_bn": "none"}),
            TEACHER,
            {"backbone", "fc"},
        ),
    ],
    ids=["without a key encoder", "teacher with a centre"],
)
def test_a_method_of_another_kind_is_trained_and_resumed(
    tiny: tuple[Configuration, Plan],
    find: Callable[[str], Run],
    monkeypatch: pytest.MonkeyPatch,
    settings: PretrainingSettings,
    file: SimpleNamespace,
    parts: set[str],
) -> None:
    monkeypatch.setitem(sys.modules, "cp2.methods.toy", file)  # type: ignore[misc]
    built: list[Method] = []
    make = file.method
    monkeypatch.setattr(file, "method", lambda *given: built.append(make(*given)) or built[-1])
    configuration = tiny[0]
    run = find("moco-v2")
    assert isinstance(run.recipe, PretrainRecipe)
    recipe = run.recipe.model_copy(update={"method": settings, "epochs": 1})  # 3 steps
    run = Run("pretrain", "toy", "", recipe, 0, run.needs, run.tags)
    models = []
    for name, stops in (("whole", False), ("parts", True)):
        results = _results(configuration, name)
        while True:
            deadline = StopAfter(1) if stops else Deadline()
            try:
                pretrain(run, results, configuration.campaign.execution, deadline)
                break
            except StoppedForResumeError:
                pass
        models.append((load_weights(run.folder(results).model)[0], built[-1].state_dict()))
    (whole, state), (other, resumed) = models
    assert set(whole) - {"keys"} == parts
    for part, tensors in whole.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, other[part][key]), (part, key)
    for key, tensor in state.items():
        assert torch.equal(tensor, resumed[key]), key
    if file is TEACHER:
        assert state["objective.centre"].abs().sum() > 0
        exported, teacher = whole["fc"]["0.weight"], state["encoders.key.fc.0.weight"]
        assert torch.equal(exported, teacher)
        assert not torch.equal(exported, state["encoders.query.fc.0.weight"])


def _results(configuration: Configuration, name: str) -> Path:
    folder = configuration.results.parent / name
    folder.mkdir()
    (folder / "datasets").symlink_to(configuration.results / "datasets")
    return folder
