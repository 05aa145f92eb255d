"""Where models run."""

import torch
from torch import nn


def choose_device() -> torch.device:
    """The first GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def place(module: nn.Module) -> None:
    """Move a module to the device; on a GPU channels-last, the faster layout of convolutions."""
    device = choose_device()
    module.to(device)
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True  # a run's images have one size
