"""Identify this process among all of a cluster.

Also tell whether a process that left its name still runs here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceid.errors import ConfigError


def this_process() -> dict[str, str | int]:
    """What tells this process from any other: the machine since boot, process namespace, number and start."""
    machine, pid = _read("/proc/sys/kernel/random/boot_id"), os.getpid()
    return {"machine": machine, "space": _space(), "pid": pid, "start": _start(pid)}


def is_running_here(said: Any) -> bool | None:
    """Whether the process that `this_process` described runs; None when it belongs to another machine or namespace."""
    try:
        mine = this_process()
        if (said["machine"], said["space"]) != (mine["machine"], mine["space"]) or not mine["machine"]:
            return None
        return _start(int(said["pid"])) == said["start"]
    except (ValueError, KeyError, TypeError):
        return None


def process_mark() -> str:
    """This process in a few characters for a file name: place, number, start."""
    mine = this_process()
    return f"{_place(mine)}-{mine['pid']}-{mine['start'] or 0}"


def is_mark_running(mark: str) -> bool | None:
    """Whether the process of a mark runs; None for another machine or namespace, or when the text is no mark."""
    match = re.fullmatch(r"([0-9a-f]{8})-(\d{1,9})-(\d{1,20})", mark)
    mine = this_process()
    if match is None or match.group(1) != _place(mine) or not mine["machine"]:
        return None
    return _start(int(match.group(2))) == match.group(3)


def _place(process: dict[str, str | int]) -> str:
    return hashlib.sha256(f"{process['machine']} {process['space']}".encode()).hexdigest()[:8]


def number_in(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A launcher's number, 0 or more. default: used where the variable is unset or empty. Raises: ConfigError."""
    value = environment.get(name, "").strip()
    if not value and default is not None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ConfigError(
            f"{name}={value!r}: launchers set a whole number there; unset it, or start by accelerate launch or srun"
        )
    return int(value)


def _start(pid: int) -> str:
    """When a process began, in ticks since boot; empty when there is none."""
    stat = _read(f"/proc/{pid}/stat")
    # The name in parentheses may hold spaces. The state follows it. A zombie counts as gone.
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
