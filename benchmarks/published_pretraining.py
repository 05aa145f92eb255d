"""The published CP² pretraining (sec. 3.1; released code), written from its description.

The step: float32, NCHW, eager. Labels of every pair of positions are made as tensors, the momentum
update walks through the parameters one by one, the optimiser's update too, and five numbers are
read from the device each step.

The input pipeline: PIL on the CPU, one sample at a time. Three independent loaders: two views of a
foreground, and one view each of two backgrounds whose foreground rectangle is erased last.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from cp2.augment.photometric import IMAGENET_MEAN, IMAGENET_STD
from cp2.data.pillow import open_image
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.masks import RectangleMaskSettings
from cp2.settings.methods import Cp2Settings
from cp2.settings.models import trained_as
from cp2.settings.optimization import OptimizerSettings
from cp2.training.pretrain import build

FOREGROUND_SEED, QUERY_SEED, KEY_SEED = 0, 1024, 2048  # the released code's three shuffles
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # views of query and key, erased backgrounds


class PublishedCp2(nn.Module):
    """CP² around a query encoder: images (N, 3, S, S) -> (N, dim, h, w), not normalised."""

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, settings: Cp2Settings, encoder: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.query = encoder
        self.key = copy.deepcopy(encoder).requires_grad_(False)
        queue = torch.randn(settings.dim, settings.queue_size)
        self.register_buffer("queue", F.normalize(queue, dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def forward(
        self, view_q: Tensor, view_k: Tensor, background_q: Tensor, background_k: Tensor
    ) -> dict[str, Tensor]:
        """One step's scalars, of which `loss` has a gradient.

        Args:
            view_q, view_k: the foreground's views (N, 3, S, S).
            background_q, background_k: views that are exactly 0 where the foreground will be.
        """
        settings = self.settings
        mask_q, mask_k = (_hole(b) for b in (background_q, background_k))
        image_q = view_q * mask_q + background_q
        image_k = view_k * mask_k + background_k

        q = F.normalize(self.query(image_q), dim=1)
        with torch.no_grad():
            self._update_key_encoder()
            k = self._encode_keys(image_k)
        cells = q.shape[-1]
        mask_q, mask_k = (_sample(mask, cells) for mask in (mask_q, mask_k))
        average_q = F.normalize((q * mask_q).sum((2, 3)), dim=1)
        average_k = F.normalize((k * mask_k).sum((2, 3)), dim=1)

        positive = torch.einsum("nc,nc->n", average_q, average_k)[:, None]
        negative = torch.einsum("nc,ck->nk", average_q, self.queue.clone().detach())
        logits = torch.cat([positive, negative], dim=1) / settings.temperature
        target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        instance = F.cross_entropy(logits, target)

        labels = torch.einsum("nx,ny->nxy", mask_q.flatten(1), mask_k.flatten(1))
        similarity = torch.einsum("ncx,ncy->nxy", q.flatten(2), k.flatten(2))
        axis = 2 if settings.dense_softmax_axis == "key" else 1
        log_shares = F.log_softmax(similarity / settings.dense_temperature, dim=axis)
        dense = (-(log_shares * labels).sum((1, 2)) / labels.sum((1, 2))).mean()
        best = similarity.detach().flatten(1).argmax(1, keepdim=True)

        self._enqueue(average_k)
        return {
            "loss": instance + settings.dense_weight * dense,
            "loss_instance": instance,
            "loss_dense": dense,
            "accuracy_instance": (logits.argmax(1) == 0).float().mean(),
            "accuracy_dense": labels.flatten(1).gather(1, best).mean(),
        }

    def _update_key_encoder(self) -> None:
        momentum = self.settings.momentum
        for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
            key.data = key.data * momentum + query.data * (1 - momentum)

    def _encode_keys(self, images: Tensor) -> Tensor:
        """Shuffled and put back: on one process it moves images and changes no statistics."""
        order = torch.randperm(len(images), device=images.device)
        k = self.key(images[order])[torch.argsort(order)]
        return F.normalize(k, dim=1)

    def _enqueue(self, keys: Tensor) -> None:
        size, first = self.queue.shape[1], int(self.queue_ptr)
        while len(keys):  # once, unless the queue ends within the batch
            part = keys[: size - first]
            self.queue[:, first : first + len(part)] = part.T
            keys, first = keys[len(part) :], (first + len(part)) % size
        self.queue_ptr[0] = first


def published_training(
    recipe: PretrainRecipe, device: torch.device
) -> tuple[PublishedCp2, torch.optim.Optimizer]:
    """The published CP² around the recipe's network, on the device, and its optimiser."""
    settings = recipe.method
    assert isinstance(settings, Cp2Settings)
    torch.manual_seed(0)
    method = PublishedCp2(settings, build(recipe, Path())[0].exported).to(device).train()
    return method, published_optimizer(settings.optimizer[trained_as(recipe.backbone)], method)


def published_optimizer(settings: OptimizerSettings, module: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW, one parameter after the other."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if settings.kind == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            foreach=False,
        )
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=False,
    )


def published_update(
    terms: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Gradient, update, and the step's numbers, each read from the device."""
    numbers = {name: term.item() for name, term in terms.items()}
    optimizer.zero_grad()
    terms["loss"].backward()
    optimizer.step()
    return numbers


def _hole(background: Tensor) -> Tensor:
    """1 where channel 0 is exactly 0, (N, 1, S, S): no normalised pixel of a image is."""
    return (background[:, :1] == 0).float()


def _sample(mask: Tensor, cells: int) -> Tensor:
    """Every stride-th pixel from stride // 2 on."""
    stride = mask.shape[-1] // cells
    return mask[..., stride // 2 :: stride, stride // 2 :: stride]


class Foregrounds(Dataset[tuple[Tensor, Tensor]]):
    """Two views of one image, float32 (3, S, S)."""

    def __init__(self, paths: Sequence[Path], settings: Cp2Settings) -> None:
        self._paths, self._view = list(paths), _view(settings)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = _decode(self._paths[index])
        return self._view(image), self._view(image)


class Backgrounds(Dataset[Tensor]):
    """One view of one image with a hole of zeros where the foreground will be, (3, S, S)."""

    def __init__(self, paths: Sequence[Path], settings: Cp2Settings) -> None:
        self._paths, self._view = list(paths), _view(settings)
        mask = settings.mask
        assert isinstance(mask, RectangleMaskSettings)  # the only kind that was released
        self._erase = transforms.RandomErasing(p=1, scale=mask.area, ratio=mask.aspect, value=0)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        return self._erase(self._view(_decode(self._paths[index])))


class Triples(Dataset[Batch]):
    """What the three loaders make for one sample, by one worker: for the rate of a single core."""

    def __init__(self, paths: Sequence[Path], settings: Cp2Settings) -> None:
        self._foregrounds = Foregrounds(paths, settings)
        self._backgrounds = Backgrounds(paths, settings)

    def __len__(self) -> int:
        return len(self._foregrounds)

    def __getitem__(self, index: int) -> Batch:
        background_q, background_k = (
            self._backgrounds[(index * step + step) % len(self)] for step in (3, 7)
        )
        return (*self._foregrounds[index], background_q, background_k)


def published_batches(
    paths: Sequence[Path], settings: Cp2Settings, batch_size: int, workers: int, pin: bool
) -> Iterator[Batch]:
    """One epoch; each of the three loaders has `workers` processes, as released."""
    backgrounds = Backgrounds(paths, settings)
    loaders = [
        _loader(dataset, seed, batch_size, workers, pin)
        for dataset, seed in (
            (Foregrounds(paths, settings), FOREGROUND_SEED),
            (backgrounds, QUERY_SEED),
            (backgrounds, KEY_SEED),
        )
    ]
    for (view_q, view_k), background_q, background_k in zip(*loaders, strict=True):
        yield view_q, view_k, background_q, background_k


def _loader(
    dataset: Dataset[object], seed: int, batch_size: int, workers: int, pin: bool
) -> "DataLoader[object]":
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=RandomSampler(dataset, generator=generator),  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=pin,
        drop_last=True,
    )


def _view(settings: Cp2Settings) -> transforms.Compose:
    views = settings.views
    jitter = transforms.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                views.crop_size, scale=views.crop_scale, ratio=views.crop_ratio
            ),
            transforms.RandomApply([jitter], p=views.jitter_probability),
            transforms.RandomGrayscale(p=views.gray_probability),
            transforms.RandomApply([_PilBlur(views.blur_sigma)], p=views.blur_probability),
            transforms.RandomHorizontalFlip(p=views.flip_probability),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


class _PilBlur:
    def __init__(self, sigma: tuple[float, float]) -> None:
        self._sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        sigma = float(torch.empty(1).uniform_(*self._sigma))
        return image.filter(ImageFilter.GaussianBlur(radius=sigma))


def _decode(path: Path) -> Image.Image:
    with open_image(path) as image:
        return image.convert("RGB")
