"""Photometric augmentation of whole batches on the device, each sample with its own parameters.

Every function takes float (N, 3, H, W) images in [0, 1] and one factor a sample, (N,), and needs
few kernels whatever the factors are. The operations are PIL's, in floating point instead of PIL's
rounding to 8 bits after each step.
"""

import torch
from torch import Tensor

from cp2.augment.views import (
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAY,
    HUE,
    JITTER,
    ORDER,
    SATURATION,
    SIGMA,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def augment_views(
    crops: Tensor,
    parameters: Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Colour jitter in each sample's own order, grey, blur, flip, normalisation.

    Args:
        crops: uint8 (N, 3, S, S), on the device that does the work.
        parameters: float32 (N, PARAMETERS) rows of `draw_photometric`, on the host: which samples
            need which operation is looked up there, so that the device is never waited for.

    Returns:
        float32 (N, 3, S, S), in the crops' memory format.
    """
    host, device = parameters.cpu().contiguous(), crops.device
    rows = send(host, device)
    # Flipping first is the same as flipping last (all operations are symmetric), on less memory.
    images = torch.where(_column(rows[:, FLIP]) > 0, crops.flip(-1), crops).float().div_(255)
    if bool((host[:, JITTER] > 0).any()):
        images = _jitter(images, rows, host)
    if bool((host[:, GRAY] > 0).any()):
        images = _blend(images, 1 - rows[:, GRAY], to_gray=rows[:, GRAY])
    blurred = host[:, SIGMA].nonzero()[:, 0]
    if len(blurred):
        index = send(blurred, device)
        images.index_copy_(0, index, gaussian_blur(images[index], rows[index, SIGMA]))
    shift = torch.tensor(mean).view(3, 1, 1)
    scale = torch.tensor(std).view(3, 1, 1)
    return images.sub_(send(shift, device)).div_(send(scale, device))


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """factor * x, clipped to [0, 1]."""
    return _blend(images, factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean grey of each image; 0 leaves only that grey, 1 the image."""
    return _blend(images, factors, to_mean=1 - factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with each image's grey version; 0 leaves only grey, 1 the image."""
    return _blend(images, factors, to_gray=1 - factors)


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue by `shifts` full circles; HSV value and saturation stay."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = chroma.clamp(min=torch.finfo(images.dtype).tiny)  # grey: any hue will do
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sextant = sextant + 6 * shifts.view(-1, 1, 1)
    # HSV to RGB, one expression for the three channels: x = V - C clip(min(k, 4 - k), 0, 1) with
    # k = (n + 6 H) mod 6 and n = 5, 3, 1.
    channels = []
    for n in (5, 3, 1):
        k = (sextant + n).remainder(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    # copy_ and not stack: the result keeps the images' memory format.
    result = torch.empty_like(images)
    for channel, pixels in enumerate(channels):
        result[:, channel].copy_(pixels)
    return result


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """PIL's GaussianBlur of radius sigma (pixels): three passes of a box of the same variance.

    Pixels beyond the border repeat the border. `sigmas` must be well below half the image's size.
    """
    n, channels, height, width = images.shape
    rows = images.transpose(1, 2).reshape(n, height, channels * width)
    rows = torch.bmm(_blur_matrix(sigmas, height), rows)  # vertically
    columns = rows.view(n, height * channels, width)
    columns = torch.bmm(columns, _blur_matrix(sigmas, width).transpose(1, 2))
    return columns.view(n, height, channels, width).transpose(1, 2)


def _blur_matrix(sigmas: Tensor, size: int) -> Tensor:
    """(N, size, size): row i holds the weights of all pixels in the blurred pixel i.

    A box of real radius r = l + a weights |d| <= l with 1 and |d| = l + 1 with a < 1 (PIL's
    extended box blur). Its cube is the blur: matrices handle the borders and any mix of sigmas in
    one batched product, without a kernel size that would change from batch to batch.
    """
    variance = sigmas.double().square() / 3
    whole = (((12 * variance + 1).sqrt() - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part = part / (6 * (variance - (whole + 1).square()))
    radius = (whole + part).float().view(-1, 1, 1)
    position = torch.arange(size, device=sigmas.device)
    distance = (position[:, None] - position[None, :]).abs()
    box = (radius + 1 - distance).clamp(0, 1) / (2 * radius + 1)
    beyond = 1 - box.sum(2)  # weight that falls outside, on the side of the nearer border
    box[:, : size // 2, 0] += beyond[:, : size // 2]
    box[:, size // 2 :, -1] += beyond[:, size // 2 :]
    return box @ box @ box


def _jitter(images: Tensor, rows: Tensor, host: Tensor) -> Tensor:
    """The four operations in each sample's order: slot by slot, all samples at once."""
    jittered = host[:, JITTER] > 0
    neutral = torch.ones((), device=rows.device)
    for slot in range(4):
        operation = rows[:, ORDER][:, slot]
        contrast = torch.where(operation == CONTRAST, rows[:, CONTRAST], neutral)
        saturation = torch.where(operation == SATURATION, rows[:, SATURATION], neutral)
        brightness = torch.where(operation == BRIGHTNESS, rows[:, BRIGHTNESS], neutral)
        images = _blend(images, contrast * saturation * brightness, 1 - saturation, 1 - contrast)
        turned = (jittered & (host[:, ORDER][:, slot] == HUE)).nonzero()[:, 0]
        if len(turned):
            index = send(turned, images.device)
            images.index_copy_(0, index, adjust_hue(images[index], rows[index, HUE]))
    return images


def _blend(
    images: Tensor, keep: Tensor, to_gray: Tensor | None = None, to_mean: Tensor | None = None
) -> Tensor:
    """keep * x + to_gray * grey(x) + to_mean * mean(grey(x)), clipped to [0, 1]; weights (N,)."""
    result = images * _column(keep)
    if to_gray is not None or to_mean is not None:
        red, green, blue = images.split(1, dim=1)
        gray = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)  # PIL's L
        if to_mean is not None:
            result += gray.mean((1, 2, 3), keepdim=True) * _column(to_mean)
        if to_gray is not None:
            result += gray * _column(to_gray)
    return result.clamp_(0, 1)


def _column(per_sample: Tensor) -> Tensor:
    return per_sample.view(-1, 1, 1, 1)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it (only copies from pinned memory are asynchronous)."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
