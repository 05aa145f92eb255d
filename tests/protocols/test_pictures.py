"""Pictures of predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.data.labels import IGNORE
from cp2.protocols.registry import picture_indices
from cp2.protocols.segmentation.pictures import GAP, OVERLAY, colour, write_picture

PALETTE = ((0, 0, 0), (200, 0, 50))


@pytest.mark.parametrize(
    ("images", "pictures", "expected"),
    [(24, 4, [0, 6, 12, 18]), (3, 4, [0, 1, 2]), (5, 0, []), (7, 2, [0, 3])],
)
def test_indices_are_spread_over_the_split(images: int, pictures: int, expected: list[int]) -> None:
    assert picture_indices(images, pictures) == expected


def test_colours() -> None:
    found = colour(torch.tensor([[0, 1, IGNORE, 7]]), PALETTE)
    assert found.permute(1, 2, 0).tolist() == [
        [[0, 0, 0], [200, 0, 50], [255, 255, 255], [0, 0, 0]]
    ]


def test_image_label_and_prediction_side_by_side(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 6, 9), dtype=torch.uint8)
    label, prediction = torch.ones(6, 9, dtype=torch.uint8), torch.zeros(6, 9, dtype=torch.long)
    write_picture(tmp_path / "new" / "0.png", image, label, prediction, PALETTE)
    with Image.open(tmp_path / "new" / "0.png") as picture:
        pixels = np.array(picture).astype(float)
    assert pixels.shape == (6, 3 * 9 + 2 * GAP, 3)
    original = image.permute(1, 2, 0).numpy()
    assert (pixels[:, :9] == original).all()
    mixed = OVERLAY * np.array(PALETTE[1]) + (1 - OVERLAY) * original
    assert np.abs(pixels[:, 9 + GAP : 18 + GAP] - mixed).max() <= 0.51
    assert np.abs(pixels[:, 18 + 2 * GAP :] - (1 - OVERLAY) * original).max() <= 0.51
