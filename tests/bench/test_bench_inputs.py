"""What cannot be measured is said before anything is measured."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import data, harness, numerics
from benchmarks.__main__ import app
from benchmarks.data import check_jpegs
from benchmarks.figures import check_results
from cp2.costs.work_folder import given_images, write_images
from cp2.errors import UserError


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("something was measured")

    monkeypatch.setattr(harness, "_time", never)
    monkeypatch.setattr(data, "work_folder", never)
    monkeypatch.setattr(numerics, "work_folder", never)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    write_images(made, 2)
    return made


def refusal(*command):
    done = CliRunner().invoke(app, [*map(str, command)])
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def test_a_png_has_no_jpeg_limit(folder):
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    assert "a.png: PNG; this benchmark compares with a JPEG decoder" in refusal("data", folder)
    (folder / "a.png").rename(folder / "a.jpg")
    assert "a.jpg: PNG" in refusal("data", folder)


@pytest.mark.parametrize(
    "bench", ["data", "step", "pretrain", "lightly", "numerics", "finetune", "evaluate"]
)
def test_other_files_are_named(folder, bench):
    (folder / "readme.txt").write_text("words")
    assert "readme.txt: not an image by its name" in refusal(bench, folder)
    (folder / "readme.txt").rename(folder / "readme.jpg")
    assert "readme.jpg: is not a readable image" in refusal(bench, folder)


def test_some_of_many_are_opened(monkeypatch):
    check_jpegs([])  # synthetic ones: nothing to look at
    opened = []
    monkeypatch.setattr(data, "image_format", lambda path: opened.append(path) or "JPEG")
    for count, expected in ((3, 3), (1000, 1000), (1001, 501), (2500, 834)):
        opened.clear()
        check_jpegs(range(count))
        assert len(opened) == expected


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no files"):
        given_images(tmp_path)


@pytest.mark.parametrize(
    "content", ["[1]", '{"a": 1}', '{"benches": [1]}', '{"benches": {"a": 1}}']
)
def test_another_json_is_left_alone(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    for bench in (["data"], ["data", "--memory", "320"], ["step"], ["evaluate"]):
        assert "is not a file that a benchmark wrote" in refusal(*bench, "--json", file)
    assert file.read_text() == content


def test_places_for_the_figures(tmp_path):
    check_results(tmp_path)
    check_results(tmp_path / "new" / "folder")
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"benches": {"data": {}}, "throughput": []}))
    check_results(file)
    with pytest.raises(UserError, match="is a file, not a folder"):
        check_results(file / "b.json")
    file.write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        check_results(file)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["pretrain", "--batch", "2"], "batch of the|use 3 or more, or --background permutation"),
        (["pretrain", "--background", "sky"], "--background sky: use one of permutation, batch"),
        (["step", "--batch", "1"], "--batch 1; 2 is the least"),
        (["finetune", "--amp", "bf8"], "--amp bf8; use one of off, bf16, fp16"),
        (["data", "--seconds", "0"], "--seconds 0: must be more than 0"),
        (["data", "--memory", "100"], "320 samples are the least"),
        (["numerics", "--steps", "3"], "--steps 3"),
        (["lightly", "--backbone", "vits16"], "--backbone vits16: use one of resnet18, resnet50"),
        (["detection", "--backbone", "vits16"], "--backbone vits16: use resnet18 or resnet50"),
        (["detection", "--batch", "1"], "--batch 1; 2 is the least"),
        (["lightly"], "pip install 'lightly==1.6.*'"),
    ],
)
def test_values_that_do_not_suit(options, text):
    assert text.rsplit("|", 1)[-1] in refusal(*options)
