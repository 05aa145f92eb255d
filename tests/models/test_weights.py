import errno
import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cp2.errors import UserError, WrongFile
from cp2.models import weights
from cp2.models.weights import load_weights, save_weights

METADATA = {"run": "cp2-r50-1a2b3c4d", "heads": "6"}


def test_round_trip(resnet, tmp_path):
    path = tmp_path / "model.safetensors"
    resnet = resnet.to(memory_format=torch.channels_last)
    head = {"a.b.weight": torch.randn(3, dtype=torch.float64), "scalar": torch.tensor(3)}
    save_weights(path, {"backbone": resnet.state_dict(), "head": head, "none": None}, METADATA)
    parts, metadata = load_weights(path)
    assert metadata == METADATA
    assert parts.keys() == {"backbone", "head"}
    for part, state in (("backbone", resnet.state_dict()), ("head", head)):
        assert parts[part].keys() == state.keys()
        for key, value in state.items():
            assert parts[part][key].dtype == value.dtype
            assert torch.equal(parts[part][key], value)


def test_parameters_with_gradients_are_written(tmp_path):
    weight = torch.nn.Parameter(torch.randn(2))
    save_weights(tmp_path / "w.safetensors", {"part": {"weight": weight}}, {})
    parts, metadata = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(parts["part"]["weight"], weight)
    assert metadata == {}


def test_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_weights(path, {"part": {"weight": torch.ones(2)}}, METADATA)

    def fills_the_disk(data):
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "_ordered", fills_the_disk)
    with pytest.raises(UserError, match=r"model\.safetensors.*no space left"):
        save_weights(path, {"part": {"weight": torch.zeros(2)}}, METADATA)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(load_weights(path)[0]["part"]["weight"], torch.ones(2))


@pytest.mark.parametrize("size", [0, 4, 60, -1])
def test_truncated_files_say_what_to_do(tmp_path, size):
    path = tmp_path / "model.safetensors"
    save_weights(path, {"part": {"weight": torch.ones(100)}}, METADATA)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        WrongFile,
        match=r"model\.safetensors: is .*a whole safetensors.*delete it",
    ):
        load_weights(path)


def test_missing_and_foreign_files(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WrongFile, match=r"model\.safetensors: is not there; run the stage"):
        load_weights(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(WrongFile, match=r"holds the tensor 'weight'.*part\.name"):
        load_weights(path)


SAVES = """
import sys, torch
from pathlib import Path
from cp2.models.weights import save_weights

order = sys.argv[2:]
tensors = {"b": torch.ones(2), "a": torch.zeros(3, dtype=torch.int64), "ä": torch.ones(1)}
state = {key: tensors[key] for key in order}
save_weights(Path(sys.argv[1]), {"part": state}, {f"{key} \\n": key for key in order})
"""


def test_equal_content_gives_equal_files_in_every_process(tmp_path):
    """safetensors itself writes metadata in the order of a hash map, other at each call."""
    for number, order in enumerate(("abä", "äba", "bäa")):
        command = [sys.executable, "-c", SAVES, str(tmp_path / str(number)), *order]
        subprocess.run(command, check=True)
    first, *others = (path.read_bytes() for path in tmp_path.iterdir())
    assert others == [first, first]
    with safe_open(tmp_path / "0", framework="pt") as file:
        assert file.metadata() == {f"{key} \n": key for key in "abä"}
        assert torch.equal(file.get_tensor("part.b"), torch.ones(2))


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_who_may_read_a_file_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_weights(tmp_path / "w", {"part": {"a": torch.zeros(1)}}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o666 & ~mask


def test_a_finished_runs_model_is_held_to_its_hash(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, {"backbone": {"w": torch.ones(8)}}, {})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "done.json").write_text(json.dumps({"model_sha256": sha256}))
    assert load_weights(path)[0]["backbone"]["w"].sum() == 8
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WrongFile, match="is not what its run wrote"):
        load_weights(path)
