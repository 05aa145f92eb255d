"""Loss curves of two precisions: what is compared, and what the command makes of it."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as commands
from benchmarks import numerics
from benchmarks.numerics import LARGEST_BAND, MEAN_BAND, bench_numerics, difference, moved, within
from benchmarks.sizes import Sizes
from cp2.costs.work_folder import write_images
from cp2.errors import UserError

TOY = Sizes(
    backbone="resnet-tiny",
    head="aspp-tiny",
    crop=32,
    batch=4,
    workers=0,
    steps=4,
    rounds=1,
    amp="bf16",
)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    monkeypatch.setattr(numerics, "WINDOW", 2)


def test_curves_from_one_start_and_from_another(tmp_path):
    lines = []
    figures = bench_numerics(TOY, write_images(tmp_path, 3), say=lines.append)
    assert list(figures["curves"]) == ["off", "bf16", "off, another seed"]
    for curves in figures["curves"].values():
        assert curves.keys() == {"loss", "loss_instance", "loss_dense"}
        assert all(len(points) == 2 for points in curves.values())
    bf16, seed = figures["differences"].values()
    assert 0 < bf16["loss"]["mean"] < seed["loss"]["mean"]
    assert figures["within"] == all(within(bf16[term]) for term in curves)
    verdicts = [line for line in lines if "the band (" in line]
    assert [line.split()[0] for line in verdicts] == list(curves)
    assert any("OUTSIDE" in line for line in verdicts) != figures["within"]
    for term, points in figures["curves"]["off"].items():
        said = any(line.startswith(f"{term} moved by") for line in lines)
        assert said == (moved(points) < LARGEST_BAND)
    assert json.loads(json.dumps(figures)) == figures


def test_difference():
    assert difference([2.0, 4.0, -1.0], [2.0, 3.0, -1.5]) == {"mean": 0.25, "largest": 0.5}


def test_moved_is_the_way_from_the_start():
    assert moved([2.0, 3.0, 1.5, 2.0]) == 0.5


@pytest.mark.parametrize("wrong", ["loss", "loss_instance", "loss_dense"])
def test_each_term_has_the_band(monkeypatch, tmp_path, wrong):
    """A dense loss that is 10 % off moves the total by less than its band."""
    terms = {"loss": 10.0, "loss_instance": 9.0, "loss_dense": 1.0}

    def curves(method, sizes, work, seed):
        off = sizes.amp == "bf16"
        return {t: [v, v * (1.1 if off and t == wrong else 1)] for t, v in terms.items()}

    monkeypatch.setattr(numerics, "_curves", curves)
    figures = bench_numerics(TOY, write_images(tmp_path, 1), say=lambda line: None)
    assert not figures["within"]


def test_both_halves_of_the_band_count():
    assert within({"mean": MEAN_BAND, "largest": LARGEST_BAND})
    assert not within({"mean": 1.1 * MEAN_BAND, "largest": LARGEST_BAND})
    assert not within({"mean": MEAN_BAND, "largest": 1.1 * LARGEST_BAND})


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"steps": 1}, "--steps 1; a point of a curve needs 2"), ({"amp": "off"}, "float32 with it")],
)
def test_nothing_to_compare(changes, text):
    with pytest.raises(UserError, match=text):
        bench_numerics(replace(TOY, **changes))


@pytest.mark.parametrize(("inside", "code"), [(True, 0), (False, 1)])
def test_the_command_fails_outside_the_band(monkeypatch, tmp_path, inside, code):
    figures = {"machine": {"device": "cpu", "cpu": "one"}, "within": inside}
    monkeypatch.setattr(commands, "bench_numerics", lambda *_: dict(figures))
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(commands.app, ["numerics", "--json", str(file)])
    assert result.exit_code == code
    # Synthetic images never take the place of real ones' figures.
    (name,) = json.loads(file.read_text())["benches"]
    assert name == "numerics-synthetic"
    assert json.loads(file.read_text())["benches"][name]["within"] is inside


def test_figures_on_given_photographs_have_the_name_of_the_bench(monkeypatch, tmp_path):
    figures = {"machine": {"device": "cpu", "cpu": "one"}, "within": True}
    monkeypatch.setattr(commands, "bench_numerics", lambda *_: dict(figures))
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images", 1)
    file = tmp_path / "figures.json"
    command = ["numerics", str(tmp_path / "images"), "--json", str(file)]
    assert CliRunner().invoke(commands.app, command).exit_code == 0
    assert list(json.loads(file.read_text())["benches"]) == ["numerics"]
