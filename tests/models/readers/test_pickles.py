import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from foreign import byol_pickle, haiku_trees, numpy_file

from cp2.errors import WrongFile
from cp2.models.readers.pickles import read_numpy_pickle, read_pickle

NOT_LISTED = [
    "builtins.eval",
    "builtins.getattr",
    "numpy.load",
    "byol.a.b",
    "byol.utils",
    "haiku.transform",
    "jax.jit",
    "jax.ScaleByLarsState",
]
CONTENT = {
    "params": {"a/~/b": {"w": np.arange(6, dtype="f4").reshape(2, 3)}},
    "state": OrderedDict(x=[np.array(1.5), np.float32(2)]),
    "columns": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
    "step": 7,
    "name": "byol",
    "raw": b"\xff\x00",
}
FLAT = {
    "params/a/~/b/w": CONTENT["params"]["a/~/b"]["w"],
    "state/x/0": CONTENT["state"]["x"][0],
    "columns": CONTENT["columns"],
}
OTHERS = ["name", "raw", "state/x/1", "step"]


class Trap:
    """Unpickled carelessly, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Foreign:
    """A class of a package that no published file needs."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.pkl"


def same(found):
    arrays, others = found
    assert sorted(others) == OTHERS
    assert arrays.keys() == FLAT.keys()
    for name, array in FLAT.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_by_path(path, protocol):
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    same(read_pickle(path))


def test_numpy_files_come_back_by_path(path):
    path.write_bytes(numpy_file(CONTENT))
    same(read_numpy_pickle(path))


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_both_names_of_numpys_core_are_known(path, module):
    text = pickle.dumps(CONTENT, protocol=2)
    text = text.replace(b"numpy._core", module.encode())
    path.write_bytes(text)
    same(read_pickle(path))


@pytest.mark.parametrize("write", [pickle.dumps, numpy_file])
def test_code_is_refused_by_name_and_never_executed(tmp_path, path, write):
    read = read_pickle if write is pickle.dumps else read_numpy_pickle
    trap = tmp_path / "trap"
    path.write_bytes(write({"params": CONTENT["params"], "args": Trap(trap)}))
    with pytest.raises(WrongFile) as error:
        read(path)
    for text in (str(path), "refused, never executed", "posix.mkdir", "arrays alone"):
        assert text in str(error.value)
    assert not trap.exists()
    if write is pickle.dumps:
        pickle.loads(path.read_bytes())
        assert trap.exists()  # the trap does work


def test_foreign_classes_are_refused_by_name(path):
    path.write_bytes(pickle.dumps({"a": np.zeros(1), "b": Foreign()}))
    with pytest.raises(WrongFile, match=r"test_pickles\.Foreign"):
        read_pickle(path)


@pytest.mark.parametrize("name", NOT_LISTED)
def test_only_listed_globals_are_admitted(path, name):
    """Protocol 4 can ask for attributes of attributes."""
    module, _, attribute = name.partition(".")
    call = pickle.PROTO + b"\x04"
    for word in (module, attribute):
        call += pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode()
    path.write_bytes(call + pickle.STACK_GLOBAL + pickle.STOP)
    with pytest.raises(WrongFile, match=rf"refused.*{name}"):
        read_pickle(path)


@pytest.mark.parametrize("write", [pickle.dumps, numpy_file])
@pytest.mark.parametrize("kind", [list, dict])
def test_a_container_that_holds_itself_is_refused(path, write, kind):
    own = kind()
    own.append(own) if kind is list else own.update(x=own)
    path.write_bytes(write({"a": np.zeros(1), "own": own}))
    with pytest.raises(WrongFile, match="holds itself"):
        (read_pickle if write is pickle.dumps else read_numpy_pickle)(path)


def test_every_truncation_is_refused(path):
    whole = pickle.dumps({"a": np.arange(3, dtype="f4")}, protocol=2)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WrongFile, match=r"a whole pickle|holds no arrays"):
            read_pickle(path)


def test_what_is_no_such_file(path):
    with pytest.raises(WrongFile, match="not there"):
        read_pickle(path)
    path.write_bytes(b"<!-- no pickle -->")
    with pytest.raises(WrongFile, match="not a whole pickle"):
        read_pickle(path)
    with pytest.raises(WrongFile, match=r"not a whole file of numpy\.save"):
        read_numpy_pickle(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(WrongFile, match=r"one object is expected, found float64 \(3,\)"):
        read_numpy_pickle(path.with_suffix(".npy"))
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WrongFile, match="holds no arrays"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_named_tuples_and_immutable_dictionaries_are_read_without_their_classes(path, protocol):
    params, state = haiku_trees()
    path.write_bytes(byol_pickle(params, state, protocol))
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(path.read_bytes())
    arrays, others = read_pickle(path)
    name = "experiment_state/online_params/res_net50/~/initial_conv/w"
    np.testing.assert_array_equal(arrays[name], params["res_net50/~/initial_conv"]["w"])
    assert arrays["rng"].tolist() == [0, 1]
    assert "step" in others
    assert "experiment_state/opt_state/1/res_net50/~/initial_conv/w" in arrays


# --- hostile pickles: what Python's and NumPy's own unpickling would take ---

HEAD = b"\x80\x02"
DTYPE = b"cnumpy\ndtype\n(X\x02\0\0\0f4K\0K\1tR(K\3X\x01\0\0\0<NNNI-1\nI-1\nK\0tb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tX\x01\0\0\0btR"


def array(shape, raw, dtype=DTYPE):
    return ARRAY + b"(K\1" + shape + dtype + b"I00\n" + raw + b"tb"


def laughs(levels):
    """Lists that hold the one before ten times: two bytes a level become ten times as many."""
    body = b"]q\0"
    for level in range(1, levels):
        body += b"]q" + bytes([level]) + b"(" + b"h" + bytes([level - 1]) + b"e"
        body = body[:-1] + (b"h" + bytes([level - 1])) * 9 + b"e"
    return body


HOSTILE = {
    "bytes of a length that is not there": (b"\x8e" + b"\xff" * 7 + b"\x7f", "EOFError|whole"),
    "a bytearray of a million million bytes": (b"\x96" + (1 << 40).to_bytes(8, "little"), "Error"),
    "a memo of two thousand million places": (b"K\1r\xff\xff\xff\x7f", "holds no arrays"),
    "a shape larger than its bytes": (array(b"(J\0\0\0\x7ft", b"C\4abcd"), "has 4 bytes"),
    "a negative shape": (array(b"(J\xff\xff\xff\xfft", b"C\4abcd"), "in another form"),
    "a type with fields": (array(b"(K\1t", b"C\4abcd", DTYPE.replace(b"f4", b"O8")), "type 'O8'"),
    "a key nested too deep": (b"}()" + b"\x85" * 2000 + b"K\1u", "neither text nor a number"),
    "a set": (b"\x8f(K\1\x90", "whole pickle"),
    "long keys of many values": (
        b"}X" + (3000).to_bytes(4, "little") + b"k" * 3000 + b"](" + b"K\1" * 9000 + b"es",
        "characters of their keys",
    ),
    "copies of a list": (
        b"ccollections\nOrderedDict\nq\0](K\1K\2\x86eq\1" + b"h\0h\1\x85R" * 9,
        "whole pickle",
    ),
    "a tuple handed to calls again and again": (
        b"cnumpy.core.multiarray\n_reconstruct\nq\0("
        + b"K\1" * 20_000
        + b"tq\1("
        + b"h\0h\1R" * 20_000
        + b"l",
        "it hands more to calls",
    ),
    "a tuple handed to classes again and again": (
        b"cbyol\n_ByolExperimentState\nq\0("
        + b"K\1" * 20_000
        + b"tq\1("
        + b"h\0h\1\x81" * 20_000
        + b"l",
        "it hands more to calls",
    ),
    "lists of lists": (laughs(30), "so many times"),
    "a list nested too deep": (b"]" + b"]q\1a" * 200, "nested without end|holds no"),
    "an array that is its own state": (ARRAY + b"q\1(h\1h\1h\1h\1h\1tb", "form|end|type"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("little_memory")
def test_hostile_pickles_are_refused_in_little_memory(path, name):
    body, wanted = HOSTILE[name]
    path.write_bytes(HEAD + body + b".")
    with pytest.raises(WrongFile, match=wanted):
        read_pickle(path)


def test_arrays_that_share_their_bytes_are_bounded(path):
    shared = np.zeros(1000, "f4")
    path.write_bytes(pickle.dumps({str(i): shared for i in range(5)}))
    assert len(read_pickle(path)[0]) == 5
    path.write_bytes(pickle.dumps({str(i): shared for i in range(500)}))
    with pytest.raises(WrongFile, match="over 10 times the file's size"):
        read_pickle(path)
