"""Root obeys no permission bits; inside `obeyed_permissions` it does, as every user would."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# linux/capability.h: two words of each set; what lets root read and write past the bits.
_VERSION_3 = 0x20080522
_PAST_THE_BITS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def obeyed_permissions() -> Iterator[None]:
    """For this thread, and for threads and processes that it starts meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    _done(libc.capget(header, sets))
    before = sets[0]
    sets[0] = before & ~_PAST_THE_BITS
    _done(libc.capset(header, sets))
    try:
        yield
    finally:
        sets[0] = before
        _done(libc.capset(header, sets))


def _done(result: int) -> None:
    if result:
        pytest.skip(f"capabilities cannot be put down here ({os.strerror(ctypes.get_errno())})")
