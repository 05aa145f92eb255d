"""A kill at any moment leaves a whole state; a damaged one falls back to the one before."""

import random
from pathlib import Path
from typing import IO

import pytest
import torch

from cp2.errors import UserError
from cp2.training.saving import load_state, remove_state, save_state

CPU = torch.device("cpu")


def test_the_newest_save_is_loaded_and_the_one_before_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, {"step": step, "weights": torch.full((2,), float(step))})
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.tensor([3.0, 3.0]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_newest_save_falls_back(tmp_path: Path, keep: int) -> None:
    save_state(tmp_path, {"step": 1})
    save_state(tmp_path, {"step": 2})
    newest = tmp_path / "last.pt"
    newest.write_bytes(newest.read_bytes()[:keep])
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_falls_back_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    save_state(tmp_path, {"step": 1, "x": values})
    save_state(tmp_path, {"step": 2, "x": values})
    content = bytearray((tmp_path / "last.pt").read_bytes())
    rng = random.Random(seed)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (tmp_path / "last.pt").write_bytes(content)
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] in (1, 2)
    assert torch.equal(state["x"], values)


def test_a_flipped_bit_of_a_weight_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save_state(tmp_path, {"step": step, "x": torch.full((4,), 1.7)})
    content = bytearray((tmp_path / "last.pt").read_bytes())
    content[content.index(torch.tensor(1.7).numpy().tobytes())] ^= 1
    (tmp_path / "last.pt").write_bytes(content)
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 1
    assert "last.pt is damaged (WrongFile: wrong checksum of" in capsys.readouterr().out


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1})
    save_state(tmp_path, {"step": 2})
    # As after `last -> previous` and before `new -> last`.
    (tmp_path / "last.pt").rename(tmp_path / "new.pt")
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 2


def test_no_state_is_none_and_a_finished_run_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert load_state(folder, CPU) is None
    save_state(folder, {"step": 1})
    remove_state(folder)
    assert not folder.exists()


def test_a_full_disk_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {"step": 1})

    def full(value: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        save_state(tmp_path, {"step": 2})
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
