"""Photometric augmentation of whole batches on the device, each sample with its own parameters.

Every function takes float (N, 3, H, W) images in [0, 1] and one factor a sample, (N,), and needs
few kernels whatever the factors are. The operations are PIL's, in floating point instead of PIL's
rounding to 8 bits after each step.
"""

import torch
from torch import Tensor

from cp2.augment.box_blur import blur, box_radius
from cp2.augment.views import (
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAY,
    HUE,
    JITTER,
    ORDER,
    RELEASED,
    SATURATION,
    SIGMA,
    SOLARIZE,
)
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # PIL's L
SOLARIZE_FROM = 128 / 255  # BYOL's threshold
CACHED = 2**20  # values (4 MiB) that a CPU core works on at a time
SLOTS = range(4)  # the colour jitter's operations, in a sample's order


def augment_views(
    crops: Tensor,
    parameters: Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Colour jitter in each sample's own order, grey, blur, solarisation, flip, normalisation.

    Args:
        crops: uint8 (N, 3, S, S), on the device that does the work.
        parameters: float32 (N, PARAMETERS) rows of `draw_photometric`, on the host: which samples
            need which operation is looked up there, so that the device is never waited for.

    Returns:
        float32 (N, 3, S, S), channels last in memory.
    """
    # Hue is no matrix; sorted by its slot in the order, the samples that an operation concerns
    # lie side by side, and everything is done in place on slices.
    hue_slot = _hue_slots(parameters)
    order = hue_slot.argsort(descending=True, stable=True)
    result = torch.empty_like(crops, dtype=torch.float32, memory_format=torch.channels_last)
    for part in order.split(_piece(crops)):
        index = send(part, crops.device)
        host = parameters[part]
        # Samples are selected fastest in the order of memory.
        pixels = crops.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
        images = _augment(pixels, host, hue_slot[part])
        images = _finish(images, host[:, GRAY], mean, std)
        # Copying is fast between tensors of one memory format only.
        result.index_copy_(0, index, images.contiguous(memory_format=torch.channels_last))
    return result


def _piece(crops: Tensor) -> int:
    """How many samples to work on at a time: all of them, or few enough for a CPU core's cache.

    Fresh memory for each intermediate result of a whole batch costs a core more than its
    arithmetic. Several threads would have to meet after every operation on every piece: a little
    faster where their cores are free, far slower where workers take them.
    """
    if not crops.is_cpu or torch.get_num_threads() > 1:
        return len(crops)
    return max(1, CACHED // crops.shape[1:].numel())


def _augment(pixels: Tensor, host: Tensor, hue_slot: Tensor) -> Tensor:
    """All but grey and normalisation, of uint8 (N, 3, S, S) sorted by `hue_slot`; in [0, 1].

    Args:
        host: the samples' parameters.
    """
    device = pixels.device
    # Two steps, because dividing bytes is many times slower on a CPU.
    images = torch.empty(pixels.shape, dtype=torch.float32, device=device).copy_(pixels).div_(255)
    # Flipping first is the same as flipping last: all operations are symmetric.
    flipped = host[:, FLIP].nonzero()[:, 0]
    if len(flipped):
        chosen = send(flipped, device)
        images.index_copy_(0, chosen, images[chosen].flip(-1))
    _jitter(images, host, hue_slot)
    released = (host[:, JITTER] == RELEASED).nonzero()[:, 0]
    if len(released):
        chosen = send(released, device)
        images.index_copy_(0, chosen, released_jitter(images[chosen], host[released]))
    blurred = host[:, SIGMA].nonzero()[:, 0]
    if len(blurred):
        chosen = send(blurred, device)
        images.index_copy_(0, chosen, gaussian_blur(images[chosen], host[blurred, SIGMA]))
    inverted = host[:, SOLARIZE].nonzero()[:, 0]
    if len(inverted):
        chosen = send(inverted, device)
        images.index_copy_(0, chosen, solarize(images[chosen], host[inverted, GRAY]))
    return images


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """factor * x, clipped to [0, 1]."""
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean grey of each image; 0 leaves only that grey, 1 the image."""
    return _mix(images, _scale(factors), to_mean=_gray(1 - factors))


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with each image's grey version; 0 leaves only grey, 1 the image."""
    return _mix(images, _saturate(factors))


def released_jitter(images: Tensor, parameters: Tensor) -> Tensor:
    """PixCon's colour jitter: albumentations' `brightness_contrast_adjust`, then `shift_hsv`.

    contrast * (x + (brightness - 1) * mean of the image), clipped; then HSV's saturation plus
    0.8 to 1.2, clipped, so that all colours are nearly full, and grey, whose hue is 0, turns red.
    """
    rows = send(parameters, images.device)
    contrast, bias = (rows[:, which].view(-1, 1, 1, 1) for which in (CONTRAST, BRIGHTNESS))
    images = contrast * (images + (bias - 1) * images.mean((1, 2, 3), keepdim=True))
    return adjust_hue(images.clamp_(0, 1), rows[:, HUE], rows[:, SATURATION])


def adjust_hue(
    images: Tensor, shifts: Tensor, saturate: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Turn the hue by `shifts` full circles; HSV value and saturation stay.

    Args:
        saturate: added to the saturation, up to 1.
        out: where to write the result; it may be `images`.
    """
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    least = images.amin(1, keepdim=True)
    chroma = value - least
    tiny = torch.finfo(images.dtype).tiny
    # Distance from red, 0 to 3 sextants, on the side of green or of blue: (green - least) +
    # (blue - least) + (value - red), of differences alone, which are exact where colours are pale.
    hue = (green - red).add_(blue - least).add_(chroma)
    hue.div_(chroma.clamp(min=tiny)).copysign_(green - blue)  # 0 for grey
    if saturate is not None:
        saturation = chroma / value.clamp(min=tiny)
        chroma = value * (saturation + saturate.view(-1, 1, 1, 1)).clamp_(max=1)
        least = value - chroma
    # In turns from cyan, which is opposite of red: not negative, so that the fraction wraps it.
    hue = torch.add(0.5 + shifts.remainder(1).view(-1, 1, 1, 1), hue, alpha=1 / 6).frac_()
    # A channel is full within a sextant of its colour, empty within a sextant of the opposite
    # colour, and linear between. Red is 3 sextants from cyan; the opposites of green and blue are
    # 2 and 4, so that none of the three distances must be wrapped.
    centers = send(torch.tensor([3.0, 2.0, 4.0]), images.device).view(3, 1, 1)
    # out: the result keeps the images' memory format.
    out = torch.empty_like(images) if out is None else out
    away = torch.sub(centers, hue, alpha=6, out=out).abs_().sub_(1).clamp_(0, 1)
    torch.addcmul(value, chroma, away[:, :1], value=-1, out=out[:, :1])
    torch.addcmul(least, chroma, away[:, 1:], out=out[:, 1:])
    return out


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """PIL's GaussianBlur of radius sigma (pixels): three passes of a box of the same variance.

    Pixels beyond the border repeat the border.

    Args:
        sigmas: (N,), on the host, well below half the image's size.
    """
    radius = box_radius(sigmas)
    reach = 3 * (int(radius.max()) + 1)
    return blur(images, send(radius.repeat_interleave(images.shape[1]), images.device), reach)


def solarize(images: Tensor, gray: Tensor) -> Tensor:
    """1 - x where x is 128 of 255 or more, after making grey the images with `gray` 1.

    Grey is made with the normalisation elsewhere, but here it must come first; twice is as once.
    """
    images = _mix(images, _saturate(1 - gray))
    # Products of matrices may miss the threshold of an unchanged pixel by a last digit.
    return torch.where(images >= SOLARIZE_FROM - 1e-6, 1 - images, images)


def _hue_slots(parameters: Tensor) -> Tensor:
    """Which slot of a sample's order is the hue's, int64 (N,); -1 for samples without it."""
    slots = (parameters[:, ORDER] == HUE).int().argmax(1)
    return torch.where(parameters[:, JITTER] == 1, slots, -1)


def _jitter(images: Tensor, host: Tensor, hue_slot: Tensor) -> None:
    """The four operations in each sample's order, in place.

    Args:
        images: (N, 3, S, S), contiguous.
        host: parameters of the samples, sorted by `hue_slot`.
        hue_slot: slot of the hue, falling; the samples with -1 are left alone.
    """
    jittered = int((hue_slot >= 0).sum())
    if not jittered:
        return
    images, host, hue_slot = images[:jittered], host[:jittered], hue_slot[:jittered]
    operations = host[:, ORDER].T  # (slots, samples), as are the factors
    brightness, contrast, saturation = (
        torch.where(operations == which, host[:, which], torch.ones(()))
        for which in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    matrices = _saturate(saturation) * (brightness * contrast)[..., None, None]
    matrices, to_mean = (send(x, images.device) for x in (matrices, _gray(1 - contrast)))

    def apply(slot: int, part: slice) -> None:
        if len(images[part]):
            _mix(images[part], matrices[slot, part], to_mean[slot, part], out=images[part])

    for slot in SLOTS:
        apply(slot, slice(0, int((hue_slot > slot).sum())))
    adjust_hue(images, send(host[:, HUE], images.device), out=images)
    for slot in SLOTS:
        apply(slot, slice(int((hue_slot >= slot).sum()), jittered))


def _scale(factors: Tensor) -> Tensor:
    return factors[..., None, None] * torch.eye(3, device=factors.device)


def _gray(shares: Tensor) -> Tensor:
    """(..., 3): how much of red, green and blue is in such shares of grey."""
    return shares[..., None] * torch.tensor(GRAY_WEIGHTS, device=shares.device)


def _saturate(factors: Tensor) -> Tensor:
    return _scale(factors) + _gray(1 - factors)[..., None, :]


def _mix(
    images: Tensor, matrices: Tensor, to_mean: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """matrix @ colour + to_mean @ mean colour of the image, clipped to [0, 1]; keeps the layout.

    Args:
        matrices: (N, 3, 3), on the host or the device, as is `to_mean`, (N, 3).
        out: where to write the result; it may be `images`.
    """
    flat = images.flatten(2)
    if to_mean is None:
        mixed = torch.bmm(send(matrices, images.device), flat)
    else:
        offset = torch.bmm(send(to_mean, images.device)[:, None], flat.mean(2, keepdim=True))
        mixed = torch.baddbmm(offset, send(matrices, images.device), flat)
    out = torch.empty_like(images) if out is None else out
    return torch.clamp(mixed.view(images.shape), 0, 1, out=out)


def _finish(
    images: Tensor, gray: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Grey where `gray`, (N,) on the host, is 1, then (x - mean) / std: one matrix a sample."""
    scale = 1 / torch.tensor(std)
    matrices = _saturate(1 - gray) * scale.view(3, 1)
    offset = (-torch.tensor(mean) * scale).view(1, 3, 1)
    device = images.device
    result = torch.baddbmm(send(offset, device), send(matrices, device), images.flatten(2))
    return result.view(images.shape)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it (only copies from pinned memory are asynchronous)."""
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
