"""Decoding once a sample, decoding smaller, and images that cannot be read."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp

from cp2.augment.pipeline import PretrainSampler, batches
from cp2.augment.samples import REPLACEMENTS, PretrainDataset
from cp2.data.images import decode_rgb
from cp2.data.sources import ImageFiles, OpenImage, scale_box, scale_for
from cp2.errors import WrongFile
from cp2.settings.methods import Cp2Settings, MoCoV2Settings
from cp2.settings.views import ReadingSettings, ViewSettings

IMAGES = 24
SMALL = ViewSettings(crop_size=32)


def cp2(reading=None, **changes):
    return Cp2Settings(
        name="t",
        title="",
        kind="cp2",
        optimizer={},
        views=SMALL,
        reading=reading or ReadingSettings(),
        **changes,
    )


def moco(reading=None):
    return MoCoV2Settings(
        name="t",
        title="",
        kind="moco-v2",
        optimizer={},
        views=SMALL,
        reading=reading or ReadingSettings(),
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images of one grey level each, by which a crop tells where it comes from."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for number in range(IMAGES):
        files.append(folder / f"{number}.png")
        Image.new("RGB", (50 + number, 40), (number * 10,) * 3).save(files[-1])
    return files


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Smooth JPEGs of 640 x 400 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    files = []
    for number in range(6):
        coarse = rng.integers(0, 256, size=(10, 16, 3), dtype=np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(coarse).resize((640, 400), Image.Resampling.BICUBIC).save(files[-1])
    return files


class CountingFiles(ImageFiles):
    def __init__(self, paths):
        super().__init__(paths)
        self.opened = []

    def open(self, index):
        self.opened.append(index)
        return super().open(index)


def collect(source, settings, epoch=0, batch=4, workers=0, **share):
    dataset = PretrainDataset(source, settings, 0)
    return list(batches(dataset, epoch, 0, batch, workers, pin=False, **share))


def levels(batch_list):
    """(N, V): which image each view comes from."""
    return torch.cat([batch.crops[:, :, 16, 16, 0] // 10 for batch in batch_list])


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left, right)


def test_each_image_of_a_batch_is_decoded_once(paths):
    source = CountingFiles(paths)
    collect(source, cp2(background="batch"))
    assert sorted(source.opened) == list(range(IMAGES))
    source = CountingFiles(paths)
    collect(source, cp2())
    assert len(source.opened) > 2 * IMAGES  # but for images that a batch names twice


def test_backgrounds_of_the_batch_are_its_next_two_images(paths):
    for batch in collect(paths, cp2(background="batch"), batch=6):
        found = levels([batch])
        assert torch.equal(found[:, 0], batch.images)
        assert torch.equal(found[:, 1], batch.images)
        assert torch.equal(found[:, 2], batch.images.roll(-1))
        assert torch.equal(found[:, 3], batch.images.roll(-2))


def test_backgrounds_of_the_batch_have_crops_and_colours_of_their_own(photographs):
    batch = collect(photographs, cp2(background="batch"), batch=6)[0]
    for view in (2, 3):
        lent = batch.crops[:, view].roll(view - 1, 0)
        for own in (0, 1):
            same = (lent == batch.crops[:, own]).flatten(1).all(1)
            assert not same.any()
            rows = batch.parameters[:, view].roll(view - 1, 0)
            assert not (rows == batch.parameters[:, own]).all(1).any()


@pytest.mark.parametrize("background", ["batch", "permutation"])
def test_neither_workers_nor_processes_change_a_batch(photographs, background):
    settings = cp2(background=background)
    whole = collect(photographs, settings, batch=6)
    assert_same(whole, collect(photographs, settings, batch=6, workers=2))
    shares = [collect(photographs, settings, batch=6, rank=r, world_size=3) for r in range(3)]
    joined = [
        type(parts[0])(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
        for parts in zip(*shares, strict=True)
    ]
    assert_same(whole, joined)


def _pairs(paths, background, epochs=60):
    """Foreground and query background of many samples, (n, 2), and the batch each stands in."""
    dataset = PretrainDataset(paths, cp2(background=background), 0)
    rows, numbers = [], []
    for epoch in range(epochs):
        sampler = PretrainSampler(dataset, epoch, 0, 6, 0, 1)
        for number, positions in enumerate(sampler):
            rows += [(p.foreground, *p.backgrounds) for p in positions]
            numbers += [(epoch, number)] * len(positions)
    return np.array(rows), np.array(numbers)


@pytest.mark.parametrize("background", ["batch", "permutation"])
def test_marginals_are_uniform_with_either_option(paths, background):
    rows, _ = _pairs(paths, background)
    for column in rows.T:  # 60 epochs, each image once an epoch in each role
        assert (np.bincount(column, minlength=IMAGES) == 60).all()


def test_pairs_are_as_good_as_independent_except_with_oneself(paths):
    """What `background: batch` changes: no image meets itself, no side its own background."""
    for background, oneself in (("permutation", 1 / IMAGES), ("batch", 0.0)):
        rows, _ = _pairs(paths, background)
        same = (rows[:, 0] == rows[:, 1]).mean()
        twice = (rows[:, 1] == rows[:, 2]).mean()
        error = 4 * np.sqrt(oneself / len(rows))
        assert abs(same - oneself) <= error
        assert abs(twice - oneself) <= error
        counts = np.zeros((IMAGES, IMAGES))
        np.add.at(counts, (rows[:, 0], rows[:, 1]), 1)
        others = counts[~np.eye(IMAGES, dtype=bool)]
        expected = len(rows) * (1 - same) / len(others)
        chi_square = ((others - expected) ** 2 / expected).sum()
        assert abs(chi_square - len(others)) < 5 * np.sqrt(2 * len(others))


def test_how_often_a_background_is_a_foreground_of_the_same_batch(paths):
    """The other thing that it changes: always, instead of in a share of the batches."""
    for background, share in (("permutation", 6 / IMAGES), ("batch", 1.0)):
        rows, numbers = _pairs(paths, background)
        keys = numbers[:, 0] * 100 + numbers[:, 1]
        inside = [row[1] in rows[keys == key, 0] for row, key in zip(rows, keys, strict=True)]
        assert abs(np.mean(inside) - share) < 0.06


def test_crops_are_distributed_alike_with_either_option(photographs):
    """Mean brightness of background crops tells position and size of the crop."""
    means = {}
    for background in ("batch", "permutation"):
        crops = [
            batch.crops[:, 2:].float().mean((2, 3, 4)).flatten()
            for epoch in range(40)
            for batch in collect(photographs, cp2(background=background), epoch=epoch, batch=6)
        ]
        means[background] = torch.cat(crops).numpy()
    assert ks_2samp(means["batch"], means["permutation"], method="asymp").pvalue > 1e-3


@pytest.mark.parametrize(
    ("sides", "scale"),
    [((64, 500), 1), ((127, 128), 1), ((128, 128), 2), ((600, 256), 4), ((512, 999), 8)],
)
def test_scale_keeps_every_crop_twice_as_large_as_the_view(sides, scale):
    assert scale_for([(0, 0, *sides), (3, 4, 999, 999)], 32) == scale


def test_a_scaled_box_stays_inside():
    opened = OpenImage(401, 641, lambda scale: torch.empty(3, -(-401 // scale), -(-641 // scale)))
    for scale in (2, 4, 8):
        pixels = opened.pixels(scale)
        top, left, height, width = scale_box((300, 500, 101, 141), opened, pixels)
        assert top + height <= pixels.shape[1]
        assert left + width <= pixels.shape[2]
        assert abs(height - 101 / scale) <= 1
        assert abs(left - 500 / scale) <= 1


def test_scaled_decoding_draws_the_same_crops_and_nearly_the_same_pixels(photographs):
    full = collect(photographs, cp2(), batch=6)[0]
    scaled = collect(photographs, cp2(ReadingSettings(scaled=True)), batch=6)[0]
    assert torch.equal(full.parameters, scaled.parameters)
    assert torch.equal(full.masks, scaled.masks)
    assert not torch.equal(full.crops, scaled.crops)
    pixels = full.crops.float()
    difference = (pixels - scaled.crops.float()).abs().mean()
    one_pixel_aside = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().mean()
    assert difference < 0.3 * one_pixel_aside


def test_scaled_decoding_of_what_is_no_jpeg_changes_nothing(paths):
    assert_same(collect(paths, cp2()), collect(paths, cp2(ReadingSettings(scaled=True))))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_scaled_decoding_of_every_kind_of_jpeg(tmp_path, photographs, mode):
    path = tmp_path / "image.jpg"
    Image.open(photographs[0]).convert(mode).save(path)
    image = ImageFiles([path], scaled=True).open(0)
    assert (image.height, image.width) == (400, 640)
    assert torch.equal(image.pixels(), decode_rgb(path))
    small = image.pixels(4)
    assert small.shape == (3, 100, 160)
    expected = torch.nn.functional.avg_pool2d(image.pixels().float(), 4)
    assert (small.float() - expected).abs().mean() < 3


@pytest.fixture
def some_broken(tmp_path, photographs):
    """Six photographs, of which number 1 is cut off and number 4 is empty."""
    files = []
    for number, path in enumerate(photographs):
        files.append(tmp_path / path.name)
        data = path.read_bytes()
        files[-1].write_bytes(data[: {1: len(data) // 2, 4: 0}.get(number, len(data))])
    return files


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("background", ["batch", "permutation"])
def test_unreadable_images_are_replaced_and_reported(some_broken, background, scaled):
    settings = cp2(ReadingSettings(scaled=scaled), background=background)
    batch = collect(some_broken, settings, batch=6)[0]
    assert batch.unreadable.shape == (6, 3)
    reported = batch.unreadable[batch.unreadable >= 0]
    assert sorted(reported.tolist()) == [1, 1, 1, 4, 4, 4]
    assert not set(batch.images.tolist()) & {1, 4}


@pytest.mark.parametrize("scaled", [False, True])
def test_replacements_do_not_depend_on_workers_or_processes(some_broken, scaled):
    settings = cp2(ReadingSettings(scaled=scaled), background="batch")
    whole = collect(some_broken, settings, batch=6)
    assert_same(whole, collect(some_broken, settings, batch=6, workers=2))
    shares = [collect(some_broken, settings, batch=6, rank=r, world_size=2) for r in range(2)]
    crops = torch.cat([share[0].crops for share in shares])
    assert torch.equal(crops, whole[0].crops)


def test_replacements_change_with_the_epoch_and_leave_the_other_samples_alone(
    photographs, some_broken
):
    whole = collect(photographs, moco(), batch=6)[0]
    broken = collect(some_broken, moco(), batch=6)[0]
    kept = broken.unreadable[:, 0] < 0
    assert kept.sum() == 4
    assert torch.equal(whole.crops[kept], broken.crops[kept])
    chosen = set()
    for epoch in range(8):
        batch = collect(some_broken, moco(), epoch=epoch, batch=6)[0]
        chosen.add(int(batch.images[batch.unreadable[:, 0] == 1]))
    assert len(chosen) > 1


def test_by_option_an_unreadable_image_stops(some_broken):
    with pytest.raises(WrongFile, match=r"\d\.jpg: is (not|empty).* a readable image"):
        collect(some_broken, moco(ReadingSettings(unreadable="stop")), batch=6)


def test_where_nothing_can_be_read_the_run_stops(tmp_path):
    gone = [tmp_path / f"{number}.jpg" for number in range(30)]
    with pytest.raises(WrongFile, match=rf"is not there.*\nSo were {REPLACEMENTS} others"):
        collect(gone, moco())


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("scaled", [False, True])
def test_every_kind_of_image_goes_through(tmp_path, mode, scaled):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(np.full((40, 60), 30000, dtype=np.uint16)).save(path)
    else:
        Image.new("RGB", (60, 40), (200, 10, 30)).convert(mode).save(path)
    batch = collect([path] * 4, cp2(ReadingSettings(scaled=scaled)))[0]
    assert (batch.unreadable == -1).all()
    assert batch.crops.shape == (4, 4, 32, 32, 3)
    expected = decode_rgb(path)[:, 0, 0].float()
    if mode not in ("1", "P"):  # those are dithered
        assert (batch.crops[0, 0, 5, 5].float() - expected).abs().max() <= 6
