"""Pictures of predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.data.labels import IGNORE
from cp2.errors import UserError
from cp2.protocols.registry import picture_indices
from cp2.protocols.segmentation import pictures
from cp2.protocols.segmentation.pictures import (
    GAP,
    OVERLAY,
    PictureWriter,
    colour,
    write_picture,
)

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


class TestWriter:
    IMAGE = torch.randint(0, 256, (3, 6, 9), dtype=torch.uint8)
    LABEL = torch.ones(6, 9, dtype=torch.uint8)

    def test_all_pictures_are_there_afterwards(self, tmp_path: Path) -> None:
        with PictureWriter(tmp_path / "pictures", PALETTE) as writer:
            for number in (0, 12):
                writer.add(number, self.IMAGE, self.LABEL, self.LABEL.long())
        write_picture(tmp_path / "alone.png", self.IMAGE, self.LABEL, self.LABEL.long(), PALETTE)
        expected = (tmp_path / "alone.png").read_bytes()
        for name in ("0000.png", "0012.png"):
            assert (tmp_path / "pictures" / name).read_bytes() == expected

    def test_a_full_disk_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise UserError("no space left")

        monkeypatch.setattr(pictures, "write_picture", full)
        with (
            pytest.raises(UserError, match="no space left"),
            PictureWriter(tmp_path, PALETTE) as writer,
        ):
            writer.add(0, self.IMAGE, self.LABEL, self.LABEL)

    def test_an_error_inside_is_not_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise UserError("no space left")

        monkeypatch.setattr(pictures, "write_picture", full)
        with pytest.raises(KeyError, match="first"):
            self.fail_inside(PictureWriter(tmp_path, PALETTE))

    def fail_inside(self, pictures: PictureWriter) -> None:
        with pictures as writer:
            writer.add(0, self.IMAGE, self.LABEL, self.LABEL)
            raise KeyError("first")
