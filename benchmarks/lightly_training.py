"""Pretraining beside MoCo v2 and DenseCL of lightly, whose parts are put together as it documents.

lightly is no requirement of this project: `pip install lightly==1.6.*`.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18, resnet50

from benchmarks.figures import Figures, Say, assemble, print_table
from benchmarks.harness import Stopwatch, Variant, alternate
from benchmarks.loops import configuration, loop_variant, pretrain_recipe
from benchmarks.machine import matmul_peaks
from benchmarks.sizes import Sizes
from cp2.costs.work_folder import WorkFolder, work_folder
from cp2.data.pillow import open_image
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.training.pretrain import pretrain

NETWORKS = {"resnet18": resnet18, "resnet50": resnet50}


class LightlyMoCo(nn.Module):
    """MoCo v2 by lightly: two views (N, 3, S, S) each -> loss."""

    def __init__(self, network: nn.Module, channels: int, queue: int) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead

        super().__init__()
        trunk = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
        self.query = nn.Sequential(trunk, MoCoProjectionHead(channels, channels, 128))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue, 128))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        from lightly.models.utils import batch_shuffle, batch_unshuffle, update_momentum

        update_momentum(self.query, self.key, m=0.999)
        with torch.no_grad():
            shuffled, order = batch_shuffle(key)
            keys = batch_unshuffle(self.key(shuffled), order)
        loss: Tensor = self.criterion(self.query(query), keys)
        return loss


class LightlyDenseCL(nn.Module):
    """DenseCL by lightly: two views (N, 3, S, S) each -> loss."""

    def __init__(self, network: nn.Module, channels: int, queue: int) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import DenseCLProjectionHead

        super().__init__()
        modules = {
            "trunk": nn.Sequential(*list(network.children())[:-2]),
            "whole": DenseCLProjectionHead(channels, channels, 128),
            "dense": DenseCLProjectionHead(channels, channels, 128),
        }
        self.query = nn.ModuleDict(modules)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        bank = (queue, 128)
        self.whole_loss = NTXentLoss(temperature=0.2, memory_bank_size=bank)
        self.dense_loss = NTXentLoss(temperature=0.2, memory_bank_size=bank)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        from lightly.models.utils import (
            batch_shuffle,
            batch_unshuffle,
            select_most_similar,
            update_momentum,
        )

        update_momentum(self.query, self.key, m=0.999)
        cells_q, whole_q, dense_q = self._encode(self.query, query)
        with torch.no_grad():
            shuffled, order = batch_shuffle(key)
            parts = self._encode(self.key, shuffled)
            cells_k, whole_k, dense_k = (batch_unshuffle(part, order) for part in parts)
        matched = select_most_similar(cells_q, cells_k, dense_k)
        dense = self.dense_loss(dense_q.flatten(0, 1), matched.flatten(0, 1))
        loss: Tensor = 0.5 * self.whole_loss(whole_q, whole_k) + 0.5 * dense
        return loss

    @staticmethod
    def _encode(encoder: nn.ModuleDict, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells of the backbone (N, hw, C), projection of their mean (N, 128), of each of them."""
        cells = encoder["trunk"](images).flatten(2).transpose(1, 2)
        return cells, encoder["whole"](cells.mean(1)), encoder["dense"](cells)


class _Photographs(Dataset[Any]):
    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Any]) -> None:
        self._paths, self._transform = list(paths), transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        with open_image(self._paths[index]) as image:
            return self._transform(image.convert("RGB"))


# Ours by name in configs/methods/; at output stride 32, as lightly's networks are.
METHODS: dict[str, type[nn.Module]] = {"moco-v2-coco": LightlyMoCo, "densecl": LightlyDenseCL}


def bench_lightly(sizes: Sizes, paths: Sequence[Path] | None = None, say: Say = print) -> Figures:
    """Measure, print, and return the figures of both methods, from files to weights.

    Both have the same network, crops, batch, queue length and loaders. lightly augments in its
    workers by PIL, computes in float32 and keeps no state.

    Args:
        paths: images; None: synthetic ones.

    Raises:
        UserError: lightly is not installed, or the backbone is none of `NETWORKS`.
    """
    if sizes.backbone not in NETWORKS:
        raise UserError(f"lightly --backbone {sizes.backbone}: use one of {', '.join(NETWORKS)}")
    try:
        import lightly  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error}; pip install 'lightly==1.6.*'") from None
    device, config = choose_device(), configuration()
    peaks = matmul_peaks(device, sizes.amp)
    variants = []
    with work_folder(paths) as work:
        for method, network in METHODS.items():
            recipe = pretrain_recipe(config, method, sizes)
            variants += [
                _lightly(f"lightly, {method}", network, work, sizes, device),
                loop_variant(f"ours, {method}", pretrain, "pretrain", recipe, work, sizes),
            ]
        timings = alternate(variants, sizes.rounds, device, say)
    figures = assemble(sizes, work, variants, timings, device, peaks)
    print_table(figures, say)
    rates = {name: of["samples_per_second"]["median"] for name, of in figures["variants"].items()}
    figures["beside"] = {m: rates[f"ours, {m}"] / rates[f"lightly, {m}"] for m in METHODS}
    for method, ratio in figures["beside"].items():
        say(f"{method}: {ratio:.2f} times lightly's samples a second")
    return figures


def _lightly(
    name: str, network: type[nn.Module], work: WorkFolder, sizes: Sizes, device: torch.device
) -> Variant:
    def run(watch: Stopwatch) -> None:
        from lightly.transforms import MoCoV2Transform

        torch.manual_seed(0)
        backbone = NETWORKS[sizes.backbone]()
        model = network(backbone, backbone.fc.in_features, sizes.queue).to(device).train()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.SGD(weights, lr=0.03, momentum=0.9, weight_decay=1e-4)
        paths = work.repeated((watch.warmup + watch.steps + 2) * sizes.batch)
        loader = DataLoader(
            _Photographs(paths, MoCoV2Transform(sizes.crop)),
            sizes.batch,
            shuffle=True,
            num_workers=sizes.workers,
            drop_last=True,
            pin_memory=device.type == "cuda",
        )
        stream = iter(loader)
        while not watch.over:
            with watch.waiting():
                views = next(stream)
            loss = model(*(view.to(device, non_blocking=True) for view in views))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.lap()

    return Variant(name, run, sizes.batch, "published", sizes.warmup, sizes.steps, precision="off")
