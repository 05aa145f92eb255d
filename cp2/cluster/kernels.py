"""Which GPUs a build of torch has kernels for; others see the GPU and fail at the first kernel."""

import re
from collections.abc import Sequence

Capability = tuple[int, int]

# Words in Slurm's names of GPUs, and their compute capability: asked where no GPU can be.
MODELS: dict[str, Capability] = {
    **dict.fromkeys(("k20", "k40"), (3, 5)),
    "k80": (3, 7),
    "m10": (5, 0),
    **dict.fromkeys(("m40", "m60", "980", "970", "titanx"), (5, 2)),
    "p100": (6, 0),
    **dict.fromkeys(("p4", "p40", "1080", "1070", "1060", "titanxp"), (6, 1)),
    **dict.fromkeys(("v100", "titanv"), (7, 0)),
    **dict.fromkeys(("t4", "2080", "titanrtx", "1660"), (7, 5)),
    **dict.fromkeys(("a100", "a30"), (8, 0)),
    **dict.fromkeys(("a10", "a40", "a5000", "a6000", "3080", "3090"), (8, 6)),
    **dict.fromkeys(("l4", "l40", "4090"), (8, 9)),
    "h100": (9, 0),
    "h200": (9, 0),
    "b200": (10, 0),
}
_ARCH = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
OLD_BUILD = (
    "pip install 'torch<2.15' torchvision --index-url https://download.pytorch.org/whl/cu126"
)


def known_capability(model: str) -> Capability | None:
    """Of a GPU by Slurm's name for it, as gtx_1080_ti; None: nobody wrote it into `MODELS`."""
    plain = re.sub(r"[^a-z0-9]", "", model.lower())
    words = [word for word in MODELS if word in plain]
    return MODELS[max(words, key=len)] if words else None


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
