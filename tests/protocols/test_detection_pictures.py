import numpy as np
import torch
from PIL import Image

from cp2.data.annotations import ImageObject
from cp2.protocols.detection.pictures import GAP, write_picture
from cp2.protocols.detection.roi_heads import Detections


def test_an_image_alone_with_its_objects_and_with_what_was_found(tmp_path):
    """Three panels, as of a segmentation: the report cuts both alike."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8))
    objects = [ImageObject("cat", (2.0, 3, 12, 15), False)]
    found = Detections(
        torch.tensor([[5.0, 5, 25, 18], [0, 0, 4, 4]]),
        torch.tensor([0.9, 0.4]),
        torch.tensor([1, 0]),
    )
    write_picture(tmp_path / "0.png", image, objects, found, None, ("cat", "dog"))
    sheet = np.asarray(Image.open(tmp_path / "0.png"))
    width = (sheet.shape[1] - 2 * GAP) // 3
    scale = width // 30
    alone, truth, guess = (
        sheet[:, i * (width + GAP) : i * (width + GAP) + width] for i in range(3)
    )
    large = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((30 * scale, 20 * scale))
    assert sheet.shape == (20 * scale, 3 * 30 * scale + 2 * GAP, 3)
    assert np.array_equal(alone, np.asarray(large))
    for panel, (left, top) in ((truth, (2, 3)), (guess, (5, 5))):
        changed = np.argwhere((panel != alone).any(2))
        assert changed[:, 1].min() == left * scale
        assert (panel != alone).any(2)[top * scale + scale, left * scale]
    assert not (guess != alone).any(2)[: 4 * scale, : 4 * scale].any()  # of a score below a half


def test_where_nothing_is_shown_words_say_so(tmp_path):
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    crowd = ImageObject("cat", (2.0, 3, 40, 30), True, crowd=True)
    seen = []
    for number, objects in enumerate([[], [crowd], [crowd._replace(crowd=False)]]):
        path = tmp_path / f"{number}.png"
        write_picture(path, torch.zeros(3, 90, 90).byte(), objects, nothing, None, ("cat",))
        seen.append(np.asarray(Image.open(path)))
    width = (seen[0].shape[1] - 2 * GAP) // 3
    alone, truth, guess = (seen[0][:, i * (width + GAP) :][:, :width] for i in range(3))
    assert (truth != alone).any()
    assert (guess != alone).any()
    assert (seen[1] != seen[2]).any()  # a crowd is called so
