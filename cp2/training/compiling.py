"""torch.compile of a method's encoders, where it works."""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cp2.methods.step import Method
from cp2.training.optimizers import Precision

BACKEND = "inductor"


def compile_encoders(method: Method, images: Tensor, precision: Precision) -> str:
    """Compile the encoders in place, or leave them as they are; says which, for the log.

    Each is tried once, forwards and backwards, because that is when compilation fails: without a
    compiler for the device, say. What the trial changed is put back. State dicts keep their names.

    Args:
        images: of the shape and layout of a micro-batch; their values do not matter.
    """
    encoders = method.encoders_of_images
    before = [(buffer, buffer.clone()) for buffer in method.buffers()]
    devices = [images.device] if images.is_cuda else []
    try:
        for encoder in encoders:
            encoder.compile(backend=BACKEND, dynamic=False)
        with torch.random.fork_rng(devices):
            for encoder in encoders:
                _try(encoder, images, precision)
    except Exception as error:  # whatever a compiler raises, training continues without it
        for encoder in encoders:
            encoder._compiled_call_impl = None
        cause = getattr(error, "inner_exception", error)  # dynamo wraps what a backend raises
        reason = f"{type(cause).__name__}: {cause}".split("\n", 1)[0]
        return f"compile: true has no effect, the encoders run uncompiled ({reason[:300]})"
    finally:
        for buffer, value in before:
            buffer.copy_(value)
    return "the encoders are compiled"


def _try(encoder: nn.Module, images: Tensor, precision: Precision) -> None:
    """In the mode of a step: each of them is compiled by itself."""
    weights = [p for p in encoder.parameters() if p.requires_grad]
    with torch.set_grad_enabled(bool(weights)), precision.autocast():
        features = tree_leaves(encoder(images))
    if not weights:
        return
    total = torch.stack([leaf.float().sum() for leaf in features]).sum()
    # Not `backward`: gradients would be left behind, and other processes told of them.
    torch.autograd.grad(total, weights, allow_unused=True)
