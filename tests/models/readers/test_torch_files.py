import argparse
import os
import pickle
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch

from cp2.errors import WrongFile
from cp2.models.readers.torch_files import _directory_start, read_tensors, some

STATE = {"a": torch.arange(5000.0), "b": torch.zeros(2, dtype=torch.int64)}


class MakesAFile:
    """Unpickled carelessly, this runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_never_executed(tmp_path, zipped):
    trap, path = tmp_path / "trap", tmp_path / "file.pth"
    content = {"state_dict": STATE, "args": MakesAFile(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WrongFile) as error:
        read_tensors(path)
    assert not trap.exists()
    for text in (str(path), "refused, never executed", "posix.mkdir", "save its state dict alone"):
        assert text in str(error.value)
    torch.load(path, weights_only=False)
    assert trap.exists()  # the trap does work


def test_plain_pickle_is_refused_and_never_executed(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"x": MakesAFile(trap)}))
    with pytest.raises(WrongFile, match=r"file\.pkl.*nothing in it was executed"):
        read_tensors(path)
    assert not trap.exists()


def test_objects_are_named(tmp_path):
    torch.save({"model": STATE, "opt": Fraction(1, 2)}, tmp_path / "file.pth")
    with pytest.raises(WrongFile, match=r"the Python object fractions\.Fraction"):
        read_tensors(tmp_path / "file.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_and_numpys_numbers_are_harmless(tmp_path, zipped):
    """PyContrast's and PixPro's files hold the arguments of their training."""
    content = {"opt": argparse.Namespace(lr=1), "model": STATE, "best": np.float64(1)}
    path = tmp_path / "file.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path)
    assert found.tensors.keys() == STATE.keys()
    assert found.others == ["opt", "best"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
def test_truncated_files_say_what_to_do(tmp_path, zipped, share):
    path = tmp_path / "file.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WrongFile, match=r"file\.pth.*download it again"):
        read_tensors(path)


def test_other_files(tmp_path):
    path = tmp_path / "file.pth"
    with pytest.raises(WrongFile, match=r"file\.pth: is not there"):
        read_tensors(path)
    path.write_text("<html>Please sign in</html>")
    with pytest.raises(WrongFile, match="is a web page"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(WrongFile, match="truncated or of another kind"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list"),
        (torch.zeros(2), "a Tensor"),
        ({}, "a dict"),
        ({"epoch": 3, "arch": "r50"}, "arch, epoch"),
        ({"state_dict": {}}, "state_dict"),
    ],
)
def test_content_without_a_state_dict(tmp_path, content, found):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(WrongFile, match=f"holds no state dict.*Found {found}"):
        read_tensors(tmp_path / "file.pth")


def test_containers(tmp_path):
    path = tmp_path / "file.pth"
    for content, others in (
        (STATE | {"version": 1}, ["version"]),
        ({"state_dict": STATE, "epoch": 3}, ["epoch"]),
        ({"model": STATE | {"version": 1}, "epoch": 3}, ["epoch", "version"]),
    ):
        torch.save(content, path)
        found = read_tensors(path)
        assert found.others == others
        assert found.tensors.keys() == STATE.keys()
        assert all(torch.equal(found.tensors[key], STATE[key]) for key in STATE)


def test_some_sorts_and_cuts():
    assert some(["b", "a"]) == "a, b"
    assert some(f"{i:03}" for i in range(25)).endswith("018, 019, and 5 more")


# --- hostile files: what torch.load itself would take ---


def write_zip(path, pickled, storages=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", "little")
        for number, content in enumerate(storages):
            archive.writestr(f"a/data/{number}", content)
        archive.writestr("a/version", "3\n")


def refusal(path):
    with pytest.raises(WrongFile) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "file.pth"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["a"].numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["a"].shape == (5000,)  # nobody else notices
    assert "wrong checksum of file/data/0" in refusal(path)


def test_a_tensor_larger_than_the_file_is_refused(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"conv1.weight": torch.zeros(1).expand(1 << 40)}, path)
    assert "over 10 times the file's size" in refusal(path)


def test_compressed_records_are_refused(tmp_path):
    path = tmp_path / "file.pth"
    write_zip(path, pickle.dumps({}), [bytes(1 << 20)], zipfile.ZIP_DEFLATED)
    assert "its records are compressed or overlap" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_key_nested_so_deep_that_its_hash_overruns_the_stack_is_refused(tmp_path, zipped):
    path = tmp_path / "file.pth"
    deep = b"\x80\x02}()" + b"\x85" * 150_000 + b"K\x01u."
    if zipped:
        write_zip(path, deep)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=False)
        whole = path.read_bytes()
        begin = whole.index(b"\x80\x02}", 20)
        path.write_bytes(whole[:begin] + deep + whole[begin:])
    assert "150000 tuples are in its pickle" in refusal(path)


TEXT = b"X" + (100_000).to_bytes(4, "little") + b"t" * 100_000
HOSTILE = {
    "zeros by number": (b"c__builtin__\nbytearray\nJ\0\0\0\x7f\x85R.", "builtins.bytearray"),
    "zeros of NumPy's": (
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
        b"X\x0b\0\0\0V2000000000K\0K\1\x87RX\1\0\0\0b\x86R.",
        "holds no state dict",  # nothing was made of it
    ),
    "a long key of many values": (
        b"}"
        + TEXT
        + b"}("
        + b"".join(b"J%sK\1" % i.to_bytes(4, "little") for i in range(200))
        + b"us.",
        "characters of their keys",
    ),
    "copies of a list": (
        b"ccollections\nOrderedDict\nq\0]("
        + b"K\1K\2\x86" * 999
        + b"eq\1"
        + b"h\0h\1\x85R" * 999
        + b".",
        "hands more to calls",
    ),
    "copies of a text": (
        b"c_codecs\nencode\nq\0" + TEXT + b"q\1U\6latin1q\2" + b"h\0h\1h\2\x86R" * 999 + b".",
        "hands more to calls",
    ),
    "copies of a state": (
        b"ccollections\nOrderedDict\nq\0}("
        + b"".join(b"M%sK\1" % i.to_bytes(2, "little") for i in range(999))
        + b"uq\1"
        + b"h\0)Rh\1b" * 999
        + b".",
        "hands more to calls",
    ),
    "copies in a call of a call": (
        b"ctorch._tensor\n_rebuild_from_type_v2\nq\0ctorch\nSize\nq\1("
        + b"K\1" * 999
        + b"tq\2\x85q\3}q\4"
        + b"h\0(h\1h\1h\3h\4tR" * 999
        + b".",
        "hands more to calls",
    ),
    "a name without end": (b"c" + b"x" * 1_000_000 + b"\ny\n.", "a name in its pickle has 1000002"),
    "tensors without end": (
        b"ctorch\nSize\nq\0" + b"h\0)R" * 100_001 + b".",
        "100001 calls are in its pickle",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("little_memory")
def test_hostile_pickles_are_refused_in_little_memory(tmp_path, name):
    body, wanted = HOSTILE[name]
    path = tmp_path / "file.pth"
    write_zip(path, b"\x80\x02" + body)
    assert wanted in refusal(path)


OVERRUN = b"\x80\x02}()" + b"\x85" * 1_500_000 + b"K\x01u."  # the stack of who hashes it


@pytest.mark.parametrize("name", ["a/DATA.PKL", "a/Data.pkl", "a/b/data.pkl", "data.pkl"])
def test_the_pickle_is_checked_whatever_its_case_and_place(tmp_path, name):
    path = tmp_path / "file.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, OVERRUN)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3\n")
    assert "1500000 tuples are in its pickle" in refusal(path)


def test_two_records_of_one_name_are_refused(tmp_path):
    path = tmp_path / "file.pth"
    write_zip(path, pickle.dumps({}, 2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/Data.pkl", OVERRUN)
    assert "two of its records have one name" in refusal(path)


def test_a_zip_of_two_directories_is_refused(tmp_path):
    """Its end leads to the first one, as torch reads it; Python takes the one right before it."""
    path = tmp_path / "file.pth"
    write_zip(path, pickle.dumps({}, 2))
    harmless = path.read_bytes()
    write_zip(path, OVERRUN)
    hostile, end = path.read_bytes(), -22
    begin = int.from_bytes(harmless[-6:-2], "little")
    path.write_bytes(hostile[:end] + harmless[begin:end] + hostile[end:])
    assert "its end does not say where its list of records is" in refusal(path)


@pytest.mark.parametrize("big", [False, True])
def test_ends_of_large_and_of_small_files_are_understood(tmp_path, big, monkeypatch):
    path = tmp_path / "file.pth"
    torch.save({f"{n}": torch.ones(1) for n in range(70_000 if big else 2)}, path)
    with zipfile.ZipFile(path) as archive:
        assert _directory_start(path) == archive.start_dir


def test_containers_that_hold_themselves_are_told_once(tmp_path):
    path = tmp_path / "file.pth"
    own = {"a": torch.ones(1)}
    own["own"] = own["again"] = own
    torch.save(own, path)
    assert read_tensors(path).tensors.keys() == {"a"}


def test_tensors_without_plain_data_are_left_out(tmp_path):
    path = tmp_path / "file.pth"
    strange = {"sparse": torch.eye(2).to_sparse(), "complex": torch.zeros(1, dtype=torch.complex64)}
    torch.save(STATE | strange, path)
    found = read_tensors(path)
    assert found.tensors.keys() == STATE.keys()
    assert found.others == ["sparse", "complex"]
