"""`cp2 new`: campaigns that load and plan, with settings that suit the images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2.data.new_campaign import Found, Sizes, new_campaign
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.load import load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty photographs in two folders, in an empty project with configs/."""
    shutil.copytree(CONFIGS, tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    folder = tmp_path / "my photos"
    for i in range(40):
        path = folder / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (100, 140, 3), dtype=np.uint8)).save(path)
    (folder / "notes.txt").write_text("not an image")
    return folder


def make(photos: Path, **changes: object) -> list[str]:
    given = {"labelled": None, "method": "cp2", "backbone": "resnet18", "start": None}
    options = {"name": "garden", "images": photos, "epochs": None, **given, **changes}
    return new_campaign(**options)  # type: ignore[arg-type]


def test_a_pretraining_alone(images: Path) -> None:
    said = make(images)
    assert "40 images, short side 100 pixels (median)" in said
    assert any("notes.txt" in line for line in said)
    assert any("40 images are few" in line for line in said)
    plan = build_plan(load_campaign("garden"))
    (run,) = plan.stage("pretrain")
    assert plan.pretrainings == [run.key]
    assert not plan.tables
    recipe = run.recipe
    assert isinstance(recipe, PretrainRecipe)
    assert (recipe.method.views.crop_size, recipe.method.batch_size, recipe.epochs) == (96, 4, 800)


METHODS = {path.stem for path in CONFIGS.glob("methods/*.yaml")}


@pytest.mark.parametrize("method", sorted(METHODS - {"slotcon"}))
def test_every_method_can_be_pretrained(images: Path, method: str) -> None:
    make(images, method=method, backbone="vit-s16" if method == "moco-v2-vits" else "resnet18")
    (run,) = build_plan(load_campaign("garden")).stage("pretrain")
    assert isinstance(run.recipe, PretrainRecipe)
    assert run.recipe.method.name == method
    assert run.recipe.method.batch_size == 4


def test_with_labels_there_is_a_table(images: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    (scenes / "labels").mkdir(parents=True)
    label = np.array([[0, 1], [2, 255]], np.uint8)
    Image.fromarray(label).save(scenes / "labels" / "a.png")
    make(images, labelled=scenes, method="moco-v2", epochs=7)
    configuration = load_campaign("garden")
    assert configuration.classes("garden").classes == ("class-0", "class-1", "class-2")
    plan = build_plan(configuration)
    assert {cell.row for cell in plan.tables["garden"].cells} == {"random init", "moco-v2"}
    assert {run.recipe.epochs for run in plan.stage("pretrain")} == {7}  # type: ignore[union-attr]


def test_quick_tuning_takes_the_checkpoint(images: Path) -> None:
    said = make(images, backbone="resnet50", start="moco-v2-r50-200")
    assert not any("few" in line for line in said)
    (run,) = build_plan(load_campaign("garden")).stage("pretrain")
    assert run.need("checkpoint") == "moco-v2-r50-200"
    assert "-e20-" in run.id


@pytest.mark.parametrize(("count", "side"), [(32, 20), (200, 500), (5_000, 96), (2_000_000, 4_000)])
def test_settings_suit_the_images(count: int, side: int) -> None:
    sizes = Sizes.fit(Found(count, side, ()), None, tuning=False)
    assert sizes.crop % 32 == 0
    assert 64 <= sizes.crop <= 224
    assert 2 <= sizes.batch <= 256
    assert count // sizes.batch >= 8
    assert sizes.batch % sizes.group == 0
    assert sizes.queue % sizes.batch == 0
    assert 100 <= sizes.epochs <= 800


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Garden"}, "'Garden': write a small letter"),
        ({"name": "demo"}, "demo.yaml is there already; give another name"),
        ({"images": Path("nowhere")}, "--images nowhere: is no folder"),
        ({"method": "cp3"}, "no method 'cp3'"),
        ({"method": "slotcon"}, "256 prototypes are more than the 36 positions of a batch"),
        ({"backbone": "resnet51"}, "resnet51"),
        ({"start": "moco-v2-r50-200"}, "the row asks for 'resnet18'"),
        ({"labelled": Path("my photos")}, "have not two classes"),
    ],
)
def test_bad_input_writes_nothing(images: Path, changes: dict[str, object], message: str) -> None:
    before = sorted(Path("configs").rglob("*"))
    with pytest.raises(UserError, match=message):
        make(images, **changes)
    assert sorted(Path("configs").rglob("*")) == before


def test_too_few_images(images: Path) -> None:
    with pytest.raises(UserError, match="20 images; a pretraining needs 32 at least"):
        make(images / "0")
