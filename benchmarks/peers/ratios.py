"""A ratio to a peer: what both took and who wins; a process for each measurement; outputs compared before any of it.

Every measurement is made in a fork of a process that has its imports done and nothing else: its CPU seconds begin at 0,
its memory is what it takes beyond the imports, and nothing that one way leaves behind is there for the next.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Closer than this is equal: what two runs of one program differ by on this machine.
EQUAL_WITHIN = 0.03
_POLL_S = 0.004


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


@dataclass(frozen=True)
class Cost:
    """Of one process, beyond its imports. anonymous: what cannot be given back to the file it came from."""

    cpu_s: float
    wall_s: float
    peak_anonymous_mib: float
    peak_mib: float


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


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What `function` returns, computed in a process of its own. Raises: what it raised."""
    return _forked(function, is_wanted=True)[0]


def cost_of(way: Callable[[], Any]) -> Cost:
    """Of going one way in a process of its own; what it returns is alive until the end."""
    return _forked(way, is_wanted=False)[1]


def costs_by_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Cost]]:
    """Forwards and backwards in each round (A B B A), a process each."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for name in [*ways, *reversed([*ways])] * rounds:
        costs[name].append(cost_of(ways[name]))
    return costs


def least_and_median(values: list[float]) -> tuple[float, float]:
    """The two figures that are reported, in four digits."""
    return round(min(values), 4), round(statistics.median(values), 4)


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


def _forked(function: Callable[[], Any], is_wanted: bool) -> tuple[Any, Cost]:
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(function, is_wanted, its))
    # What this process has freed and kept would be used again by its fork, and count as nothing.
    ctypes.CDLL(None).malloc_trim(0)
    process.start()
    its.close()
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    # Linux keeps no high-water mark of anonymous memory alone.
    while not mine.poll(_POLL_S):
        with suppress(OSError, KeyError):
            peak = max(peak, _memory_kib(status)["RssAnon"])
    try:
        result, error, cpu_s, wall_s, peak_mib, before, after = mine.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a measurement ended without a word: exit code {process.exitcode}") from None
    process.join()
    if error is not None:
        raise error
    return result, Cost(cpu_s, wall_s, (max(peak, after) - before) / 1024, peak_mib)


def _work(function: Callable[[], Any], is_wanted: bool, pipe: Any) -> None:
    status = Path("/proc/self/status")
    # VmHWM begins anew, see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    # Here, not in the process that watches: it may look first when the work is done.
    before = _memory_kib(status)
    result, error = None, None
    began = time.perf_counter()
    used = _cpu_s()
    try:
        result = function()
    except Exception as found:  # noqa: BLE001 - raised again where the fork was asked for
        error = found
    cpu_s, wall_s, memory = _cpu_s() - used, time.perf_counter() - began, _memory_kib(status)
    peak_mib = (memory["VmHWM"] - before["VmRSS"]) / 1024
    result = result if is_wanted else None
    pipe.send((result, error, cpu_s, wall_s, peak_mib, before["RssAnon"], memory["RssAnon"]))


def _memory_kib(status: Path) -> dict[str, int]:
    lines = status.read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
