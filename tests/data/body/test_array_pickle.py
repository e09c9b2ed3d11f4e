"""Pickles of arrays are read, in every protocol; nothing else in one is run, not even once."""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil

import numpy as np
import pytest

from faceid.data.body import array_pickle
from faceid.data.body.array_pickle import read_array_pickle
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


@pytest.mark.starts_process
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


# All that a pickle may name. One more of them may be all that an attacker needs, so that each is here for a reason:
# an array's maker, its two types, a number's, and what numpy writes for protocol 5.
MAY_BE_NAMED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
}
SEARCHED = (
    *(
        "builtins",
        "os",
        "posix",
        "sys",
        "io",
        "subprocess",
        "shutil",
        "socket",
        "pickle",
        "copyreg",
        "functools",
        "operator",
    ),
    *("importlib", "runpy", "types", "typing", "collections", "ctypes", "marshal", "codecs", "_codecs", "itertools"),
    *(
        "tempfile",
        "pathlib",
        "webbrowser",
        "timeit",
        "pdb",
        "code",
        "torch",
        "torch.hub",
        "torch.storage",
        "torch._utils",
    ),
)


@pytest.mark.fault("planted: one more global in the restricted unpickler")
def test_nothing_but_array_makers_may_be_named(tmp_path):
    """Every public and private name of numpy, of what attackers use, and of this package is asked for."""
    numpys = [module.name for module in pkgutil.iter_modules(np.__path__, "numpy.") if "test" not in module.name]
    inner = [
        module.name for module in pkgutil.iter_modules(np._core.__path__, "numpy._core.") if "test" not in module.name
    ]
    asked, given = set(), set()
    unpickler = array_pickle._ArraysOnly((tmp_path / "x").open("wb+"))
    for module in ("numpy", *SEARCHED, *numpys, *inner, "faceid", "faceid.data.body.array_pickle"):
        try:
            names = dir(importlib.import_module(module))
        except Exception:  # noqa: BLE001 (some of numpy's modules cannot be imported, and then not be named either)
            continue
        for alias in {module, module.replace("numpy._core", "numpy.core")}:
            for name in names:
                asked.add((alias, name))
                try:
                    unpickler.find_class(alias, name)
                except array_pickle._Refused:
                    continue
                given.add((alias, name))
    assert len(asked) > 5000
    assert given == MAY_BE_NAMED & asked and given >= {("numpy", "ndarray"), ("_codecs", "encode")}
    # And by dotted names, which protocol 4 takes apart.
    for module, name in (
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy._core.multiarray", "scalar.x"),
    ):
        with pytest.raises(array_pickle._Refused):
            unpickler.find_class(module, name)
    assert array_pickle._ALLOWED | {("_codecs", "encode")} == MAY_BE_NAMED


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
