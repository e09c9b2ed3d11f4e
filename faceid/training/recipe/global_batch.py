"""Compute the samples that an optimizer step takes over all processes.

It is the given number, or one a process if that is more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceid.errors import ConfigError


def global_batch(asked: int, micro_batch_size: int, processes: int, saved: Mapping[str, Any] | None) -> int:
    """Samples of a step. asked: --batch_size; 0 when it was not given, which means one micro-batch a process.

    A command that asks for fewer samples than there are processes means one sample a process. Scripts that count by
    process say it so. saved: state of the checkpoint that is resumed. The same command then gives the batch with which
    the run began, even if the number of processes has changed.
    Raises: ConfigError when the processes cannot share the batch evenly.
    """
    if saved is not None:
        before = saved["origin"]["recipe"]["batch_size"]
        if asked in (0, before, saved["origin"]["asked_batch_size"]):
            _check_batch_of_run(before, micro_batch_size, processes)
            return before
    if 0 < asked < processes and micro_batch_size == 1:
        return processes
    batch_size = asked or processes * micro_batch_size
    check_batch(batch_size, micro_batch_size, processes)
    return batch_size


def said_of_batch(asked: int, batch_size: int, processes: int, is_resumed: bool) -> str | None:
    """A sentence for a global batch that differs from the given one; None where it does not."""
    if asked in (0, batch_size):
        return None
    why = "as the run began" if is_resumed else f"one sample for each of {processes} processes"
    return f"batch_size={asked}: the global batch is {batch_size}, {why}"


def check_batch(batch_size: int, micro_batch_size: int, processes: int) -> None:
    """Raises: ConfigError listing legal values unless the global batch divides evenly."""
    unit = processes * micro_batch_size
    if batch_size < 1 or batch_size % unit:
        below = batch_size // unit * unit
        legal = f"{below} or {below + unit}" if below else str(unit)
        per = f" x micro_batch_size {micro_batch_size}" if micro_batch_size > 1 else ""
        raise ConfigError(f"batch_size={batch_size}: not divisible by {processes} processes{per}; use {legal}")


def _check_batch_of_run(batch_size: int, micro_batch_size: int, processes: int) -> None:
    if batch_size % (processes * micro_batch_size):
        legal = [number for number in range(1, batch_size + 1) if batch_size % number == 0]
        raise ConfigError(
            f"batch_size={batch_size}: the global batch this run began with cannot be shared by {processes} processes "
            f"x micro_batch_size {micro_batch_size}; let their product be one of {', '.join(map(str, legal))}, or "
            "choose another output_dir"
        )
