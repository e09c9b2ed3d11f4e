"""What a way to do something costs: its CPU seconds, by turns with other ways."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def cpu_s() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cpu_s_by_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way: forwards and backwards in each round (A B B A), so two measurements a round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for name in [*ways, *reversed([*ways])] * rounds:
        before = cpu_s()
        ways[name]()
        found[name].append(cpu_s() - before)
    return found


def least_and_median(values: Sequence[float]) -> tuple[float, float]:
    """The two figures that are reported, in four digits. The least: other work on the machine only adds."""
    return round(min(values), 4), round(statistics.median(values), 4)
