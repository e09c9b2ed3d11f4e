"""Read a pickle that holds numpy arrays in plain containers, and nothing else: nothing in it can run.

AIST++ publishes its keypoints as pickles. Unpickling calls whatever the file names; here it may name numpy's array
makers alone, and anything else is refused before it is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from faceid.errors import DataError

# AIST++'s largest file, 9 cameras of 48 s, is 12 MB.
LARGEST_BYTES = 1 << 28

_NUMPY_NAMES = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}
# numpy 1 wrote `numpy.core`, numpy 2 writes `numpy._core`.
_ALLOWED = {(f"numpy.{core}.{module}", name) for core in ("core", "_core") for module, name in _NUMPY_NAMES}
_ALLOWED |= {("numpy", "ndarray"), ("numpy", "dtype")}


def read_array_pickle(path: Path) -> Any:
    """The content: arrays, numbers, strings, and lists, tuples and dicts of them.

    Raises: DataError when the file cannot be read, is larger than 256 MiB, or names anything but numpy's arrays.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise DataError(f"{path}: {size} bytes; a file of keypoints has at most {LARGEST_BYTES}")
        with path.open("rb") as file:
            content = _ArraysOnly(file).load()
    except _Refused as error:
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
    ) as error:
        raise DataError(f"{path}: not a pickle of arrays ({type(error).__name__}: {error}); copy it again") from error
    if _holds_objects(content):
        raise DataError(f"{path}: holds arrays of Python objects; keypoints are arrays of numbers")
    return content


class _Refused(Exception):
    """What the pickle asks for is not done."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            # How Python 3 writes bytes in the old protocols.
            return _latin1
        if (module, name) not in _ALLOWED:
            raise _Refused(f"names {module}.{name}; only numpy arrays are read, nothing in a pickle is run")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("refers to objects outside the file; only numpy arrays are read")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


def _holds_objects(content: Any) -> bool:
    # By hand, and each once: a pickle may hold a list that holds itself.
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return True
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return False
