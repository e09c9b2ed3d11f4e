"""Read a pickle that holds numpy arrays in plain containers, and nothing else.

No code in it can run. AIST++ publishes its keypoints as pickles. Unpickling calls whatever the file names. Here a file
may name only numpy's constructors of arrays. Anything else is refused before it is called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from faceid.errors import DataError
from faceid.files.documents import DocumentError, read_bytes, values_within

# AIST++'s largest file, 9 cameras of 48 s, is 12 MB.
LARGEST_BYTES = 1 << 28


def read_array_pickle(path: Path) -> Any:
    """The content: arrays, numbers, strings, and lists, tuples and dicts of them.

    Raises: DataError when the file cannot be read, is larger than 256 MiB, or names anything but numpy's arrays.
    """
    try:
        data = read_bytes(path, LARGEST_BYTES)
        _refuse_counting(data)
        content = _ArraysOnly(io.BytesIO(data)).load()
    except (_Refused, DocumentError) as error:
        raise DataError(f"{path}: {error}") from error
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        ImportError,
        MemoryError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise DataError(f"{path}: not a pickle of arrays ({type(error).__name__}: {error}); copy it again") from error
    if _holds_objects(content):
        raise DataError(f"{path}: holds arrays of Python objects; keypoints are arrays of numbers")
    return content


class _Refused(Exception):
    """A request of the pickle that is refused."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"names {module}.{name}; only numpy arrays are read, nothing in a pickle is run")
        return _MAKERS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("refers to objects outside the file; only numpy arrays are read")


def _refuse_counting(data: bytes) -> None:
    """Refuse too high counts. pickle allocates as many values, and texts as long, as a file claims to have."""
    for opcode, argument, _ in pickletools.genops(data):
        if isinstance(argument, int) and "PUT" in opcode.name and argument > len(data):
            raise ValueError(f"counts to value {argument} in {len(data)} bytes")


# Each constructor does what numpy's own files need and no more. numpy's own ones would make an array of any size.
def _latin1(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes this way in the old protocols.
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


def _empty_array(kind: object, shape: tuple[int, ...], typecode: bytes) -> np.ndarray:
    # The pickle gives the array its shape and its numbers afterwards, and numpy compares the two.
    if kind is not _ARRAY or shape != (0,):
        raise ValueError(f"an array of {shape} without its numbers")
    return np.ndarray((0,), "b")


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject or len(data) != dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for a number of {dtype}")
    return np.frombuffer(data, dtype)[0]


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _dtype(name: str, *flags: Any) -> np.dtype:
    if not _PLAIN_DTYPE.fullmatch(name):
        raise ValueError(f"numbers of type {name!r}")
    return np.dtype(name)


# Stands for the class of arrays. A pickle names it, and cannot call it.
_ARRAY = object()
# Numbers, truth values and texts of bounded length. O (Python objects) is refused later, with its own error.
_PLAIN_DTYPE = re.compile(r"[<>=|]?(?:b1|[iufcSUV]\d{1,4}|O8?|b|B)")
_OF_NUMPY = {
    ("multiarray", "_reconstruct"): _empty_array,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _array,
}
# numpy 1 wrote `numpy.core`, numpy 2 writes `numpy._core`.
_MAKERS: dict[tuple[str, str], Any] = {
    (f"numpy.{core}.{module}", name): make for core in ("core", "_core") for (module, name), make in _OF_NUMPY.items()
}
_MAKERS |= {("numpy", "ndarray"): _ARRAY, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _latin1}
_ALLOWED = set(_MAKERS)


def _holds_objects(content: Any) -> bool:
    return any(isinstance(value, np.ndarray) and value.dtype.hasobject for value in values_within(content))
