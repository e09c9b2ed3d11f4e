"""A pickle of arrays gets no more memory than it has bytes, whatever it says of itself."""

from __future__ import annotations

import tracemalloc

import pytest

from faceid.data.body.array_pickle import read_array_pickle
from faceid.errors import DataError


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
