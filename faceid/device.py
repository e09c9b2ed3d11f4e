"""Which device to compute on, from the name a user gives."""

from __future__ import annotations

import torch

from faceid.errors import ConfigError


def pick_device(name: str | None, key: str = "device") -> torch.device:
    """The device of a name: cpu, cuda or cuda:N; for None and auto the first GPU, or the CPU when there is none.

    key: the flag that carried the name. Raises: ConfigError when there is no such device on this machine.
    """
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}={name!r}: not a device; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{key}={name!r}: not a device that is supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{key}={name!r}: this machine has {torch.cuda.device_count()} GPUs; use cpu")
    return device
