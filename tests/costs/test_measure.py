"""`cp2 bench`: rows of a throughput file by the stages' own loops, at toy size."""

import json

import pytest
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.costs import measure
from cp2.costs.work_folder import write_images
from cp2.errors import UserError

SMALL = [
    "campaign.tables=[cp2_deeplabv3]",
    "campaign.execution.workers=0",
    "methods.cp2.batch_size=4",
    "methods.moco-v2.batch_size=4",
]


def bench(*arguments):
    settings = [word for text in SMALL for word in ("--set", text)]
    return CliRunner().invoke(app, ["bench", *map(str, arguments), "--steps", "2", *settings])


def refusal(*arguments):
    done = bench(*arguments)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def test_every_kind_of_work_has_a_row_that_the_costs_take(tmp_path):
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images", 3)
    file = tmp_path / "mine.json"
    done = bench("--images", tmp_path / "images", "--json", file)
    assert done.exception is None, done.output
    assert "3 given images" in done.output
    rows = json.loads(file.read_text())["throughput"]
    assert {row["stage"] for row in rows} == set(measure.STAGES)
    assert {row["method"] for row in rows} == {"moco-v2", "cp2", None}
    assert all(row["samples_per_second"] > 0 for row in rows)
    assert all(row["device"].startswith("cpu (") and row["certainty"] == "measured" for row in rows)
    words = ["plan", "--cost", "--throughput", str(file), "--set", SMALL[0]]
    costs = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "cost on cpu (" in costs
    assert "unknown" not in costs


def test_what_is_measured_again_is_replaced_and_the_rest_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "new" / "mine.json"
    rates = iter(range(1, 100))
    monkeypatch.setattr(measure, "_rate", lambda *_: next(rates))
    assert bench("finetune", "--json", file).exception is None
    first = json.loads(file.read_text())["throughput"]
    content = {"note": "mine", "throughput": [*first, first[0] | {"device": "X1"}]}
    file.write_text(json.dumps(content))
    assert bench("finetune", "evaluate", "--json", file).exception is None
    found = json.loads(file.read_text())
    assert found["note"] == "mine"
    others = [row for row in found["throughput"] if row["device"] == "X1"]
    assert others == [first[0] | {"device": "X1"}]
    kinds = [{k: v for k, v in row.items() if k != "samples_per_second"} for row in first]
    for kind, row in zip(kinds, first, strict=True):
        (new,) = [r for r in found["throughput"] if kind.items() <= r.items()]
        assert new["samples_per_second"] > row["samples_per_second"]


def test_what_cannot_be_measured_is_named_after_the_rest(tmp_path, monkeypatch):
    def rate(run, *_):
        if run.stage == "evaluate":
            raise UserError("no memory")
        return 3.0

    monkeypatch.setattr(measure, "_rate", rate)
    file = tmp_path / "mine.json"
    text = refusal("--json", file)
    assert text.startswith("not measured:\n  evaluate ")
    assert text.endswith(": no memory")
    assert {row["stage"] for row in json.loads(file.read_text())["throughput"]} == {
        "pretrain",
        "finetune",
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [("[]", "at least 1"), ('{"a": 1}', "is missing"), ("{", "not valid YAML")],
)
def test_another_json_is_left_alone(tmp_path, content, text):
    file = tmp_path / "other.json"
    file.write_text(content)
    assert text in refusal("--json", file)
    assert file.read_text() == content


def test_wrong_words_are_named(tmp_path):
    assert "cp2 bench step: not measured" in refusal("step")
    assert "is a folder; name a file" in refusal("--json", tmp_path)
    (tmp_path / "a").write_text("")
    assert "is a file, not a folder" in refusal("--json", tmp_path / "a" / "b.json")
    assert "nowhere: no files" in refusal("--images", tmp_path / "nowhere")
