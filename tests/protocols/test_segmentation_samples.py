"""The endless stream of labelled batches: order, determinism, padding, bad files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.data.decoded import DecodedPairs
from cp2.data.labels import IGNORE
from cp2.errors import UserError, WrongFile
from cp2.protocols.segmentation.samples import (
    FinetuneDataset,
    LabelledBatch,
    LabelledPair,
    decode_pair,
    finetune_batches,
    prepare_labelled,
)
from cp2.settings.protocols.segmentation import FinetuneAugmentation

SETTINGS = FinetuneAugmentation(crop=(24, 32), resize=(24, 96))
IMAGES = 5


@pytest.fixture
def pairs(tmp_path: Path) -> list[LabelledPair]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(IMAGES):
        pair = LabelledPair(tmp_path / f"{i}.png", tmp_path / f"{i}-label.png")
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(pair.image)
        Image.fromarray(rng.integers(0, 3, (30 + i, 40), dtype=np.uint8)).save(pair.label)
        made.append(pair)
    return made


def stream(
    pairs: list[LabelledPair], first: int = 0, last: int = 4, seed: int = 0, **options: int
) -> list[LabelledBatch]:
    dataset = FinetuneDataset(pairs, SETTINGS, seed)
    return list(
        finetune_batches(dataset, first, last, 4, options.pop("workers", 0), False, **options)
    )


def same(left: LabelledBatch, right: LabelledBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_order_is_a_row_of_permutations(pairs: list[LabelledPair]) -> None:
    dataset = FinetuneDataset(pairs, SETTINGS, seed=3)
    order = [dataset.image_at(position) for position in range(4 * IMAGES)]
    epochs = [order[i : i + IMAGES] for i in range(0, len(order), IMAGES)]
    assert all(sorted(epoch) == list(range(IMAGES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert dataset.image_at(2) == order[2]  # after another epoch was asked for


def test_start_anywhere_gives_the_batch_that_would_have_come(pairs: list[LabelledPair]) -> None:
    whole = stream(pairs)
    assert len(whole) == 4
    later = stream(pairs, first=2)
    assert all(same(a, b) for a, b in zip(whole[2:], later, strict=True))
    assert not same(whole[0], whole[1])


def test_workers_change_nothing(pairs: list[LabelledPair]) -> None:
    alone, two = stream(pairs), stream(pairs, workers=2)
    assert all(same(a, b) for a, b in zip(alone, two, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("room", [10**6, 3 * 4 * 40 * 34], ids=["all", "some"])
def test_images_in_memory_change_nothing(
    pairs: list[LabelledPair], workers: int, room: int
) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (33, 41), dtype=np.uint8)
    pairs[0] = pairs[0]._replace(image=pairs[0].image.with_suffix(".jpg"))
    Image.fromarray(grey).save(pairs[0].image)
    Image.fromarray(grey % 3).save(pairs[0].label)
    dataset = FinetuneDataset(pairs, SETTINGS, 0, DecodedPairs(IMAGES, room))
    kept = list(finetune_batches(dataset, 0, 8, 4, workers, False))
    assert dataset.decoded.kept == (IMAGES if room == 10**6 else 3)
    assert all(same(a, b) for a, b in zip(stream(pairs, last=8), kept, strict=True))


def test_images_in_memory_need_no_files(pairs: list[LabelledPair]) -> None:
    dataset = FinetuneDataset(pairs, SETTINGS, 0, DecodedPairs(IMAGES, 10**6))
    first = list(finetune_batches(dataset, 0, 5, 4, 2, False))
    for pair in pairs:
        pair.image.unlink()
    again = list(finetune_batches(dataset, 0, 5, 4, 2, False))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_seed_changes_the_stream(pairs: list[LabelledPair]) -> None:
    assert not same(stream(pairs, last=1)[0], stream(pairs, last=1, seed=1)[0])


def test_processes_share_each_batch(pairs: list[LabelledPair]) -> None:
    whole = stream(pairs, last=2)
    shares = [stream(pairs, last=2, rank=rank, world_size=2) for rank in range(2)]
    for i in range(2):
        joined = LabelledBatch(
            *(torch.cat(parts) for parts in zip(shares[0][i], shares[1][i], strict=True))
        )
        assert same(joined, whole[i])


def test_data_set_smaller_than_a_batch_repeats(pairs: list[LabelledPair]) -> None:
    batch = stream(pairs[:1], last=1)[0]
    assert batch.images.shape == (4, 24, 32, 3)
    assert batch.labels.shape == (4, 24, 32)
    assert not torch.equal(batch.images[0], batch.images[1])  # each with draws of its own


def test_padding_is_zero_after_normalisation_and_ignored(pairs: list[LabelledPair]) -> None:
    batches = stream(pairs, last=6)
    small = 0
    for batch in batches:
        images, labels = prepare_labelled(batch, "cpu")
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert images.is_contiguous(memory_format=torch.channels_last)
        for n, (height, width) in enumerate(batch.sizes.tolist()):
            small += (height, width) != (24, 32)
            outside = torch.ones(24, 32, dtype=torch.bool)
            outside[:height, :width] = False
            assert (images[n][:, outside] == 0).all()
            assert (labels[n][outside] == IGNORE).all()
            assert (labels[n][~outside] < 3).all()
            assert images[n][:, ~outside].std() > 0.1
    assert small > 0


def test_size_of_image_and_label_must_agree(pairs: list[LabelledPair]) -> None:
    Image.fromarray(np.zeros((7, 9), dtype=np.uint8)).save(pairs[0].label)
    with pytest.raises(WrongFile, match=r"is 7 x 9 pixels .* its image .* is 30 x 40"):
        stream(pairs[:1], last=1)


def test_message_of_a_worker_arrives_without_its_traceback(pairs: list[LabelledPair]) -> None:
    pairs[0].image.write_bytes(b"no picture")
    with pytest.raises(WrongFile, match="is not a readable image") as caught:
        stream(pairs[:1], last=1, workers=1)
    assert "Traceback" not in str(caught.value)


def test_no_image() -> None:
    with pytest.raises(UserError, match="training split holds no image"):
        FinetuneDataset([], SETTINGS, 0)


def test_image_that_lies_is_turned_as_its_label(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "b.png")
    image, label = decode_pair(LabelledPair(tmp_path / "a.png", tmp_path / "b.png"))
    assert image.shape[1:] == label.shape
    assert (image.permute(1, 2, 0).numpy() == np.rot90(stored, -1)).all()
