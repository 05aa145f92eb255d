import zipfile

import numpy as np
import pytest
from foreign import bundle, write_bundle

from cp2.errors import WrongFile
from cp2.models.readers.tensor_bundle import read_tensor_bundle

VARIABLES = {
    "a/kernel": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "a/kernel/Momentum": np.ones((2, 3), "f8"),
    "b": np.array([-1, 2**40], "i8"),
    "global_step": np.array(7, "i4"),
    "empty": np.zeros((0, 3), "f4"),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.zip"


@pytest.mark.parametrize("block_size", [1, 2, 20])
def test_variables_come_back(path, block_size):
    write_bundle(path, *bundle(VARIABLES, block_size))
    found, others = read_tensor_bundle(path)
    assert others == []
    assert found.keys() == VARIABLES.keys()
    for name, array in VARIABLES.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_many_variables_share_the_beginnings_of_their_names(path):
    variables = {f"model/layer_{i}/kernel": np.array([i], "f4") for i in range(100)}
    write_bundle(path, *bundle(variables, block_size=40))
    found, _ = read_tensor_bundle(path)
    assert {name: float(array[0]) for name, array in found.items()} == {
        name: float(array[0]) for name, array in variables.items()
    }


def test_the_training_checkpoint_is_chosen_beside_a_hub_module(path):
    write_bundle(path, *bundle(VARIABLES))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ResNet50_1x/hub/variables/variables.index", b"")
    assert read_tensor_bundle(path)[0].keys() == VARIABLES.keys()


def refusal(path):
    with pytest.raises(WrongFile) as caught:
        read_tensor_bundle(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    return text


def test_every_truncation_of_the_index_is_refused(path):
    index, data = bundle({"a": np.arange(3, dtype="f4")})
    for length in range(len(index)):
        write_bundle(path, index[:length], data)
        assert "download it again" in refusal(path)


def test_truncated_data_are_refused(path):
    index, data = bundle(VARIABLES)
    write_bundle(path, index, data[:-1])
    assert "the data end before global_step does" in refusal(path)


def test_every_flipped_byte_is_refused(path):
    index, data = bundle({"a": np.arange(3, dtype="f4")})
    whole = write_bundle(path, index, data).read_bytes()
    for content in (index, data):
        for place in range(whole.index(content), whole.index(content) + len(content)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            assert "Bad CRC-32 for file" in refusal(path)


def test_other_containers_are_refused(path):
    with pytest.raises(WrongFile, match="not there"):
        read_tensor_bundle(path)
    path.write_bytes(b"no archive")
    assert "File is not a zip file" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "")
    assert "one index of a checkpoint is expected, found none" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.index", "")
        archive.writestr("y.index", "")
    assert "found x.index, y.index" in refusal(path)
    index, data = bundle(VARIABLES, shards=2)
    write_bundle(path, index, data, shards="00002")
    assert "data-00001-of-00002 is missing" in refusal(path)
    write_bundle(path, *bundle(VARIABLES, endianness=1))
    assert "big-endian" in refusal(path)
    write_bundle(path, *bundle(VARIABLES, compression=1))
    assert "compressed" in refusal(path)
    assert "download it again" in refusal(path)


def test_a_truncated_archive_is_refused(path):
    write_bundle(path, *bundle(VARIABLES))
    path.write_bytes(path.read_bytes()[:-30])
    assert "File is not a zip file" in refusal(path)


def test_strings_are_named_and_left_out(path, monkeypatch):
    import foreign

    monkeypatch.setitem(foreign.TYPES, "int32", 7)  # DT_STRING
    write_bundle(path, *bundle(VARIABLES))
    found, others = read_tensor_bundle(path)
    assert others == ["global_step"]
    assert "global_step" not in found


def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(path):
    index, data = bundle({"a": np.zeros(1 << 20, "f4")})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.ckpt-1.index", index)
        archive.writestr("model.ckpt-1.data-00000-of-00001", data)
    assert "over 10 times the file's size" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_index_that_python_unpacks_without_bound_is_refused(path, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("model.ckpt-1.index", bundle(VARIABLES)[0])
    assert "neither stored nor deflated" in refusal(path)


def test_names_that_take_far_more_than_the_file_are_refused(path):
    variables = {"n" * 4000 + f"{i:03}": np.zeros(1, "f4") for i in range(200)}
    write_bundle(path, *bundle(variables, block_size=200))
    assert "over 10 times the file's size" in refusal(path)


def test_an_index_of_more_shards_than_files_is_refused(path):
    write_bundle(path, *bundle(VARIABLES, shards=1 << 60))
    assert f"{1 << 60} shards are expected, 3 files are there" in refusal(path)
