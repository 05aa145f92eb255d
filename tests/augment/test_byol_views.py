"""BYOL's asymmetric views: solarisation against PIL, and who gets which blur."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import functional as pil_functional

from cp2.augment import photometric, views
from cp2.drawing.counters import generator
from cp2.settings.base import hashed_fields
from cp2.settings.views import SecondView, ViewSettings

BYOL = ViewSettings(
    blur_probability=1.0, second=SecondView(blur_probability=0.1, solarize_probability=0.2)
)


@pytest.mark.parametrize("gray", [0, 1])
def test_solarisation_equals_pils_on_the_samples_that_ask_for_it(gray):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 127, 128
    rows = torch.zeros(2, views.PARAMETERS)
    rows[:, :3] = 1
    rows[0, views.SOLARIZE] = 1
    rows[:, views.GRAY] = gray
    crops = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    got = photometric.augment_views(crops, rows, mean=(0.0,) * 3, std=(1.0,) * 3) * 255
    for sample, image in enumerate(got):
        picture = Image.fromarray(pixels[sample])
        if gray:
            picture = pil_functional.to_grayscale(picture, num_output_channels=3)
        if sample == 0:
            picture = ImageOps.solarize(picture, 128)
        theirs = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
        difference = (image - theirs).abs()
        if not gray:
            assert difference.max() < 1e-3
        # PIL rounds grey before it compares: what lies around the threshold may go either way.
        assert difference[theirs.sub(127.5).abs() > 2].max() < 1.01


def test_the_second_view_has_probabilities_of_its_own():
    shares = {}
    for view in range(4):
        rows = [
            views.draw_photometric(generator(0, 3, view, i), BYOL.of(view)) for i in range(2000)
        ]
        table = np.stack(rows)
        shares[view] = [(table[:, column] > 0).mean() for column in (views.SIGMA, views.SOLARIZE)]
    assert shares[0] == [1.0, 0.0]
    np.testing.assert_allclose(shares[1], [0.1, 0.2], atol=0.04)
    assert shares[2] == shares[0]  # the query's background
    np.testing.assert_allclose(shares[3], [0.1, 0.2], atol=0.04)


def test_views_without_solarisation_draw_what_they_always_drew():
    """No number is taken from the generator for it, and run ids do not know the new options."""
    one, other = generator(0, 3, 0, 0), generator(0, 3, 0, 0)
    views.draw_photometric(one, ViewSettings())
    views.draw_photometric(other, ViewSettings(solarize_probability=1e-12))
    assert one.random() != other.random()
    fields = hashed_fields(ViewSettings())
    assert not {"solarize_probability", "min_overlap", "second"} & set(fields)
    assert hashed_fields(BYOL)["second"] == {"blur_probability": 0.1, "solarize_probability": 0.2}
