"""A ratio to a peer: what both took and who wins; and what both give, compared before anything is measured."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Closer than this is equal: what two runs of one program differ by on this machine.
EQUAL_WITHIN = 0.03


class DifferentError(Exception):
    """Two ways do not give the same, so that there is nothing to compare the cost of."""


@dataclass(frozen=True)
class Ratio:
    """One comparison. ours, theirs: (min, median) of one unit; lower is better."""

    row: str
    what: str
    peer: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    unit: str
    outputs: str
    """How far apart what they give is, said in words."""

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times better ours is, by min and by median."""
        least, median = (theirs / max(ours, 1e-12) for ours, theirs in zip(self.ours, self.theirs, strict=True))
        return round(least, 3), round(median, 3)

    @property
    def verdict(self) -> str:
        """WIN or LOSS where both figures say so, else EQUAL."""
        if min(self.ratios) > 1 + EQUAL_WITHIN:
            return "WIN"
        return "LOSS" if max(self.ratios) < 1 / (1 + EQUAL_WITHIN) else "EQUAL"


def largest_error(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> float:
    """The largest difference of all tensors, each by the largest value in it.

    tolerance: 0 asks for the same bits, not for the same dtype. Raises: DifferentError naming the first that differs.
    """
    if ours.keys() != theirs.keys():
        raise DifferentError(f"one of them alone has {min(ours.keys() ^ theirs.keys())}")
    largest = 0.0
    for name, mine in ours.items():
        other = theirs[name]
        if mine.shape != other.shape:
            raise DifferentError(f"{name}: {list(mine.shape)} and {list(other.shape)}")
        if mine.dtype == other.dtype and torch.equal(mine, other):
            continue
        mine, other = mine.detach().double(), other.detach().double()
        error = float((mine - other).abs().max() / other.abs().max().clamp_min(1e-30)) if mine.numel() else 0.0
        # Not `>`: NaN is no agreement.
        if not error <= tolerance:
            raise DifferentError(f"{name}: {error:.1e} apart, more than {tolerance:.0e}")
        largest = max(largest, error)
    return largest


def give_freed_memory_back() -> None:
    """From now on, in this process: else a peak is as much the allocator's as the program's, by 50 % and more.

    glibc keeps what was freed and cuts it up; a mapping for each tensor costs time, so nothing is timed with it.
    """
    mmap_threshold = -3  # M_MMAP_THRESHOLD of mallopt(3), which stays fixed once it is set
    ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 16)


def touch(*modules: Any) -> None:
    """Read each page of all weights: what is mapped from a file is loaded no earlier."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.detach().flatten().view(torch.uint8)[::4096].sum()
