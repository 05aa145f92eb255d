"""Digests, the run's environment, and the order in which a run's folder fills."""

import subprocess

import pytest

from cp2.record import environment
from cp2.record.attempts import recorded
from cp2.record.digest import canonical_json, digest
from cp2.record.environment import LIBRARIES, describe_environment
from cp2.record.files import read_json
from cp2.record.folder import RunFolder


def test_digest_does_not_depend_on_order_or_containers():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert canonical_json({"b": "²", "a": None}) == '{"a":null,"b":"\\u00b2"}'


def test_digest_is_sha256_of_the_canonical_json():
    # printf '{}' | sha256sum
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": "1"}, {"a": 1.5}, {"a": [1]}, {}])
def test_digest_differs_with_content(other):
    assert digest({"a": 1}) != digest(other)


def test_environment_names_versions_and_no_secret(monkeypatch):
    monkeypatch.setattr(environment.sys, "argv", ["cp2", "--set", "a.token=s3cr3t"])
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    found = describe_environment("cpu")
    assert found["device"] == "cpu"
    assert found["slurm_job"] == "17"
    assert all(found[name] for name in LIBRARIES)
    assert "s3cr3t" not in str(found)


def test_environment_without_git_or_a_library(monkeypatch):
    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    monkeypatch.setattr(environment, "code_state", environment.code_state.__wrapped__)  # not cached
    monkeypatch.setattr(environment, "LIBRARIES", ("no-such-library",))
    found = describe_environment("cpu")
    assert found["git_commit"] is None
    assert found["git_dirty"] is None
    assert found["no-such-library"] is None


def test_a_run_is_done_only_between_finish_and_the_next_start(tmp_path):
    folder = RunFolder(tmp_path / "pretrain" / "a")
    assert not folder.is_done()
    folder.start({"lr": 1}, {"stage": "pretrain"}, "cpu")
    assert not folder.is_done()
    folder.finish({"steps": 3})
    assert folder.is_done()
    assert read_json(folder.done)["steps"] == 3
    folder.start({"lr": 1}, {"stage": "pretrain"}, "cpu")
    assert not folder.is_done()


def test_start_records_recipe_tags_and_attempts(tmp_path):
    folder = RunFolder(tmp_path)
    for attempt in (1, 2, 3):
        with recorded(tmp_path, "cpu"):
            folder.start({"lr": 1}, {"stage": "pretrain"}, "cpu")
        assert read_json(folder.environment)["attempt"] == attempt
    assert read_json(folder.recipe) == {"recipe": {"lr": 1}, "tags": {"stage": "pretrain"}}


def test_all_files_lie_in_the_folder_under_different_names(tmp_path):
    folder = RunFolder(tmp_path)
    names = [name for name, kind in vars(RunFolder).items() if isinstance(kind, property)]
    paths = [getattr(folder, name) for name in names]
    assert {path.parent for path in paths} == {tmp_path}
    assert len(set(paths)) == len(names) > 5
