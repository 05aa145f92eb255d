"""BYOL's and SimCLR's losses and gradients, LARS, momentum against the released code's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from two_processes import meeting, on_two

from cp2.methods.byol import Regression
from cp2.methods.momentum import rising_momentum
from cp2.methods.simclr import encoder, nt_xent, of_all_processes
from cp2.methods.step import Step
from cp2.models.projectors import mlp
from cp2.settings.optimization import LarsSettings
from cp2.settings.rivals import ByolSettings, SimClrSettings
from cp2.training.optimizers import build_optimizer, set_lr

GOLDEN = Path(__file__).parent / "golden"
FIRST = Step(0, 10, 0)
GIVEN = {"name": "t", "title": "", "optimizer": {}, "batch_size": 6}


def golden(name):
    with np.load(GOLDEN / f"rivals_{name}.npz") as data:
        return {key: torch.from_numpy(np.array(data[key])) for key in data.files}


def close(found, expected, share=1e-4):
    assert found.shape == expected.shape
    assert (found.detach() - expected).abs().max() <= share * expected.abs().max()


@pytest.fixture(scope="module")
def data():
    return golden("byol_simclr")


def load(module, data, prefix, names):
    """Layers of a Sequential, by their published names."""
    state = {}
    for number, name in names.items():
        for key in module[number].state_dict():
            if f"{prefix}.{name}.{key}" in data:
                state[f"{number}.{key}"] = data[f"{prefix}.{name}.{key}"]
            elif key == "bias":
                state[f"{number}.{key}"] = torch.zeros_like(module[number].bias)
    module.load_state_dict(state, strict=False)


def test_byol(data):
    chosen = ByolSettings(kind="byol", dim=16, **GIVEN)
    predictor = mlp(16, 24, 16, norm=True).train()
    names = {0: "fc0", 1: "bn0", 3: "fc1"}
    load(predictor, data, "predictor", names)
    objective = Regression(chosen)
    online = [data[f"online_{view}"].clone().requires_grad_() for view in (1, 2)]
    losses = [
        objective(predictor(online[view]), objective.keys(data[f"target_{2 - view}"]), None, FIRST)
        for view in (0, 1)
    ]
    for found, name in zip(losses, ("byol_12", "byol_21"), strict=True):
        torch.testing.assert_close(found["loss"].detach(), data[name], rtol=0, atol=1e-5)
    sum(found["loss"] for found in losses).backward()
    for view in (0, 1):
        close(online[view].grad, data[f"byol_grad_{view + 1}"])
    for number, name in names.items():
        for key, parameter in predictor[number].named_parameters():
            expected = data[f"byol_grad_predictor.{name}.{key}"]
            if expected.abs().max() > 1e-6:  # a bias before batch norm has none
                close(parameter.grad, expected)
    close(predictor[1].running_mean, data["byol_predictor_after.bn0.running_mean"], 1e-6)
    close(predictor[1].running_var, data["byol_predictor_after.bn0.running_var"], 1e-6)


def test_byols_momentum(data):
    # The release's after step t is ours at the start of step t + 1.
    for t, expected in enumerate(data["byol_ema_f8"].tolist()):
        assert rising_momentum(0.99, 1.0, Step(t + 1, 40, 0)) == pytest.approx(expected, abs=1e-9)


def test_nt_xent(data):
    z = data["z"].transpose(0, 1).clone().requires_grad_()
    loss, accuracy = nt_xent(z, 0.1)
    loss.backward()
    torch.testing.assert_close(loss.detach(), data["ntxent"], rtol=1e-5, atol=0)
    torch.testing.assert_close(2 * loss.item(), data["ntxent_google_f8"].item(), rtol=1e-5, atol=0)
    close(z.grad.transpose(0, 1), data["ntxent_grad"])
    assert 0 <= accuracy <= 1


def slow_nt_xent(z, temperature):
    """Row by row; z (2, N, D) in float64."""
    rows = [row / row.norm() for row in z.flatten(0, 1)]
    half, total = z.shape[1], 0.0
    for i, row in enumerate(rows):
        scores = {j: (row @ other / temperature) for j, other in enumerate(rows) if j != i}
        partner = scores[(i + half) % len(rows)]
        total = total - (partner - torch.stack(list(scores.values())).logsumexp(0))
    return total / len(rows)


@pytest.mark.parametrize("images", [2, 3, 7])
def test_nt_xent_against_a_loop(images):
    """Two images are the smallest batch with negatives."""
    torch.manual_seed(images)
    z = torch.randn(2, images, 5, requires_grad=True)
    other = z.detach().double().requires_grad_()
    found, expected = nt_xent(z, 0.3)[0], slow_nt_xent(other, 0.3)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    found.backward()
    expected.backward()
    torch.testing.assert_close(z.grad.double(), other.grad, rtol=1e-4, atol=1e-5)


def test_simclrs_projection(data):
    class Body(nn.Module):
        channels = 16

    chosen = SimClrSettings(kind="simclr", dim=8, **GIVEN)
    made = encoder(chosen, Body(), None).fc.train()
    made[0], made[1] = nn.Linear(16, 24, bias=False), nn.BatchNorm1d(24)
    made[3] = nn.Linear(24, 8, bias=False)
    load(made, data, "simclr_neck", {0: "fc0", 1: "bn0", 3: "fc1", 4: "bn1"})
    close(made(data["simclr_neck_map"].mean((2, 3))), data["simclr_neck_out"])


def _share(rank, folder, z):
    with meeting(rank, folder):
        own = z[:, 3 * rank : 3 * rank + 3].clone().requires_grad_()
        loss, _ = nt_xent(of_all_processes(own), 0.1)
        loss.backward()
        torch.save((loss.detach(), own.grad), folder / f"{rank}.pt")


def test_nt_xent_of_two_processes(data, tmp_path):
    """Each has the loss of all; the mean of both gradients of a parameter is the true one."""
    z = data["z"].transpose(0, 1).contiguous()
    on_two(_share, tmp_path, z)
    for rank in (0, 1):
        loss, gradient = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(loss, data["two_ntxent"][rank], rtol=1e-5, atol=0)
        mine = slice(3 * rank, 3 * rank + 3)
        close(gradient.transpose(0, 1) / 2, data["two_true_grad"][mine].float())


@pytest.mark.parametrize("name", ["slotcon", "pixpro", "byol_simclr"])
def test_lars(name):
    data = golden(name)
    starts = {k.split(".")[1]: v for k, v in data.items() if k.startswith("lars_before.")}
    # OpenSelfSup excludes by name: a vector that it keeps is a shortcut's batch norm.
    named = {"kept_1d": "downsample.1.weight"}
    module = nn.Module()
    for key, value in starts.items():
        child = module
        for part in named.get(key, f"{key}.{key}").split(".")[:-1]:
            child.add_module(part, nn.Module())
            child = getattr(child, part)
        child.register_parameter(named.get(key, key).split(".")[-1], nn.Parameter(value.clone()))
    form = "openselfsup" if name == "byol_simclr" else "released"
    decay = data["lars_weight_decay"].item()
    settings = LarsSettings(kind="lars", form=form, lr=1.0, weight_decay=decay)
    optimizer = build_optimizer(settings, module)
    own = dict(zip(starts, module.parameters(), strict=True))
    for step, lr in enumerate(data["lars_lrs"].tolist()):
        set_lr(optimizer, lr)
        for key, parameter in own.items():
            parameter.grad = data[f"lars_grad{step}.{key}"].clone()
        optimizer.step()
        for key, parameter in own.items():
            expected = data[f"lars_after{step}.{key}"]
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["released", "openselfsup"])
def test_lars_moves_zeros_and_leaves_the_idle_alone(form):
    zeros, idle = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 3))
    settings = LarsSettings(kind="lars", form=form, lr=0.5, weight_decay=0.0)
    optimizer = build_optimizer(settings, nn.ParameterList([zeros, idle]))
    zeros.grad, idle.grad = torch.ones(2, 3), torch.zeros(2, 3)
    optimizer.step()
    assert torch.equal(zeros.detach(), torch.full((2, 3), -0.5))
    assert torch.equal(idle.detach(), torch.zeros(2, 3))
