"""How many samples an optimizer step takes over all processes: as asked for, or one a process where that is fewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceid.errors import ConfigError


def global_batch(asked: int, micro_batch_size: int, processes: int, saved: Mapping[str, Any] | None) -> int:
    """Samples of a step. asked: --batch_size; 0 when it was not given: one micro-batch a process.

    A command that asks for fewer than there are processes means one sample a process: it is what a script says that
    counts by process. saved: state of the checkpoint that a run goes on from; the same command then gives the batch
    that the run began with, whatever the number of processes is by now.
    Raises: ConfigError when the processes cannot share it evenly.
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
    """A sentence where the global batch is not what was asked for; None where it is."""
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
