"""Names that Slurm does not know, and what it refuses, beside commands that answer for it."""

import os
from pathlib import Path

import pytest

from cp2.cluster.validate_request import slurm_refusals
from cp2.plan.requests import JobRequest


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands, first on PATH; sbatch takes everything, sacctmgr knows this user."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _command(tmp_path, "sbatch", f'echo "$@" >> {tmp_path}/asked')
    _command(tmp_path, "sacctmgr", "echo 'vision|normal,long'; echo 'robots|normal'")
    return tmp_path


def _command(folder: Path, name: str, line: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{line}\n")
    (folder / name).chmod(0o755)


def _request(**changes: str) -> JobRequest:
    return JobRequest("pretrain", 2, 1000, 60, 1, **changes)  # type: ignore[arg-type]


def test_what_slurm_takes_is_not_refused(slurm: Path) -> None:
    assert slurm_refusals([_request(account="vision", qos="long"), _request()]) == []
    first, _ = (slurm / "asked").read_text().splitlines()
    assert first == (
        "--test-only --nodes=1 --cpus-per-task=2 --mem=1000 --time=60 --gpus=1 "
        "--account=vision --qos=long --wrap=true"
    )


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"account": "visions"}, "account 'visions' is not yours; did you mean 'vision'?"),
        ({"qos": "short"}, "qos 'short' is not yours; allowed: long, normal"),
        ({"account": "robots", "qos": "long"}, "qos 'long' is not yours; allowed: normal"),
    ],
)
def test_names_of_others(slurm: Path, names: dict[str, str], text: str) -> None:
    (refusal,) = slurm_refusals([_request(**names)])
    assert refusal.startswith(f"pretrain: {text}")
    assert not (slurm / "asked").exists()


@pytest.mark.parametrize("answer", ["exit 1", "true"])
def test_without_accounting_sbatch_has_the_word(slurm: Path, answer: str) -> None:
    _command(slurm, "sacctmgr", answer)
    assert slurm_refusals([_request(account="visions")]) == []
    said = "allocation failure: Invalid account or account/partition combination specified"
    _command(slurm, "sbatch", f"echo '{said}' >&2; exit 1")
    (refusal,) = slurm_refusals([_request(account="visions")])
    assert refusal.startswith("pretrain: sbatch --nodes=1")
    assert refusal.endswith(": Invalid account or account/partition combination specified")


def test_nodes_that_the_cluster_does_not_have(slurm: Path) -> None:
    said = "allocation failure: Requested node configuration is not available"
    _command(slurm, "sbatch", f"echo '{said}' >&2; exit 1")
    (refusal,) = slurm_refusals([_request()])
    assert refusal.endswith(": Requested node configuration is not available")


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Unable to contact slurm controller (connect failure)",
        "allocation failure: Requested nodes are busy",
        "allocation failure: Requested partition configuration not available now",
    ],
)
def test_what_passes_is_no_reason_to_refuse(slurm: Path, said: str) -> None:
    _command(slurm, "sbatch", f"echo '{said}' >&2; exit 1")
    assert slurm_refusals([_request()]) == []


def test_no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm_refusals([_request(account="vision")]) == []
