"""Pickles of arrays are read, in every protocol; nothing else in one is run, not even once."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from faceid.data.array_pickle import read_array_pickle
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
