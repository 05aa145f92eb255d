import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2.data.hashing import digest
from cp2.data.world import places, streets, write_world
from cp2.data.world.scenes import THINGS, VOC_IDS, object_scene, voc_scene
from cp2.data.world.textures import KINDS, texture
from cp2.settings.campaign import WorldSettings

SMALL = WorldSettings(
    short_side=48,
    voc_train=2,
    sbd_extra=1,
    voc_val=1,
    cityscapes_train=1,
    cityscapes_val=1,
    ade20k_train=1,
    ade20k_val=1,
    imagenet_classes=1,
    imagenet_per_class=1,
)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(tmp_path: Path) -> None:
    first = write_world(tmp_path / "first", SMALL)
    second = write_world(tmp_path / "second", SMALL)
    other = write_world(tmp_path / "other", SMALL.model_copy(update={"seed": 1}))
    for one, two, three in zip(first, second, other, strict=True):
        assert one.name == two.name == three.name
        assert one.read_bytes() == two.read_bytes()
        assert one.read_bytes() != three.read_bytes()


def test_sums_are_those_of_the_archives(world: Path) -> None:
    lines = (world / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 6
    for line in lines:
        hexadecimal, name = line.split()
        assert digest(world / name, "sha256") == hexadecimal
    assert {path.name for path in world.iterdir()} == {"SHA256SUMS", *(x.split()[1] for x in lines)}


def test_archives_are_laid_out_as_the_official_ones(world: Path) -> None:
    with tarfile.open(world / "demo-VOCtrainval.tar") as tar:
        names = tar.getnames()
        member = tar.extractfile("VOCdevkit/VOC2012/SegmentationClass/2010_000000.png")
        assert member is not None
        mask = Image.open(io.BytesIO(member.read()))
    assert "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt" in names
    assert sum("JPEGImages" in name for name in names) == 6 + 4 + 3  # SBD's, too
    assert mask.mode == "P"
    assert mask.getpalette()[3:6] == [128, 0, 0]  # type: ignore[index]  # aeroplane
    assert 255 in np.array(mask)
    with tarfile.open(world / "demo-benchmark.tgz") as tar:
        assert "benchmark_RELEASE/dataset/cls/2010_000000.mat" in tar.getnames()
    with zipfile.ZipFile(world / "demo-gtFine.zip") as archive:
        assert all(name.endswith("_gtFine_labelIds.png") for name in archive.namelist())
    with zipfile.ZipFile(world / "demo-ADEChallengeData.zip") as archive:
        folders = {name.rsplit("/", 1)[0] for name in archive.namelist()}
    assert folders == {
        f"ADEChallengeData2016/{kind}/{split}"
        for kind in ("images", "annotations")
        for split in ("training", "validation")
    }
    with tarfile.open(world / "demo-ILSVRC_img_train.tar") as tar:
        assert tar.getnames() == ["n02690373.tar", "n01530575.tar"]


@pytest.mark.parametrize("size", [(48, 48), (96, 128), (75, 51)])
def test_scenes_have_the_size_and_only_the_labels_asked_for(size: tuple[int, int]) -> None:
    cases = [
        (voc_scene, {0, *VOC_IDS.values()}),
        (streets.street_scene, set(streets.LABEL_IDS.values())),
        (places.ade_scene, set(places.LABELS.values())),
    ]
    for draw, allowed in cases:
        for seed in range(6):
            image, labels = draw(rng(seed), *size)
            assert image.shape == (*size, 3)
            assert labels.shape == size
            assert image.dtype == labels.dtype == np.uint8
            assert set(np.unique(labels)) <= allowed


def test_voc_scenes_show_every_class_and_never_nothing() -> None:
    shown: set[int] = set()
    for seed in range(60):
        present = set(np.unique(voc_scene(rng(seed), 48, 64)[1]).tolist()) - {0}
        assert 1 <= len(present) <= 3
        shown |= present
    assert shown == set(VOC_IDS.values())


@pytest.mark.parametrize("name", sorted(THINGS))
def test_each_object_stands_out_from_its_background(name: str) -> None:
    """Its pixels differ from those around it; it is neither all nor tiny."""
    contrasts = []
    for seed in range(8):
        image, labels = object_scene(rng(seed), 96, 128, [name])
        share = (labels == 1).mean()
        assert 0.005 < share < 0.7
        inside, outside = image[labels == 1].astype(float), image[labels == 0].astype(float)
        contrasts.append(np.abs(inside.mean(0) - outside.mean(0)).max() + inside.std())
    assert np.mean(contrasts) > 30


def test_scenes_are_not_flat_and_not_clipped() -> None:
    for seed in range(5):
        image, _ = voc_scene(rng(seed), 96, 128)
        assert image.std() > 20
        assert ((image == 0) | (image == 255)).mean() < 0.25


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_textures_keep_their_mean_colour_at_any_size(kind: str) -> None:
    for size in [(1, 1), (1, 40), (200, 200)]:
        patch = texture(rng(0), kind, (100.0, 150.0, 50.0), *size)
        assert patch.shape == (*size, 3)
        assert (patch >= 0).all()
    means = patch.mean((0, 1))
    assert means[1] > means[0] > means[2]
