"""Pickles of arrays are read, in every protocol; nothing else in one is run, not even once."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest

from faceid.data.array_pickle import _ArraysOnly, _Refused, read_array_pickle
from faceid.errors import DataError


class Runs:
    """What an attacker would put into a file."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_whatever_the_protocol(tmp_path, protocol):
    content = {
        "keypoints2d": np.arange(24, dtype=np.float64).reshape(2, 3, 4),
        "det_scores": np.float32(0.5),
        "more": [np.ones(3, np.float32)[::2], (1, "a", None, True)],
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    read = read_array_pickle(path)
    np.testing.assert_array_equal(read["keypoints2d"], content["keypoints2d"])
    np.testing.assert_array_equal(read["more"][0], [1, 1])
    assert read["det_scores"] == 0.5 and read["more"][1] == (1, "a", None, True)


def test_the_names_numpy_1_wrote_are_known_too(tmp_path):
    data = pickle.dumps(np.arange(3), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "x.pkl").write_bytes(data)
    assert read_array_pickle(tmp_path / "x.pkl").tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("number", range(6))
def test_nothing_in_a_pickle_is_run(tmp_path, protocol, number):
    mark = tmp_path / "ran"
    wicked = [
        Runs(os.system, f"touch {mark}"),
        Runs(eval, f"open({str(mark)!r}, 'w')"),
        Runs(np.save, str(mark), np.ones(1)),
        Runs(np.load, str(mark)),
        Runs(getattr, np.ndarray, "tofile"),
        Runs(open, str(mark), "w"),
    ][number]
    for content in (wicked, {"keypoints2d": wicked}, [np.ones(2), wicked], np.array([wicked], dtype=object)):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(DataError, match="only numpy arrays are read") as error:
            read_array_pickle(tmp_path / "x.pkl")
        assert str(error.value).startswith(str(tmp_path / "x.pkl"))
    assert not mark.exists() and not mark.with_suffix(".npy").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a pickle of arrays"),
        (b"\x80\x04hello", "not a pickle of arrays"),
        (pickle.dumps(np.ones(100))[:200], "not a pickle of arrays"),
        (pickle.dumps(np.array([None, "a"], dtype=object)), "arrays of Python objects"),
        (b"Pname\n.", "outside the file"),
    ],
)
def test_what_is_no_pickle_of_arrays_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_array_pickle(tmp_path / "x.pkl")


def test_a_list_that_holds_itself_is_read(tmp_path):
    knot: list = [np.ones(1)]
    knot.append(knot)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(knot))
    assert read_array_pickle(tmp_path / "x.pkl")[0].tolist() == [1]


# Where a call of any use to an attacker is; each with its modules within.
KNOWN = {
    "builtins",
    "os",
    "posix",
    "sys",
    "subprocess",
    "shutil",
    "io",
    "codecs",
    "_codecs",
    "numpy",
    "pickle",
    "copyreg",
}
KNOWN |= {"operator", "_operator", "functools", "importlib", "types", "pathlib", "socket", "ctypes", "runpy"}
KNOWN |= {"faceid"}
ALLOWED = {
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar")
    ),
    *("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
}


@pytest.mark.fault("8")
def test_no_other_name_of_any_module_that_is_loaded_can_be_asked_for(tmp_path):
    """All names that a pickle could name here and now: one more that is let through is one too many."""
    found = set()
    for module in [name for name in list(sys.modules) if name.partition(".")[0] in KNOWN]:
        for name in [*vars(sys.modules[module]), "ndarray.tofile", "memmap", "__import__", "dtype.__init__"]:
            with contextlib.suppress(_Refused):
                _ArraysOnly(io.BytesIO(b"")).find_class(module, name)
                found.add(f"{module}.{name}")
    # numpy.core is there by name alone, as numpy 1 wrote it.
    assert found | {name for name in ALLOWED if name.startswith("numpy.core.")} == ALLOWED


@pytest.mark.fault("W5")
@pytest.mark.parametrize(
    "data",
    [
        # An array of 10 GB without its numbers, by each maker.
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x05\x00\xe4\x0bT\x02\x85U\x01b\x87R.",
        b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\xe4\x0bT\x02\x85\x85R.",
        b"\x80\x02cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x0b\x00\x00\x00V2000000000\x85R\x85R.",
        b"\x80\x02cnumpy\ndtype\nX\x0b\x00\x00\x00V2000000000\x85R.",
        # Room for two billion values, and a text of a terabyte.
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x04\x8d\x00\x00\x00\x00\x00\x01\x00\x00a.",
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00a.",
    ],
)
def test_a_pickle_gets_no_more_memory_than_it_has_bytes(tmp_path, data):
    (tmp_path / "x.pkl").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not a pickle of arrays"):
            read_array_pickle(tmp_path / "x.pkl")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
