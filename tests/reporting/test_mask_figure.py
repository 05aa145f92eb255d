"""The figure of mask kinds: which are shown, on which images."""

from pathlib import Path

import numpy as np
import pytest
from campaigns import prepare_photos
from PIL import Image

from cp2.data.attention_maps import MAPS, RECORD, MapsRecord
from cp2.data.derived import write_record
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.reporting.figures.masks import _compose, _View, mask_examples
from cp2.settings.load import Configuration, load_campaign
from cp2.settings.masks import MaskSettings, PatchesMaskSettings, RectangleMaskSettings

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
select: {{mini_segmentation: {{rows: [CP2 scratch], columns: [labelled mIoU]}}}}
epochs: {{200: 2}}
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}/images}}
    scenes: {{kind: labelled, title: none, root: {root}/images, classes: camvid}}
  methods:
    cp2: {{views: {{crop_size: {size}}}, batch_size: 4, mask: {mask}}}
execution: {{results: {root}/results}}
"""


def campaign(root: Path, mask: str, size: int = 32, images: int = 7) -> tuple[Configuration, Plan]:
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(images):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
    file = root / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=root, mask=mask, size=size))
    configuration = load_campaign(str(file))
    return configuration, build_plan(configuration)


def titles(configuration: Configuration, plan: Plan, folder: Path) -> set[str]:
    figure = mask_examples(plan, configuration.results, folder)
    assert figure is not None
    with Image.open(figure.png) as picture:
        assert picture.format == "PNG"
    words = ("rectangle", "polygon", "blocks", "patches", "self-attention", "no copy-paste")
    return {word for word in words if word in figure.caption}


def test_without_prepared_images_there_is_no_figure(tmp_path: Path) -> None:
    configuration, plan = campaign(tmp_path, "{}")
    assert mask_examples(plan, configuration.results, tmp_path) is None


def test_too_few_images_give_no_figure(tmp_path: Path) -> None:
    configuration, plan = campaign(tmp_path, "{}", images=5)
    prepare_photos(configuration, plan)
    assert mask_examples(plan, configuration.results, tmp_path) is None


def test_every_random_kind_is_shown_and_a_broken_image_passed_over(tmp_path: Path) -> None:
    configuration, plan = campaign(tmp_path, "{}")
    prepare_photos(configuration, plan)
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    shown = titles(configuration, plan, tmp_path / "figures")
    assert shown == {"rectangle", "polygon", "blocks", "patches", "no copy-paste"}


def test_patches_that_do_not_fit_the_crop_are_left_out(tmp_path: Path) -> None:
    configuration, plan = campaign(tmp_path, "{}", size=48)
    prepare_photos(configuration, plan)
    assert "patches" in titles(configuration, plan, tmp_path / "figures")
    run = next(iter(plan.stage("pretrain")))
    views = run.recipe.method.views.model_copy(update={"crop_size": 40})
    method = run.recipe.method.model_copy(update={"views": views})
    object.__setattr__(run, "recipe", run.recipe.model_copy(update={"method": method}))
    assert "patches" not in titles(configuration, plan, tmp_path / "figures")


def test_attention_is_shown_where_it_has_been_computed(tmp_path: Path) -> None:
    dino = "{kind: dino, checkpoint: demo-moco-v2-v300}"
    configuration, plan = campaign(tmp_path, dino)
    prepare_photos(configuration, plan)
    assert "self-attention" not in titles(configuration, plan, tmp_path / "figures")
    (run,) = plan.stage("masks")
    folder = run.folder(configuration.results)
    folder.path.mkdir(parents=True)
    (folder.path / MAPS).write_bytes(bytes(7 * 4 * 4))
    digest = (configuration.results / "datasets" / "photos" / "dataset.json").read_text()
    digest = digest.split('"digest": "')[1].split('"')[0]
    record = MapsRecord(dataset="photos", digest=digest, split="train", images=7, side=4)
    write_record(folder.path / RECORD, record)
    folder.finish({})
    assert "self-attention" in titles(configuration, plan, tmp_path / "figures")


@pytest.mark.parametrize(
    "mask", [RectangleMaskSettings(), PatchesMaskSettings(kind="patches", patch=8)]
)
def test_composed_images_are_foreground_where_the_mask_is_white(mask: MaskSettings) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    views = [_View(i, (40, 48), (0, 0, 40, 48), pixels[i]) for i in range(2)]
    shown, composed = _compose(mask, views[0], views[1], None)
    assert set(np.unique(shown)) == {0, 255}
    for i in range(32):
        for j in range(32):
            source = 0 if shown[i, j, 0] else 1
            assert np.array_equal(composed[i, j], pixels[source, i, j])
