"""Who started this process, and as which of how many: `accelerate launch`, Slurm's `srun`, or a hand.

Under `srun python train.py` nobody stands between Slurm and us, so signals arrive (design.md 3); then the rank comes
from SLURM_*, the world from an accelerate YAML that is read here, and the address to meet at through the run folder.
Both end in the environment variables that a launcher would have set, so all that follows is the same.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from faceid.errors import ConfigError
from faceid.provenance import write_json

log = logging.getLogger(__name__)

RENDEZVOUS_TIMEOUT_S = 600.0
# What is read of an accelerate YAML. All else in it speaks to the launcher, which is not there.
_DISTRIBUTED = ("DEEPSPEED", "MULTI_GPU", "MULTI_CPU", "NO")
_DEEPSPEED_KEYS = {
    "zero_stage": "ACCELERATE_DEEPSPEED_ZERO_STAGE",
    "offload_optimizer_device": "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "offload_param_device": "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
    "zero3_init_flag": "ACCELERATE_DEEPSPEED_ZERO3_INIT",
    "zero3_save_16bit_model": "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL",
    "deepspeed_config_file": "ACCELERATE_DEEPSPEED_CONFIG_FILE",
}


@dataclass(frozen=True)
class Launch:
    """This process's place. meeting: the file that says where rank 0 is to be met; None where that is known."""

    rank: int
    processes: int
    meeting: Path | None = None


def read_launch(
    accelerate_config: str | None, folder: Path, environment: MutableMapping[str, str] = os.environ
) -> Launch:
    """Find out, and set what a launcher would have set. folder: of the run, seen by all its processes.

    Raises: ConfigError for a YAML that cannot be used.
    """
    if "RANK" in environment:
        if accelerate_config is not None:
            log.warning("accelerate_config: has no effect under accelerate launch, which has read its own")
        return Launch(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    if accelerate_config is not None:
        environment.update(read_accelerate_config(Path(accelerate_config)))
    processes = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) if "SLURM_STEP_ID" in environment else 1
    if processes > 1:
        return _read_slurm(processes, folder, environment)
    if environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        # DeepSpeed wants a process group, be it of one.
        _set_place(environment, rank=0, processes=1, local_rank=0)
        _set_address(environment, "127.0.0.1", _free_port())
    return Launch(0, 1)


def meet(launch: Launch, environment: MutableMapping[str, str] = os.environ) -> None:
    """Say or learn where rank 0 is. Raises: ConfigError when it does not appear within RENDEZVOUS_TIMEOUT_S."""
    if launch.meeting is None:
        return
    if launch.rank == 0:
        # Bound and let go: another program may take it before torch does, which then fails at once.
        host, port = socket.gethostname(), _free_port()
        write_json(launch.meeting, {"host": host, "port": port})
    else:
        address = _wait_for_address(launch.meeting)
        host, port = address["host"], address["port"]
    _set_address(environment, host, port)


def leave_meeting(launch: Launch) -> None:
    """Remove the file, once everyone has come."""
    if launch.meeting is not None and launch.rank == 0:
        launch.meeting.unlink(missing_ok=True)


def read_accelerate_config(path: Path) -> dict[str, str]:
    """The environment variables `accelerate launch` would set for its YAML. Raises: ConfigError."""
    key = f"accelerate_config={path}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{key}: cannot be read ({error}); give a file such as those in launch/accelerate/"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{key}: expected `key: value` lines, as in launch/accelerate/")
    kind = content.get("distributed_type", "NO")
    if kind not in _DISTRIBUTED:
        raise ConfigError(f"{key}: distributed_type {kind} is not supported; use {', '.join(_DISTRIBUTED)}")
    values = {"ACCELERATE_MIXED_PRECISION": _word(content.get("mixed_precision", "no"))}
    if kind == "DEEPSPEED":
        values["ACCELERATE_USE_DEEPSPEED"] = "true"
        options = content.get("deepspeed_config") or {}
        values["ACCELERATE_CONFIG_DS_FIELDS"] = ",".join([*options, "mixed_precision"])
        unknown = sorted(set(options) - _DEEPSPEED_KEYS.keys())
        if unknown:
            known = ", ".join(_DEEPSPEED_KEYS)
            raise ConfigError(f"{key}: deepspeed_config.{unknown[0]} is not read without its launcher; known: {known}")
        values |= {_DEEPSPEED_KEYS[name]: _word(value) for name, value in options.items()}
    return values


def _read_slurm(processes: int, folder: Path, environment: MutableMapping[str, str]) -> Launch:
    rank = int(environment["SLURM_PROCID"])
    # Slurm may show each task one GPU of its own, which then is number 0 there.
    local_rank = int(environment["SLURM_LOCALID"]) % max(torch.cuda.device_count(), 1)
    if not torch.cuda.is_available():
        local_rank = int(environment["SLURM_LOCALID"])
    _set_place(environment, rank, processes, local_rank)
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    step = "_".join(environment.get(name, "0") for name in names)
    return Launch(rank, processes, folder / f".meeting_{step}.json")


def _set_place(environment: MutableMapping[str, str], rank: int, processes: int, local_rank: int) -> None:
    environment.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(local_rank))


def _set_address(environment: MutableMapping[str, str], host: str, port: int) -> None:
    environment.update(MASTER_ADDR=host, MASTER_PORT=str(port))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _wait_for_address(meeting: Path) -> dict[str, Any]:
    until = time.monotonic() + RENDEZVOUS_TIMEOUT_S
    while time.monotonic() < until:
        # Listing the folder makes NFS look at it again; asking for the name alone may be answered from a cache.
        if meeting.parent.is_dir() and any(path.name == meeting.name for path in meeting.parent.iterdir()):
            return json.loads(meeting.read_text(encoding="utf-8"))
        time.sleep(0.2)
    raise ConfigError(
        f"{meeting}: rank 0 did not write it within {RENDEZVOUS_TIMEOUT_S:.0f} s; see its log, and that all nodes see "
        "output_dir at the same path"
    )


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
