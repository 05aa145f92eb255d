"""Shuffling batch norm and gathered keys on two real processes (gloo)."""

import torch
from torch import distributed, multiprocessing, nn

from cp2.methods.distributed import forward_shuffled, gather
from cp2.methods.keys import encode_keys
from cp2.methods.registry import build_method
from cp2.settings.methods import MoCoV2Settings

SETTINGS = MoCoV2Settings(
    kind="moco-v2", name="t", title="", dim=4, queue_size=20, optimizer={}, momentum=1.0
)


class WhichBatch(nn.Module):
    """Marks each sample with the mean of the batch that it was encoded in."""

    def forward(self, images):
        return torch.stack([images[:, 0], images[:, 0].mean().expand(len(images))], 1)


def work(rank, folder):
    torch.manual_seed(rank)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    images = torch.arange(8.0)[:, None] + 8 * rank
    marked = forward_shuffled(WhichBatch(), images)
    torch.manual_seed(0)
    method = build_method(SETTINGS, nn.Linear(1, 4))
    method(images, images)
    result = {"marked": marked, "gathered": gather(images), "queue": method.keys.queue.clone()}
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes(tmp_path):
    multiprocessing.spawn(work, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    # Every process gets the outputs of its own images, in order...
    assert torch.equal(first["marked"][:, 0], torch.arange(8.0))
    assert torch.equal(second["marked"][:, 0], torch.arange(8.0, 16))
    # ...which were encoded in two mixed batches of eight.
    batches = torch.cat([first["marked"][:, 1], second["marked"][:, 1]])
    means, sizes = batches.unique(return_counts=True)
    assert sizes.tolist() == [8, 8]
    assert means.sum() == 15
    assert means[0] > 3.5
    # Keys of all processes join the queue of each.
    assert torch.equal(first["gathered"], torch.arange(16.0)[:, None])
    assert torch.equal(first["queue"], second["queue"])


def test_one_process_encodes_in_order():
    images = torch.arange(8.0)[:, None]
    assert torch.equal(encode_keys(SETTINGS, WhichBatch(), images)[:, 0], images[:, 0])
    assert gather(images) is images
