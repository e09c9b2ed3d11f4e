"""Gather trained tensors from any world, and restore them into any world.

They are the full trainables, Adam moments and averaged weights. Worlds are single, DDP, ZeRO-2 and ZeRO-3. Gathering
uses DeepSpeed's public getters. They are collectives, so every rank asks for every tensor in one order. The averaged
weights (EMA) live in Adam's state beside the moments. So every world shards, gathers and restores them in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from deepspeed import zero
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
AVERAGE = "ema"
TRAINABLES = "trainables"


class ShardedState:
    """The trained tensors of a prepared run, by adapter file name."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], optimizer: Any, world_kind: str, ema_decay: float = 0.0
    ) -> None:
        """optimizer: as `accelerator.prepare` returned it. world_kind: single, ddp, zero2 or zero3.

        ema_decay: decay of the averaged weights; 0 for none.
        """
        self.parameters, self.kind, self.ema_decay = parameters, world_kind, ema_decay
        self.optimizer = optimizer
        # The order of wrappers is: accelerate's, under ZeRO DeepSpeed's, torch's AdamW.
        self.outer = optimizer.optimizer
        self.adam: torch.optim.Optimizer = self.outer.optimizer if self.is_zero else self.outer
        # All moments are made beforehand, for two reasons. DeepSpeed 0.19 links parameters to their moments when the
        # first of several groups has stepped, and so never finds those of the others. Adam makes no moments where it
        # finds averaged weights.
        self._make_state(0)

    @property
    def is_zero(self) -> bool:
        """Whether DeepSpeed holds the tensors in pieces."""
        return self.kind.startswith("zero")

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the tensors that are kept for each trained tensor."""
        return (*MOMENTS, AVERAGE) if self.ema_decay else MOMENTS

    def trainables(self) -> dict[str, Tensor]:
        """Full float32 trainables on the CPU. All ranks call."""
        return {name: _copy(self._full(parameter)) for name, parameter in self.parameters.items()}

    def exported(self) -> dict[str, Tensor]:
        """The content of an adapter file: the averaged weights, or the trainables if none are kept. All ranks call."""
        if not self.ema_decay:
            return self.trainables()
        return {name: _copy(self._state(parameter, AVERAGE)) for name, parameter in self.parameters.items()}

    def gather(self) -> dict[str, dict[str, Tensor]]:
        """Trainables and their state, full, float32, on the CPU. All ranks call."""
        gathered = {TRAINABLES: self.trainables()}
        for kind in self.state_names:
            gathered[kind] = {name: _copy(self._state(p, kind)) for name, p in self.parameters.items()}
        return gathered

    def scatter(self, tensors: dict[str, dict[str, Tensor]], updates: int) -> None:
        """Put back what `gather` returned after `updates` optimizer updates. All ranks call.

        The parameters themselves must already hold the trainables (loaded before `prepare`). Here their float32 masters
        are made exact.
        """
        self._make_state(updates)
        for name, parameter in self.parameters.items():
            self._set(parameter, None, tensors[TRAINABLES][name])
            for kind in self.state_names:
                self._set(parameter, kind, tensors[kind][name])

    def updates(self) -> int:
        """Optimizer updates so far, as Adam counts them. Skipped steps do not count."""
        return int(self.adam.state[self._adam_tensors()[0]]["step"].item())

    def skip_unless_finite(self, gradient_norm: Tensor) -> None:
        """Let the coming update change nothing if the gradient is not finite. DeepSpeed does that by itself.

        The decision is made on the device, without waiting: fused AdamW reads the flag, as it does for a loss scaler.
        """
        if not self.is_zero:
            self.adam.found_inf = (~torch.isfinite(gradient_norm)).float()  # type: ignore[attr-defined]

    def was_skipped(self) -> Tensor:
        """1 if the last step changed nothing because its gradient was not finite, else 0.

        The number is on the device.
        """
        flat = self._adam_tensors()[0]
        if self.is_zero:
            return torch.tensor(float(self.optimizer.step_was_skipped), device=flat.device)
        return self.adam.found_inf  # type: ignore[attr-defined]

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Move the averaged weights towards the trained ones, after optimizer step `step` (from 0)."""
        if not self.ema_decay:
            return
        weight = (1 - average_decay(step, self.ema_decay)) * (1 - self.was_skipped())
        for tensor in self._adam_tensors():
            self.adam.state[tensor][AVERAGE].lerp_(tensor, weight)

    def adopt_average(self, names: Collection[str]) -> None:
        """Replace these trained weights by their averages. All ranks call."""
        if not self.ema_decay:
            return
        averages = {name: self._state(self.parameters[name], AVERAGE).clone() for name in names}
        self._show(averages)
        for name, average in averages.items():
            self._set(self.parameters[name], None, average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the module hold the averaged weights inside the block, and its own ones afterwards. All ranks call."""
        if not self.ema_decay:
            yield
            return
        shown = {name: self._state(parameter, AVERAGE) for name, parameter in self.parameters.items()}
        kept = {name: self._module_copy(parameter) for name, parameter in self.parameters.items()}
        self._show(shown)
        try:
            yield
        finally:
            self._show(kept)

    @torch.no_grad()
    def _module_copy(self, parameter: nn.Parameter) -> Tensor:
        """The weights with which the module computes, whole, in its own precision."""
        with zero.GatheredParameters([parameter], enabled=self.kind == "zero3"):
            return parameter.detach().clone()

    @torch.no_grad()
    def _show(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            parameter = self.parameters[name]
            # Rank 0 writes, and sends the values to the others.
            with zero.GatheredParameters([parameter], modifier_rank=0, enabled=self.kind == "zero3"):
                parameter.copy_(value)

    def _full(self, parameter: nn.Parameter) -> Tensor:
        full = safe_get_full_fp32_param(parameter) if self.is_zero else parameter
        assert full is not None, "DeepSpeed does not know this parameter"
        return full

    def _state(self, parameter: nn.Parameter, kind: str) -> Tensor:
        if self.is_zero:
            return safe_get_full_optimizer_state(parameter, kind)
        return self.adam.state[parameter][kind]

    def _set(self, parameter: nn.Parameter, kind: str | None, value: Tensor) -> None:
        with torch.no_grad():
            if self.kind == "zero3":
                # set_full_* reads past the end when the size is not a multiple of the world. The local ones do not.
                part = _partition(parameter, value)
                if kind is None:
                    safe_set_local_fp32_param(parameter, part)
                else:
                    safe_set_local_optimizer_state(parameter, part, kind)
            elif self.is_zero:
                value = value.to(parameter.device)
                if kind is None:
                    safe_set_full_fp32_param(parameter, value)
                else:
                    safe_set_full_optimizer_state(parameter, value, kind)
            else:
                target = parameter if kind is None else self.adam.state[parameter][kind]
                target.copy_(value)

    def _make_state(self, updates: int) -> None:
        """Make zero moments for everything Adam will step, its count of updates, and averages equal to the weights."""
        for flat in self._adam_tensors():
            state = self.adam.state[flat]
            if not state:
                # torch's AdamW keeps the count beside the tensor when fused, else on the CPU.
                fused = self.adam.defaults.get("fused", False)
                state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device if fused else "cpu")
                for kind in MOMENTS:
                    state[kind] = torch.zeros_like(flat, memory_format=torch.preserve_format)
                if self.ema_decay:
                    state[AVERAGE] = flat.detach().clone()
            state["step"].fill_(float(updates))
        if self.kind == "zero2":
            self.outer._lazy_init_hp_params_optimizer_state()

    def _adam_tensors(self) -> list[Tensor]:
        if self.kind == "zero3":
            return list(self.outer.fp32_partitioned_groups_flat)
        return [tensor for group in self.adam.param_groups for tensor in group["params"]]


def average_decay(step: int, decay: float) -> float:
    """The averaged weights' decay after step `step` (from 0). It is low at first, or averages would stay at the start.

    The rule is TensorFlow's ExponentialMovingAverage's with num_updates, a function of the step alone.
    """
    return min(decay, (1 + step) / (10 + step))


def _partition(parameter: Any, value: Tensor) -> Tensor:
    """This rank's piece of a full tensor, padded as DeepSpeed pads."""
    size = parameter.partition_numel()
    rank = torch.distributed.get_rank()
    flat = value.flatten().to(parameter.ds_tensor.device)
    padded = torch.nn.functional.pad(flat, (0, size * torch.distributed.get_world_size() - flat.numel()))
    return padded.narrow(0, rank * size, size)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone().contiguous()
