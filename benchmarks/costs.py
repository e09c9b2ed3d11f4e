"""What a way to do something costs: CPU seconds by turns with other ways, and memory in a process of its own.

Such a process is a fork of one that has its imports done and nothing else: its CPU seconds begin at 0, its memory is
what it takes beyond the imports, and nothing that one way leaves behind is there for the next.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from measured_memory import begin_peak_anew

_POLL_S = 0.004

Way = Callable[[], Any]
Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Cost:
    """Of one process, beyond its imports. anonymous: what cannot be given back to the file it came from."""

    cpu_s: float
    wall_s: float
    peak_anonymous_mib: float
    peak_mib: float


def cpu_s() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cpu_s_of(way: Way) -> float:
    """CPU seconds of going one way here."""
    before = cpu_s()
    way()
    return cpu_s() - before


def by_turns(ways: Mapping[str, Way], rounds: int, measure: Callable[[Way], Measured]) -> dict[str, list[Measured]]:
    """Forwards and backwards in each round (A B B A), so that each way is measured twice a round."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for name in [*ways, *reversed([*ways])] * rounds:
        found[name].append(measure(ways[name]))
    return found


def least_and_median(values: Sequence[float]) -> tuple[float, float]:
    """The two figures that are reported, in four digits. The least: other work on the machine only adds."""
    return round(min(values), 4), round(statistics.median(values), 4)


def memory_kib(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """What proc(5) says of a process's memory: VmRSS, VmHWM, RssAnon and others."""
    lines = status.read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}


def in_a_fork(function: Way) -> Any:
    """What `function` returns, computed in a process of its own. Raises: what it raised."""
    return _forked(function, is_wanted=True)[0]


def cost_of(way: Way) -> Cost:
    """Of going one way in a process of its own; what it returns is alive until the end."""
    return _forked(way, is_wanted=False)[1]


def _forked(function: Way, is_wanted: bool) -> tuple[Any, Cost]:
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(function, is_wanted, its))
    # What this process has freed and kept would be used again by its fork, and count as nothing.
    ctypes.CDLL(None).malloc_trim(0)
    process.start()
    its.close()
    peak = 0
    # Linux keeps no high-water mark of anonymous memory alone.
    while not mine.poll(_POLL_S):
        with suppress(OSError, KeyError):
            peak = max(peak, memory_kib(Path(f"/proc/{process.pid}/status"))["RssAnon"])
    try:
        result, error, used, wall_s, peak_mib, before, after = mine.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a measurement ended without a word: exit code {process.exitcode}") from None
    process.join()
    if error is not None:
        raise error
    return result, Cost(used, wall_s, (max(peak, after) - before) / 1024, peak_mib)


def _work(function: Way, is_wanted: bool, pipe: Any) -> None:
    begin_peak_anew()
    # Here, not in the process that watches: it may look first when the work is done.
    before = memory_kib()
    result, error = None, None
    began, used = time.perf_counter(), time.process_time()
    try:
        result = function()
    except Exception as found:  # noqa: BLE001 - raised again where the fork was asked for
        error = found
    used, wall_s, memory = time.process_time() - used, time.perf_counter() - began, memory_kib()
    peak_mib = (memory["VmHWM"] - before["VmRSS"]) / 1024
    pipe.send((result if is_wanted else None, error, used, wall_s, peak_mib, before["RssAnon"], memory["RssAnon"]))
