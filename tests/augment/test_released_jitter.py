"""PixCon's colour jitter against albumentations 1.3.0 and OpenCV, which its release calls.

    python tests/augment/test_released_jitter.py FOLDER

prints how far the views of a folder's JPEG files lie from those of torchvision's jitter.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2.augment import views
from cp2.augment.photometric import augment_views, released_jitter
from cp2.augment.views import crop, draw_photometric
from cp2.data.images import decode_rgb
from cp2.drawing.crops import central_crop
from cp2.settings.views import ViewSettings

GOLDEN = Path(__file__).parent / "golden" / "released_jitter.npz"
JITTER = {"saturation": 0.2, "blur_probability": 0.0, "gray_probability": 0.0}
JITTER |= {"flip_probability": 0.0}


def test_it_is_albumentations_up_to_its_rounding():
    """8 bits a step there, and hues in steps of 2 degrees: a few levels where colours are full.

    More at a few pixels that are nearly grey, whose hue the rounding of the first step decides.
    """
    golden = np.load(GOLDEN)
    brightness, contrast, saturation, hue = golden["factors"].T
    parameters = torch.zeros(len(hue), views.PARAMETERS)
    parameters[:, views.BRIGHTNESS] = torch.from_numpy(brightness)
    parameters[:, views.CONTRAST] = torch.from_numpy(contrast)
    parameters[:, views.SATURATION] = torch.from_numpy((saturation * 255).astype(int) / 255)
    parameters[:, views.HUE] = torch.from_numpy((hue * 255).astype(int) / 180)
    images = torch.from_numpy(golden["images"]).permute(0, 3, 1, 2) / 255
    made = 255 * released_jitter(images, parameters).permute(0, 2, 3, 1).numpy()
    far = np.abs(made - golden["made"])
    assert far.mean() < 1.0
    assert np.quantile(far, 0.99) < 6
    assert far.max() < 40
    assert np.abs(made - golden["images"]).mean() > 30  # no small change


def test_what_is_drawn():
    settings = ViewSettings(jitter="released", **JITTER)
    usual = ViewSettings(**JITTER)
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    rows = np.stack([draw_photometric(rng, settings) for _ in range(4000)])
    same = np.stack([draw_photometric(other, usual) for _ in range(4000)])
    on = rows[:, views.JITTER] == views.RELEASED
    assert (on == (same[:, views.JITTER] == 1)).all()
    assert on.mean() == pytest.approx(0.8, abs=0.03)
    steps = 255 * rows[on][:, views.SATURATION], 180 * rows[on][:, views.HUE]
    assert [(round(s.min()), round(s.max())) for s in steps] == [(204, 305), (-25, 25)]
    assert all(np.abs(s - s.round()).max() < 1e-3 for s in steps)
    columns = [views.BRIGHTNESS, views.CONTRAST, views.GRAY, views.FLIP]
    assert (rows[:, columns] == same[:, columns]).all()  # no other number is drawn


def test_only_its_own_samples_are_changed():
    """Beside a sample of torchvision's jitter and one without."""
    crops = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    rng = np.random.default_rng(0)
    kinds = [{"jitter": "released"}, {}, {"jitter_probability": 0.0}]
    always = {**JITTER, "jitter_probability": 1.0}
    rows = [draw_photometric(rng, ViewSettings(**(always | kind))) for kind in kinds]
    parameters = torch.from_numpy(np.stack(rows))
    unit = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    together = augment_views(crops, parameters, **unit)
    for n in range(3):
        alone = augment_views(crops[n : n + 1], parameters[n : n + 1], **unit)
        torch.testing.assert_close(together[n : n + 1], alone)
    expected = released_jitter(crops[:1] / 255, parameters[:1])
    torch.testing.assert_close(together[:1], expected)
    torch.testing.assert_close(together[2], crops[2] / 255)


def measure(folder: Path, size: int = 224) -> None:
    files = sorted(folder.rglob("*.jpg"))[:200] + sorted(folder.rglob("*.JPEG"))[:200]
    made, saturations = {}, {}
    for jitter in ("torchvision", "released", "none"):
        changes = {"jitter_probability": 0.0} if jitter == "none" else {"jitter": jitter}
        settings, found = ViewSettings(**(JITTER | changes)), []
        for number, file in enumerate(files):
            image = decode_rgb(file)
            box = central_crop(*image.shape[1:], settings.crop_ratio)
            row = draw_photometric(np.random.default_rng(number), settings)
            one = crop(image, box, size)[None], torch.from_numpy(row)[None]
            found.append(augment_views(*one, (0.0,) * 3, (1.0,) * 3)[0])
        made[jitter] = torch.stack(found)
        most, least = made[jitter].amax(1), made[jitter].amin(1)
        saturations[jitter] = ((most - least) / most.clamp(min=1e-6)).mean().item()
    for jitter in ("torchvision", "released"):
        moved = 255 * (made[jitter] - made["none"]).abs().mean()
        print(f"{jitter}: {moved:.1f} levels from the photograph")
    apart = 255 * (made["released"] - made["torchvision"]).abs().mean()
    shown = ", ".join(f"{name} {value:.2f}" for name, value in saturations.items())
    print(f"{len(files)} photographs: {apart:.1f} levels apart; mean saturation: {shown}")


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
