"""Which GPUs a build of torch has kernels for; others see the GPU and fail at the first kernel."""

import re
from collections.abc import Sequence

Capability = tuple[int, int]

# Words in Slurm's names of GPUs, and their compute capability: asked where no GPU can be.
MODELS: dict[str, Capability] = {
    "k80": (3, 7),
    "p100": (6, 0),
    "p40": (6, 1),
    "v100": (7, 0),
    "t4": (7, 5),
    "a100": (8, 0),
    "h100": (9, 0),
    "h200": (9, 0),
    "b200": (10, 0),
}
_ARCH = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
OLD_BUILD = (
    "pip install 'torch<2.15' torchvision --index-url https://download.pytorch.org/whl/cu126"
)


def has_kernels(capability: Capability, architectures: Sequence[str]) -> bool:
    """Whether a build with these `torch.cuda.get_arch_list()` runs on such a GPU.

    Machine code (sm_86) runs on the same major version from its minor one on, with suffix a on its
    own only; PTX (compute_90) on everything newer (CUDA C++ Programming Guide, 3.1.2 and 3.1.4).
    """
    for name in architectures:
        found = _ARCH.fullmatch(name)
        if found is None:
            continue
        built = int(found[2]), int(found[3])
        exact = found[4] == "a" and capability != built
        newer = found[1] == "compute" and not found[4]
        if capability >= built and not exact and (newer or capability[0] == built[0]):
            return True
    return False


def lacking_kernels(
    gpu: str, capability: Capability, architectures: Sequence[str], version: str
) -> str | None:
    """Why a build of torch cannot run on a GPU, and which can; None where it does.

    A build that names no architectures (for another kind of device) is not judged.
    """
    if not architectures or has_kernels(capability, architectures):
        return None
    other = (
        f"builds for CUDA 12.6 serve capabilities 5.0 to 9.0, up to torch 2.14: {OLD_BUILD}"
        if capability < (7, 5)
        else "a build for a newer CUDA may serve it: pip install --upgrade torch torchvision"
    )
    return (
        f"torch {version} has no kernels for {gpu} (compute capability {capability[0]}."
        f"{capability[1]}): it was built for {', '.join(architectures)}. Ask the scheduler for "
        f"another GPU (gpu_model, constraint), or install another build; {other}"
    )
