"""Masks cut out of stored attention: geometry, thresholds, and their way into a batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.augment.pipeline import batches, prepare
from cp2.augment.samples import PretrainDataset
from cp2.data.attention_maps import MAPS, RECORD, AttentionMaps, MapsRecord
from cp2.data.derived import write_record
from cp2.drawing.attention import attention_mask
from cp2.errors import UserError
from cp2.settings.masks import DinoMaskSettings
from cp2.settings.methods import Cp2Settings
from cp2.settings.views import ViewSettings

DINO = DinoMaskSettings(kind="dino")
SIDE = 24
EVERYTHING = (0, 0, 100, 200)
EXTENT = (100, 200)


def ramp():
    """Attention that grows from left to right; rank v at the share v / 255 of the width."""
    columns = 255 * (np.arange(SIDE) + 0.5) / SIDE
    return np.tile(columns.round().astype(np.uint8), (SIDE, 1))


def test_the_whole_image_keeps_its_mass():
    mask = attention_mask(ramp(), EXTENT, EVERYTHING, False, 96, DINO)
    assert mask.shape == (96, 96)
    expected = (np.arange(96) + 0.5) / 96 >= 0.4  # ranks above 1 - 0.6
    assert np.array_equal(mask, np.tile(expected, (96, 1)))


def test_a_flipped_view_has_a_flipped_mask():
    rng = np.random.default_rng(0)
    ranks = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    box = (10, 30, 40, 120)
    plain = attention_mask(ranks, EXTENT, box, False, 64, DINO)
    assert np.array_equal(attention_mask(ranks, EXTENT, box, True, 64, DINO), plain[:, ::-1])


@pytest.mark.parametrize("box", [(0, 0, 50, 100), (20, 60, 80, 140), (99, 199, 1, 1)])
def test_a_crops_mask_is_the_images_mask_at_the_same_place(box):
    """Slow second implementation: bilinear look-up of one pixel at a time."""
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    top, left, height, width = box
    values = np.empty((32, 32))
    for i in range(32):
        for j in range(32):
            y = np.clip((top + height * (i + 0.5) / 32) / 100 * SIDE - 0.5, 0, SIDE - 1)
            x = np.clip((left + width * (j + 0.5) / 32) / 200 * SIDE - 0.5, 0, SIDE - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, SIDE - 1), min(x0 + 1, SIDE - 1)
            above = ranks[y0, x0] * (1 - x + x0) + ranks[y0, x1] * (x - x0)
            below = ranks[y1, x0] * (1 - x + x0) + ranks[y1, x1] * (x - x0)
            values[i, j] = above * (1 - y + y0) + below * (y - y0)
    settings = DINO.model_copy(update={"min_area": 1e-9})
    mask = attention_mask(ranks, EXTENT, box, False, 32, settings)
    threshold = min(102, values[8::16, 8::16].max())
    sure = np.abs(values - threshold) > 1e-3
    assert np.array_equal(mask[sure], (values >= threshold)[sure])


def test_a_view_beside_the_foreground_takes_its_most_attended_part():
    left_edge = (0, 0, 100, 40)  # ranks 0 to 51, all below 102
    mask = attention_mask(ramp(), EXTENT, left_edge, False, 96, DINO)
    cells = mask[8::16, 8::16]
    assert not cells[:, :-1].any()
    assert cells[:, -1].sum() >= 4  # a tenth of 36 cells


@pytest.mark.parametrize("size", [8, 16, 32, 96, 224])
def test_no_view_is_without_a_foreground_cell(size):
    rng = np.random.default_rng(2)
    for _ in range(50):
        ranks = (255 * rng.random((SIDE, SIDE)) ** 8).astype(np.uint8)
        corner = rng.integers(0, 40, 2)
        box = (int(corner[0]), int(corner[1]), 30, 60)
        mask = attention_mask(ranks, EXTENT, box, False, size, DINO)
        cells = mask[8::16, 8::16] if size >= 16 else mask[size // 2 :: size, size // 2 :: size]
        assert cells.mean() >= 0.1


def cp2(**changes):
    views = ViewSettings(
        crop_size=32, crop_scale=(0.3, 1), jitter_probability=0, gray_probability=0,
        blur_probability=0,
    )  # fmt: skip
    return Cp2Settings(name="t", title="", kind="cp2", optimizer={}, views=views, **changes)


@pytest.fixture
def stored(tmp_path):
    """Images that are white exactly where their attention is, and their maps."""
    rng = np.random.default_rng(0)
    paths, maps = [], []
    for number in range(6):
        white = np.zeros((SIDE, SIDE), dtype=bool)
        top, left = rng.integers(0, SIDE // 2, 2)
        white[top : top + SIDE // 2, left : left + SIDE // 2] = True
        maps.append(np.where(white, 255, 0).astype(np.uint8))
        paths.append(tmp_path / f"{number}.png")
        pixels = np.where(white, 255, 0).astype(np.uint8).repeat(4, 0).repeat(6, 1)
        Image.fromarray(pixels).convert("RGB").save(paths[-1])
    (tmp_path / MAPS).write_bytes(np.stack(maps).tobytes())
    record = MapsRecord(dataset="d", digest="0", split="train", images=6, side=SIDE)
    write_record(tmp_path / RECORD, record)
    return paths, AttentionMaps(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_of_a_batch_move_with_their_views(stored, workers):
    """White pixels of the foreground's crop, flipped with it, are its mask."""
    paths, maps = stored
    settings = cp2(mask=DINO)
    dataset = PretrainDataset(paths, settings, 0, maps)
    (batch,) = batches(dataset, 0, 0, 6, workers, pin=False)
    prepared = prepare(batch, settings, "cpu")
    for side, mask in enumerate((prepared.mask_q, prepared.mask_k)):
        view = batch.crops[:, side, :, :, 0].float() / 255
        flips = batch.parameters[:, side, 10].bool()
        view[flips] = view[flips].flip(-1)
        agreement = ((view > 0.5) == (mask[:, 0] > 0.5)).float().mean((1, 2))
        visible = (view > 0.5).float().mean((1, 2))
        assert (agreement[visible > 0.15] > 0.9).all()
        assert (visible > 0.15).sum() >= 3
    assert len(set(batch.parameters[:, :2, 10].flatten().tolist())) == 2  # flipped ones and others


def test_attention_masks_need_a_map_of_each_image(stored):
    paths, maps = stored
    with pytest.raises(UserError, match="map of each of the 6 images, found 0; the stage `masks`"):
        PretrainDataset(paths, cp2(mask=DINO), 0)
    with pytest.raises(UserError, match="each of the 5 images, found 6"):
        PretrainDataset(paths[:5], cp2(mask=DINO), 0, maps)


def test_without_copy_paste_no_background_is_read_and_all_is_foreground(stored):
    paths, _ = stored
    settings = cp2(mask={"kind": "full"}, dense_weight=0.0)
    dataset = PretrainDataset(paths, settings, 0)
    (batch,) = batches(dataset, 0, 0, 6, 0, pin=False)
    assert batch.crops.shape[1] == 2
    prepared = prepare(batch, settings, "cpu")
    assert torch.equal(prepared.mask_q, torch.ones(6, 1, 32, 32))
    assert torch.equal(prepared.mask_k, torch.ones(6, 1, 32, 32))
