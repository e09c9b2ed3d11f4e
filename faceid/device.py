"""Which device to compute on, from the name a user gives."""

from __future__ import annotations

import os

import torch

from faceid.errors import ConfigError
from faceid.processes import number_in


def pick_device(name: str | None, key: str = "device") -> torch.device:
    """The device of a name: cpu, cuda or cuda:N. None and auto mean a GPU, or the CPU when there is none.

    With several GPUs, auto takes the one at this process's local rank, as launchers and Slurm count it. So processes
    that share their work do not all take the first GPU. key: the flag that carried the name.
    Raises: ConfigError when there is no such device on this machine.
    """
    if name is None or name == "auto":
        place = number_in(os.environ, "LOCAL_RANK", number_in(os.environ, "SLURM_LOCALID", 0))
        # Slurm may show each process only its own GPU.
        name = f"cuda:{place % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}={name!r}: not a device; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{key}={name!r}: not a device that is supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{key}={name!r}: this machine has {torch.cuda.device_count()} GPUs; use cpu")
    return device
