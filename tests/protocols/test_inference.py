"""Whole-image and sliding-window inference against slow formulas."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.protocols.segmentation import inference
from cp2.protocols.segmentation.inference import infer, window_starts
from cp2.settings.protocols.segmentation import InferenceSettings

WHOLE = InferenceSettings()


def slide(window: tuple[int, int], stride: tuple[int, int]) -> InferenceSettings:
    return InferenceSettings(mode="slide", window=window, stride=stride)


class Net(nn.Module):
    """Logits at stride 4 that depend on where a pixel lies in its window."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 7, stride=4, padding=3)
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return self.conv(images)


@pytest.fixture
def net() -> Net:
    return Net().eval()


def test_whole_image_at_the_original_size(net: Net) -> None:
    image = torch.randn(1, 3, 20, 28)
    with torch.inference_mode():
        logits = infer(net, image, (33, 47), WHOLE)
        step = F.interpolate(net(image), size=(20, 28), mode="bilinear", align_corners=False)
        expected = F.interpolate(step, size=(33, 47), mode="bilinear", align_corners=False)
    assert logits.shape == (1, 5, 33, 47)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("window", [(20, 28), (24, 28), (400, 400)])
def test_a_window_that_covers_the_image_is_the_whole_image(
    net: Net, window: tuple[int, int]
) -> None:
    image = torch.randn(1, 3, 20, 28)
    with torch.inference_mode():
        whole = infer(net, image, (20, 28), WHOLE)
        assert torch.equal(infer(net, image, (20, 28), slide(window, window)), whole)


@pytest.mark.parametrize(
    ("window", "stride"), [((8, 8), (4, 4)), ((8, 12), (8, 5)), ((20, 8), (3, 8)), ((9, 9), (7, 7))]
)
def test_overlapping_windows_are_averaged(
    net: Net, window: tuple[int, int], stride: tuple[int, int]
) -> None:
    height, width = 20, 28
    image = torch.randn(1, 3, height, width)
    with torch.inference_mode():
        found = infer(net, image, (height, width), slide(window, stride))
        total, times = torch.zeros(5, height, width), torch.zeros(height, width)
        top = 0
        while True:
            y = min(top, height - window[0])
            left = 0
            while True:
                x = min(left, width - window[1])
                part = image[:, :, y : y + window[0], x : x + window[1]]
                logits = F.interpolate(net(part), size=window, mode="bilinear")
                total[:, y : y + window[0], x : x + window[1]] += logits[0]
                times[y : y + window[0], x : x + window[1]] += 1
                if left + window[1] >= width:
                    break
                left += stride[1]
            if top + window[0] >= height:
                break
            top += stride[0]
    assert (times > 0).all()
    torch.testing.assert_close(found[0], total / times, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pixels", "batches"), [(1, [1] * 24), (7 * 64, [7, 7, 7, 3])])
def test_few_windows_at_once(
    net: Net, monkeypatch: pytest.MonkeyPatch, pixels: int, batches: list[int]
) -> None:
    image, settings = torch.randn(1, 3, 20, 28), slide((8, 8), (4, 4))
    with torch.inference_mode():
        together = infer(net, image, (20, 28), settings)
        assert net.batches == [4 * 6]
        monkeypatch.setattr(inference, "PIXELS_AT_ONCE", pixels)
        apart = infer(net, image, (20, 28), settings)
    assert net.batches[1:] == batches
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "window", "stride", "starts"),
    [
        (10, 10, 10, [0]),
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),
        (9, 4, 3, [0, 3, 5]),
        (2048, 769, 513, [0, 513, 1026, 1279]),  # mmsegmentation's Cityscapes windows
    ],
)
def test_window_starts(size: int, window: int, stride: int, starts: list[int]) -> None:
    assert window_starts(size, window, stride) == starts


@pytest.mark.parametrize("settings", [WHOLE, slide((20, 28), (10, 14))])
def test_corners_can_lie_on_corners(net: Net, settings: InferenceSettings) -> None:
    image = torch.randn(1, 3, 20, 28)
    with torch.inference_mode():
        logits = infer(net, image, (33, 47), settings, align_corners=True)
        step = F.interpolate(net(image), size=(20, 28), mode="bilinear", align_corners=True)
        expected = F.interpolate(step, size=(33, 47), mode="bilinear", align_corners=True)
        torch.testing.assert_close(logits, expected)
        corner = net(image)[0, :, -1, -1]
    torch.testing.assert_close(logits[0, :, -1, -1], corner)
