"""scores.json as written today and before `metrics`."""

import pytest

from cp2.errors import WrongFile
from cp2.record.files import write_json
from cp2.record.readers import UNSCORED, Scores, read_score, read_scores
from cp2.settings.metrics import Metric

SHARE = Metric("recall", "recall", "percent")
NUMBER = Metric("distance", "distance", "pixels", scale=1.0)
HEAD = {"split": "val", "dataset": "x", "per_class": {"sky": 0.5, "sea": None}}
VALUES = {"recall": 0.25, "distance": 3, "of another protocol": "?"}


def scores(folder, content):
    """The file, in the folder of run-1."""
    write_json(folder / "recipe.json", {"recipe": {}, "tags": {"run_id": "run-1"}})
    write_json(folder / "scores.json", content)
    return folder / "scores.json"


@pytest.mark.parametrize("content", [HEAD | {"metrics": VALUES}, HEAD | VALUES])
def test_scores_of_both_forms(tmp_path, content):
    path = scores(tmp_path, content)
    expected = Scores("val", "x", {"recall": 0.25, "distance": 3.0}, {"sky": 0.5, "sea": None})
    assert read_scores(path, (SHARE, NUMBER), "run-1") == expected
    assert read_score(path, SHARE, "run-1") == 0.25
    assert read_score(path, NUMBER, "run-1") == 3.0


@pytest.mark.parametrize(
    ("metric", "value", "allowed"),
    [
        (SHARE, 3.0, "a share between 0 and 1"),
        (SHARE, None, "a share"),
        (NUMBER, "3", "a finite number"),
    ],
)
def test_a_wrong_score_is_named(tmp_path, metric, value, allowed):
    path = scores(tmp_path, HEAD | {"metrics": {metric.name: value}})
    with pytest.raises(WrongFile, match=f"{metric.name}: found {value!r}, must be {allowed}"):
        read_score(path, metric, "run-1")


@pytest.mark.parametrize("recipe", [None, "{", '{"recipe": {}, "tags": {}}'])
def test_scores_of_nobody_are_no_scores(tmp_path, recipe):
    path = scores(tmp_path, HEAD | {"metrics": VALUES})
    if recipe is None:
        path.with_name("recipe.json").unlink()
    else:
        path.with_name("recipe.json").write_text(recipe)
    with pytest.raises(WrongFile, match=r"recipe\.json: "):
        read_score(path, SHARE, "run-1")


def test_what_the_data_set_cannot_score_is_no_damage(tmp_path):
    path = scores(tmp_path, HEAD | {"metrics": {"distance": 3.0}, UNSCORED: [SHARE.name]})
    assert read_score(path, NUMBER, "run-1") == 3.0
    with pytest.raises(WrongFile, match=f"{SHARE.name} cannot be scored: no object"):
        read_score(path, SHARE, "run-1")
