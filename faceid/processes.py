"""Which process this is among all of a cluster, and whether one that left its name behind still runs here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceid.errors import ConfigError


def this_process() -> dict[str, str | int]:
    """What tells this process from any other: machine since boot, process namespace, number and start."""
    machine, pid = _read("/proc/sys/kernel/random/boot_id"), os.getpid()
    return {"machine": machine, "space": _space(), "pid": pid, "start": _start(pid)}


def is_running_here(said: Any) -> bool | None:
    """Whether the process that `this_process` described runs; None when it is not of this machine and namespace."""
    try:
        mine = this_process()
        if (said["machine"], said["space"]) != (mine["machine"], mine["space"]) or not mine["machine"]:
            return None
        return _start(int(said["pid"])) == said["start"]
    except (ValueError, KeyError, TypeError):
        return None


def number_in(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A launcher's number, 0 or more. default: where it is not set, or empty. Raises: ConfigError."""
    value = environment.get(name, "").strip()
    if not value and default is not None:
        return default
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(
            f"{name}={value!r}: launchers set a whole number there; unset it, or start by accelerate launch or srun"
        )
    return int(value)


def _start(pid: int) -> str:
    """When a process began, in ticks since boot; empty when there is none."""
    stat = _read(f"/proc/{pid}/stat")
    # The name in parentheses may hold spaces; the state follows it. A zombie is gone.
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
