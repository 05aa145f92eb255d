"""Resize, crop and flip of labelled images against slow formulas."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cp2.augment.geometry import (
    CROP_TRIES,
    ResizedLabel,
    cut,
    draw_view,
    draw_window,
    fitted_size,
    pad,
    resize_image,
)
from cp2.data.labels import IGNORE
from cp2.drawing.counters import generator
from cp2.settings.protocols.segmentation import FinetuneAugmentation

PLAIN = FinetuneAugmentation(
    crop=(16, 24),
    resize=(32, 128),
    scale=(1.0, 1.0),
    cat_max_ratio=1.0,
    flip_probability=0.0,
)


def changed(**values: object) -> FinetuneAugmentation:
    return FinetuneAugmentation.model_validate(PLAIN.model_dump() | values)


class TestFittedSize:
    @pytest.mark.parametrize(
        ("height", "width", "ratio", "expected"),
        [
            (375, 500, 1.0, (512, 683)),  # the short side becomes 512
            (500, 375, 1.0, (683, 512)),  # upright, too
            (100, 1000, 1.0, (205, 2048)),  # the long side would pass 2048
            (375, 500, 0.5, (256, 341)),
            (512, 2048, 2.0, (1024, 4096)),
        ],
    )
    def test_numbers(
        self, height: int, width: int, ratio: float, expected: tuple[int, int]
    ) -> None:
        assert fitted_size(height, width, (512, 2048), ratio) == expected

    def test_never_empty(self) -> None:
        assert fitted_size(1, 4000, (96, 384)) == (1, 384)

    def test_limits_are_whole_pixels(self) -> None:
        # mmsegmentation cuts 512 * 0.999 = 511.488 to 511 before it divides
        assert fitted_size(100, 100, (512, 2048), 0.999) == (511, 511)


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel, without antialiasing, half-pixel centres, borders repeated."""
    height, width = image.shape
    result = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = max((i + 0.5) * height / size[0] - 0.5, 0)
            x = max((j + 0.5) * width / size[1] - 0.5, 0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = image[y0, x0] * (1 - x + x0) + image[y0, x1] * (x - x0)
            low = image[y1, x0] * (1 - x + x0) + image[y1, x1] * (x - x0)
            result[i, j] = top * (1 - y + y0) + low * (y - y0)
    return result


class TestResize:
    @pytest.mark.parametrize("size", [(7, 5), (20, 31), (10, 13)])
    def test_image_is_bilinear_without_antialiasing(self, size: tuple[int, int]) -> None:
        image = torch.randint(0, 256, (3, 10, 13), dtype=torch.uint8)
        resized = resize_image(image, size)
        assert resized.dtype == torch.uint8
        for channel in range(3):
            slow = bilinear(image[channel].numpy().astype(float), size)
            assert np.abs(resized[channel].numpy() - slow).max() <= 1  # rounding

    @pytest.mark.parametrize("channels_last", [True, False])
    def test_layout_changes_no_pixel(self, channels_last: bool) -> None:
        image = torch.randint(0, 256, (3, 40, 53), dtype=torch.uint8)
        if channels_last:
            image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        for size in ((31, 60), (40, 53), (77, 101)):
            plain = F.interpolate(image.contiguous()[None], size=size, mode="bilinear")[0]
            resized = resize_image(image, size)
            assert torch.equal(resized, plain)
            assert resized.permute(1, 2, 0).is_contiguous() is channels_last

    @pytest.mark.parametrize("size", [(7, 5), (20, 31)])
    def test_label_takes_the_nearest_pixel(self, size: tuple[int, int]) -> None:
        label = torch.randint(0, 256, (10, 13), dtype=torch.uint8)
        resized = ResizedLabel(label, size).cut((0, 0), size)
        for i in range(size[0]):
            for j in range(size[1]):
                assert resized[i, j] == label[i * 10 // size[0], j * 13 // size[1]]

    def test_part_of_a_label_is_a_part_of_the_resized_whole(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(300):
            height, width, *size = rng.integers(1, 300, 4).tolist()
            label = torch.from_numpy(rng.integers(0, 256, (height, width), dtype=np.uint8))
            whole = F.interpolate(label[None, None], size=size, mode="nearest")[0, 0]
            corner = (int(rng.integers(size[0])), int(rng.integers(size[1])))
            part = ResizedLabel(label, (size[0], size[1])).cut(corner, (64, 48))
            assert torch.equal(part, cut(whole, corner, (64, 48)))


def whole(label: torch.Tensor) -> ResizedLabel:
    """A label at its own size."""
    return ResizedLabel(label, (label.shape[0], label.shape[1]))


class TestWindow:
    def test_every_corner_is_drawn(self) -> None:
        label = torch.zeros(5, 6, dtype=torch.uint8)
        rng = generator(0, 6)
        corners = {draw_window(rng, whole(label), (4, 4), 1.0) for _ in range(300)}
        assert corners == {(top, left) for top in range(2) for left in range(3)}

    def test_small_picture_is_not_shifted(self) -> None:
        label = torch.zeros(3, 3, dtype=torch.uint8)
        assert draw_window(generator(0, 6), whole(label), (8, 8), 0.75) == (0, 0)

    def test_crop_of_one_class_is_drawn_again(self) -> None:
        label = torch.zeros(8, 80, dtype=torch.uint8)
        label[4:, 40:] = 1  # only crops that reach beyond column 40 hold two classes
        rng = generator(0, 6)
        for _ in range(200):
            window = cut(label, draw_window(rng, whole(label), (8, 8), 0.75), (8, 8))
            share = (window == window.mode().values.mode().values).float().mean()
            assert share < 0.75 or not (window == 1).any()
        wanted = [
            bool((cut(label, draw_window(rng, whole(label), (8, 8), 0.75), (8, 8)) == 1).any())
            for _ in range(300)
        ]
        assert np.mean(wanted) > 0.98  # 11 draws, each with about one chance in two

    def test_stops_after_the_tries(self) -> None:
        label = torch.zeros(8, 80, dtype=torch.uint8)
        rng, other = generator(3, 6), generator(3, 6)
        corner = draw_window(rng, whole(label), (8, 8), 0.75)
        for _ in range(CROP_TRIES):
            other.integers(0, 0, endpoint=True)
            other.integers(0, 72, endpoint=True)
        last = (
            int(other.integers(0, 0, endpoint=True)),
            int(other.integers(0, 72, endpoint=True)),
        )
        assert corner == last  # the crop after the last try is taken unchecked

    @pytest.mark.parametrize(("ignored", "accepted"), [(0, True), (IGNORE, False)])
    def test_ignored_pixels_are_no_class(self, ignored: int, accepted: bool) -> None:
        label = torch.full((4, 40), ignored, dtype=torch.uint8)
        label[:2] = 7  # half of each crop: two classes, or one and ignored pixels
        rng, other = generator(1, 6), generator(1, 6)
        first = (int(other.integers(0, 1)), int(other.integers(0, 36, endpoint=True)))
        assert (draw_window(rng, whole(label), (4, 4), 0.75) == first) is accepted


class TestView:
    def test_label_moves_with_the_image(self) -> None:
        """A picture whose grey level is its label stays so at every pixel away from edges."""
        label = torch.zeros(40, 60, dtype=torch.uint8)
        label[:, 30:] = 100
        label[20:] += 50
        image = label.expand(3, -1, -1)
        settings = changed(scale=(0.5, 2.0), flip_probability=0.5, cat_max_ratio=0.75)
        flipped = 0
        for sample in range(50):
            view, seen = draw_view(generator(0, 6, sample), image, label, settings)
            assert view.shape == (3, *seen.shape)
            assert seen.shape[0] <= 16
            assert seen.shape[1] <= 24
            wrong = (view[0].int() - seen.int()).abs() > 1
            assert wrong.float().mean() < 0.25  # blended pixels along the two edges
            levels = set(seen.unique().tolist())
            if levels >= {0, 100}:
                row = seen[0].tolist()
                flipped += row != sorted(row)
        assert flipped > 5

    def test_flip_mirrors_both(self) -> None:
        image = torch.randint(0, 256, (3, 32, 40), dtype=torch.uint8)
        label = torch.randint(0, 9, (32, 40), dtype=torch.uint8)
        plain = draw_view(generator(0, 6), image, label, PLAIN)
        mirrored = draw_view(generator(0, 6), image, label, changed(flip_probability=1.0))
        assert torch.equal(mirrored[0], plain[0].flip(2))
        assert torch.equal(mirrored[1], plain[1].flip(1))

    def test_ratio_is_uniform(self) -> None:
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        label = torch.zeros(32, 32, dtype=torch.uint8)
        settings = changed(scale=(0.5, 2.0), crop=(200, 200))
        heights = [
            draw_view(generator(0, 6, i), image, label, settings)[1].shape[0] for i in range(400)
        ]
        assert min(heights) >= 16
        assert max(heights) <= 64
        assert np.mean(heights) == pytest.approx(40, abs=2)


def test_pad_fills_right_and_below() -> None:
    pixels = torch.ones(3, 2, 4, dtype=torch.uint8)
    padded = pad(pixels, (5, 6), 9)
    assert padded.shape == (3, 5, 6)
    assert torch.equal(padded[:, :2, :4], pixels)
    assert (padded[:, 2:] == 9).all()
    assert (padded[:, :, 4:] == 9).all()
    assert pad(pixels, (2, 4), 9) is pixels
