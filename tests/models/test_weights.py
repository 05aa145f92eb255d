import pytest
import torch
from safetensors import SafetensorError
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

    def fills_the_disk(tensors, name, metadata):
        name.write_bytes(b"half")
        text = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(text)

    monkeypatch.setattr(weights, "save_file", fills_the_disk)
    with pytest.raises(UserError, match=r"model\.safetensors.*no space left"):
        save_weights(path, {"part": {"weight": torch.zeros(2)}}, METADATA)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(load_weights(path)[0]["part"]["weight"], torch.ones(2))


@pytest.mark.parametrize("size", [0, 4, 60, -1])
def test_truncated_files_say_what_to_do(tmp_path, size):
    path = tmp_path / "model.safetensors"
    save_weights(path, {"part": {"weight": torch.ones(100)}}, METADATA)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WrongFile, match=r"model\.safetensors is not a readable.*delete it"):
        load_weights(path)


def test_missing_and_foreign_files(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WrongFile, match=r"model\.safetensors is not there"):
        load_weights(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(WrongFile, match=r"holds the tensor 'weight'.*part\.name"):
        load_weights(path)
