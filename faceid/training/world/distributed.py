"""Describe the world of a run: processes, devices, precision, and how a global batch is shared out.

The launcher's YAML configures Accelerate and DeepSpeed. The user's settings (the global batch, clipping) are written
into them here, so that no two files can disagree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs

from faceid.errors import ConfigError
from faceid.training.recipe.global_batch import check_batch

# Long enough for a rank that renders a validation video while the others wait, and short enough to end a dead job.
PROCESS_GROUP_TIMEOUT = timedelta(minutes=60)


@dataclass(frozen=True)
class World:
    """The processes of one run, and each one's part of a global batch."""

    accelerator: Accelerator
    batch_size: int
    micro_batch_size: int

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.accelerator.is_main_process

    @property
    def accumulation(self) -> int:
        """Forward passes per optimizer step and process."""
        return self.batch_size // (self.accelerator.num_processes * self.micro_batch_size)

    @property
    def kind(self) -> str:
        """single, ddp, zero2 or zero3."""
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            return f"zero{self.accelerator.state.deepspeed_plugin.zero_stage}"
        return "ddp" if self.accelerator.num_processes > 1 else "single"

    @contextmanager
    def loading_whole(self) -> Iterator[None]:
        """Load transformers' models inside the block whole on every rank.

        Accelerate tells transformers of DeepSpeed. transformers would then shard whatever it loads under ZeRO-3.
        """
        plugin = self.accelerator.state.deepspeed_plugin
        if plugin is None:
            yield
            return
        plugin.dschf = None  # transformers knows of DeepSpeed only by a weak reference to this
        try:
            yield
        finally:
            plugin.set_deepspeed_weakref()

    def positions(self, step: int, rank: int | None = None) -> list[list[int]]:
        """Global sample indices of each micro-batch of a process (this one by default) in optimizer step `step`."""
        rank = self.rank if rank is None else rank
        start = step * self.batch_size + rank * self.accumulation * self.micro_batch_size
        size = self.micro_batch_size
        return [list(range(start + m * size, start + (m + 1) * size)) for m in range(self.accumulation)]


@dataclass(frozen=True)
class Positions:
    """This rank's micro-batches from one step to another, in order. Made on demand: a run may have 10 million."""

    world: World
    start_step: int
    num_steps: int

    def __iter__(self) -> Iterator[list[int]]:
        """Global sample indices of one micro-batch after the other."""
        for step in range(self.start_step, self.num_steps):
            yield from self.world.positions(step)


def join_world(
    batch_size: int,
    micro_batch_size: int,
    processes: int,
    max_grad_norm: float,
    mixed_precision: str = "auto",
    store: torch.distributed.Store | None = None,
) -> World:
    """Make the Accelerator for the launched world. Raises: ConfigError when the batch cannot be shared out evenly.

    store: where the processes meet, if not at the address in the environment. The group is then made here.
    """
    check_batch(batch_size, micro_batch_size, processes)
    accumulation = batch_size // (processes * micro_batch_size)
    handlers = []
    if "RANK" in os.environ:  # launched, perhaps with one process: there will be a process group
        # Without a named backend, DeepSpeed on a CPU asks for one that does not exist there.
        handlers.append(InitProcessGroupKwargs(backend=backend(), timeout=PROCESS_GROUP_TIMEOUT))
    if store is not None:
        join_group(store, processes, PROCESS_GROUP_TIMEOUT)
    is_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    accelerator = Accelerator(
        # Without `cpu`, Accelerate takes two CPU ranks for no distribution at all. Each would train alone, and its
        # reductions would return their input. With `cpu`, Accelerate would drop DeepSpeed.
        cpu=not torch.cuda.is_available() and not is_deepspeed,
        gradient_accumulation_steps=accumulation,
        kwargs_handlers=handlers,
        mixed_precision=_precision(mixed_precision),
        step_scheduler_with_optimizer=False,
    )
    if processes > 1 and accelerator.distributed_type == DistributedType.NO:
        raise ConfigError(
            f"{processes} processes were launched, but Accelerate joins none of them: they would train apart; use a "
            "config of launch/accelerate/"
        )
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        if plugin.deepspeed_config.get("fp16", {}).get("enabled") is True:
            raise ConfigError("mixed_precision=fp16: Wan overflows in float16; use bf16")
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = micro_batch_size
        plugin.deepspeed_config["gradient_accumulation_steps"] = accumulation
        plugin.deepspeed_config["gradient_clipping"] = max_grad_norm
    return World(accelerator, batch_size, micro_batch_size)


def join_group(store: torch.distributed.Store | None, processes: int, timeout: timedelta) -> None:
    """Make torch's process group from the processes that meet in `store`, or at the address in the environment.

    Accelerate and DeepSpeed then use that group.
    """
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group(backend(), store=store, rank=rank, world_size=processes, timeout=timeout)


def backend() -> str:
    """The backend by which the processes communicate here."""
    return "nccl" if torch.cuda.is_available() else "gloo"


@dataclass(frozen=True)
class ExpectedWorld:
    """The result that joining would have. kind: as `World.kind`."""

    kind: str
    processes: int
    is_bf16: bool

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's ZeRO stage; 0 without DeepSpeed."""
        return int(self.kind.removeprefix("zero")) if self.kind.startswith("zero") else 0


def expected_world(mixed_precision: str, processes: int) -> ExpectedWorld:
    """The world that joining would give. Nothing is joined."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        kind = f"zero{os.environ.get('ACCELERATE_DEEPSPEED_ZERO_STAGE', '2')}"
    else:
        kind = "ddp" if processes > 1 else "single"
    chosen = _precision(mixed_precision) or os.environ["ACCELERATE_MIXED_PRECISION"]
    return ExpectedWorld(kind, processes, chosen == "bf16")


def _precision(chosen: str) -> str | None:
    if chosen != "auto":
        return chosen
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None  # the launcher's YAML decides
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def check_precision() -> None:
    """Check the precision in a launcher's YAML before anything is joined. Raises: ConfigError."""
    chosen = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if chosen not in ("no", "bf16"):
        raise ConfigError(f"mixed_precision={chosen}: Wan overflows in float16; use bf16 in the accelerate config")
