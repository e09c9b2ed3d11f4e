"""Find out who started this process, and its rank: `accelerate launch`, Slurm's `srun`, or a person.

Under `srun python train.py` nothing stands between Slurm and us, so signals arrive. The rank then comes from SLURM_*,
and the world from an accelerate YAML that is read here. The run folder gives the address to meet at. Both ways set the
environment variables that a launcher would have set. All later code is then the same, except for the store in which the
processes meet.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from faceid.errors import ConfigError
from faceid.files.documents import DocumentError, read_json, read_yaml
from faceid.files.writing import write_json
from faceid.processes import number_in
from faceid.training.world.address import LOOPBACK, own_address, tell_gloo
from faceid.training.world.attempts import Attempt, read_attempt

log = logging.getLogger(__name__)

RENDEZVOUS_TIMEOUT_S = 600.0
# The part of an accelerate YAML that is read. All else in it is for the launcher, which is not there.
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
    """This process's place. meeting: the file that says where to meet rank 0; None where that is known.

    nodes: number of nodes with processes, as far as this process was told.
    """

    rank: int
    processes: int
    meeting: Path | None = None
    attempt: Attempt = field(default_factory=Attempt)
    nodes: int = 1


def read_launch(
    accelerate_config: str | None, folder: Path, environment: MutableMapping[str, str] = os.environ
) -> Launch:
    """Find out, and set what a launcher would have set. folder: the run's, which all its processes see.

    Raises: ConfigError for a YAML that cannot be used, and for a launcher that left the other nodes out.
    """
    if "RANK" in environment:
        if accelerate_config is not None:
            log.warning("accelerate_config: has no effect under accelerate launch, which has read its own")
        rank, processes = _read_launcher(environment)
        _refuse_worlds_apart(processes, environment)
        return Launch(rank, processes, attempt=read_attempt(environment))
    if accelerate_config is not None:
        environment.update(read_accelerate_config(Path(accelerate_config)))
    processes = number_in(environment, "SLURM_STEP_NUM_TASKS", 1) if "SLURM_STEP_ID" in environment else 1
    if processes > 1:
        return _read_slurm(processes, folder, environment)
    if environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        # DeepSpeed wants a process group, even for one process.
        _set_place(environment, rank=0, processes=1, local_rank=0)
        _set_address(environment, LOOPBACK, _free_port())
    return Launch(0, 1, attempt=read_attempt(environment))


def meet(
    launch: Launch, environment: MutableMapping[str, str] = os.environ, wait_s: float | None = None
) -> TCPStore | None:
    """Tell or learn where rank 0 is. Return the store for making a process group; None if a launcher named the place.

    Rank 0 listens before it tells the address, so no other program can have taken the port. It listens only on the
    address of the network between the nodes, because whoever reaches a store may write to it.
    wait_s: seconds to wait for the others; RENDEZVOUS_TIMEOUT_S when not given.
    Raises: ConfigError when rank 0 does not appear, or is not reached, by then.
    """
    if launch.meeting is None:
        return None
    is_one_node = launch.nodes == 1
    own = own_address(environment, is_one_node)
    tell_gloo(environment, own)
    wait_s = wait_s or RENDEZVOUS_TIMEOUT_S
    wait = timedelta(seconds=wait_s)
    if launch.rank == 0:
        listener = socket.create_server((own, 0), backlog=max(launch.processes, 128))
        host, port = own, int(listener.getsockname()[1])
        # The store owns the socket from here on. Its event loop must never wait in accept.
        listener.setblocking(False)
        descriptor = listener.detach()
        store = TCPStore(host, port, launch.processes, True, wait, wait_for_workers=False, master_listen_fd=descriptor)
        write_json(launch.meeting, {"host": host, "port": port})
    else:
        address = _wait_for_address(launch.meeting, wait_s)
        host, port = address["host"], address["port"]
        try:
            store = TCPStore(host, port, launch.processes, False, wait, wait_for_workers=False)
        except RuntimeError as error:
            raise ConfigError(
                f"{launch.meeting}: rank 0 listens at {host}:{port} and cannot be reached from {socket.gethostname()} "
                f"({str(error).splitlines()[0]}); name the network between the nodes in slurm/env.sh, NETWORK_INTERFACE"
            ) from error
    _set_address(environment, host, port)
    return store


def leave_meeting(launch: Launch) -> None:
    """Remove the file, once everyone has come."""
    if launch.meeting is not None and launch.rank == 0:
        launch.meeting.unlink(missing_ok=True)


def read_accelerate_config(path: Path) -> dict[str, str]:
    """The environment variables that `accelerate launch` would set for its YAML. Raises: ConfigError."""
    key = f"accelerate_config={path}"
    try:
        content = read_yaml(path)
    except DocumentError as error:
        raise ConfigError(f"accelerate_config={error}; give a file such as those in launch/accelerate/") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{key}: expected `key: value` lines, as in launch/accelerate/")
    kind = content.get("distributed_type", "NO")
    if kind not in _DISTRIBUTED:
        kind = kind if isinstance(kind, str) else type(kind).__name__
        raise ConfigError(f"{key}: distributed_type {kind} is not supported; use {', '.join(_DISTRIBUTED)}")
    precision = content.get("mixed_precision", "no")
    values = {"ACCELERATE_MIXED_PRECISION": _word(f"{key}: mixed_precision", precision)}
    if kind == "DEEPSPEED":
        values["ACCELERATE_USE_DEEPSPEED"] = "true"
        options = content.get("deepspeed_config") or {}
        if not isinstance(options, dict):
            raise ConfigError(f"{key}: deepspeed_config: expected `key: value` lines, found {type(options).__name__}")
        values["ACCELERATE_CONFIG_DS_FIELDS"] = ",".join([*map(str, options), "mixed_precision"])
        unknown = sorted(map(str, set(options) - _DEEPSPEED_KEYS.keys()))
        if unknown:
            known = ", ".join(_DEEPSPEED_KEYS)
            raise ConfigError(f"{key}: deepspeed_config.{unknown[0]} is not read without its launcher; known: {known}")
        for name, value in options.items():
            values[_DEEPSPEED_KEYS[name]] = _word(f"{key}: deepspeed_config.{name}", value)
    return values


def _read_launcher(environment: Mapping[str, str]) -> tuple[int, int]:
    """The rank and the number of processes from a launcher. Raises: ConfigError for values that no launcher sets."""
    rank, processes = number_in(environment, "RANK"), number_in(environment, "WORLD_SIZE")
    number_in(environment, "LOCAL_RANK", 0)
    if rank >= processes:
        raise ConfigError(f"RANK={rank}, WORLD_SIZE={processes}: ranks go from 0 to WORLD_SIZE - 1; unset both")
    if not 0 <= number_in(environment, "MASTER_PORT", 0) < 1 << 16:
        raise ConfigError(f"MASTER_PORT={environment['MASTER_PORT']}: no port; use one from 1024 to 65535")
    return rank, processes


def check_meeting(launch: Launch, environment: Mapping[str, str] = os.environ) -> None:
    """Raises: ConfigError when nothing says where several processes meet."""
    is_said = environment.get("MASTER_ADDR") and environment.get("MASTER_PORT")
    if launch.processes > 1 and launch.meeting is None and not is_said:
        raise ConfigError(
            f"WORLD_SIZE={launch.processes}: MASTER_ADDR and MASTER_PORT do not say where the processes meet; unset "
            "RANK and WORLD_SIZE, or start by accelerate launch"
        )


def _refuse_worlds_apart(processes: int, environment: Mapping[str, str]) -> None:
    """Refuse a launcher that does not know of the other nodes. Each node would be a world that trains the same run."""
    nodes = number_in(environment, "SLURM_STEP_NUM_NODES", 1)
    if processes < nodes:
        raise ConfigError(
            f"WORLD_SIZE={processes}: the launcher made a world of its own on each of {nodes} nodes; give accelerate "
            "launch --deepspeed_multinode_launcher standard and --num_machines, as slurm/train.sbatch does"
        )


def _read_slurm(processes: int, folder: Path, environment: MutableMapping[str, str]) -> Launch:
    rank, local_rank = number_in(environment, "SLURM_PROCID"), number_in(environment, "SLURM_LOCALID")
    if torch.cuda.is_available():
        # Slurm may show each task only its own GPU, which then is number 0 there.
        local_rank %= max(torch.cuda.device_count(), 1)
    _set_place(environment, rank, processes, local_rank)
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    step = "_".join(environment.get(name, "0") for name in names)
    nodes = number_in(environment, "SLURM_STEP_NUM_NODES", 1)
    return Launch(rank, processes, folder / f".meeting_{step}.json", read_attempt(environment), nodes)


def _set_place(environment: MutableMapping[str, str], rank: int, processes: int, local_rank: int) -> None:
    environment.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(local_rank))


def _set_address(environment: MutableMapping[str, str], host: str, port: int) -> None:
    environment.update(MASTER_ADDR=host, MASTER_PORT=str(port))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _wait_for_address(meeting: Path, wait_s: float) -> dict[str, Any]:
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        # Listing the folder makes NFS look at it again. A query for the name alone may be answered from a cache.
        if meeting.parent.is_dir() and any(path.name == meeting.name for path in meeting.parent.iterdir()):
            return read_json(meeting)
        time.sleep(0.2)
    raise ConfigError(
        f"{meeting}: rank 0 did not write it within {wait_s:.0f} s; see its log, and that all nodes see "
        "output_dir at the same path"
    )


def _word(named: str, value: Any) -> str:
    """A value as the environment holds it. named: its place, for the message."""
    if isinstance(value, dict | list):
        raise ConfigError(f"{named}: expected one word, found {type(value).__name__}")
    return str(value).lower() if isinstance(value, bool) else str(value)
