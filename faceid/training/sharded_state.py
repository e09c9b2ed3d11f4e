"""Full trainables and Adam moments out of any world, and back in: single, DDP, ZeRO-2, ZeRO-3.

Gathering uses DeepSpeed's public getters; they are collectives, so every rank asks for every tensor in one order.
The moments do not exist before the first step, so a restore makes them first.
"""

from __future__ import annotations

from typing import Any

import torch
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


class ShardedState:
    """The trained tensors of a prepared run, by adapter file name."""

    def __init__(self, parameters: dict[str, nn.Parameter], optimizer: Any, world_kind: str) -> None:
        """optimizer: as `accelerator.prepare` returned it. world_kind: single, ddp, zero2 or zero3."""
        self.parameters, self.kind = parameters, world_kind
        # accelerate's wrapper -> (under ZeRO: DeepSpeed's) -> torch's AdamW
        self.outer = optimizer.optimizer
        self.adam: torch.optim.Optimizer = self.outer.optimizer if self.is_zero else self.outer
        if self.is_zero:
            # DeepSpeed 0.19 links parameters to their moments when the first of several groups has stepped, and so
            # never finds those of the others: make them all beforehand. Goes when `_optimizer_step` links later.
            self._make_moments(0)

    @property
    def is_zero(self) -> bool:
        """Whether DeepSpeed holds the tensors in pieces."""
        return self.kind.startswith("zero")

    def trainables(self) -> dict[str, Tensor]:
        """Full float32 trainables on the CPU. All ranks call."""
        return {name: _copy(self._full(parameter)) for name, parameter in self.parameters.items()}

    def gather(self) -> dict[str, dict[str, Tensor]]:
        """Trainables and moments, full, float32, on the CPU. All ranks call, after at least one optimizer step."""
        gathered = {"trainables": self.trainables()}
        for moment in MOMENTS:
            gathered[moment] = {name: _copy(self._moment(p, moment)) for name, p in self.parameters.items()}
        return gathered

    def scatter(self, tensors: dict[str, dict[str, Tensor]], step: int) -> None:
        """Put back what `gather` returned after `step` optimizer steps. All ranks call.

        The parameters themselves must already hold the trainables (loaded before `prepare`); here their float32
        masters are made exact.
        """
        self._make_moments(step)
        for name, parameter in self.parameters.items():
            self._set(parameter, None, tensors["trainables"][name])
            for moment in MOMENTS:
                self._set(parameter, moment, tensors[moment][name])

    def _full(self, parameter: nn.Parameter) -> Tensor:
        full = safe_get_full_fp32_param(parameter) if self.is_zero else parameter
        assert full is not None, "DeepSpeed does not know this parameter"
        return full

    def _moment(self, parameter: nn.Parameter, moment: str) -> Tensor:
        if self.is_zero:
            return safe_get_full_optimizer_state(parameter, moment)
        return self.adam.state[parameter][moment]

    def _set(self, parameter: nn.Parameter, moment: str | None, value: Tensor) -> None:
        with torch.no_grad():
            if self.kind == "zero3":
                # set_full_* reads past the end when the size is not a multiple of the world; the local twins do not.
                part = _partition(parameter, value)
                if moment is None:
                    safe_set_local_fp32_param(parameter, part)
                else:
                    safe_set_local_optimizer_state(parameter, part, moment)
            elif self.is_zero:
                value = value.to(parameter.device)
                if moment is None:
                    safe_set_full_fp32_param(parameter, value)
                else:
                    safe_set_full_optimizer_state(parameter, value, moment)
            else:
                target = parameter if moment is None else self.adam.state[parameter][moment]
                target.copy_(value)

    def _make_moments(self, step: int) -> None:
        """Zero moments for everything Adam will step, with its step count."""
        for flat in self._adam_tensors():
            state = self.adam.state[flat]
            if not state:
                # Where torch's AdamW keeps the count: beside the tensor when fused, else on the CPU.
                fused = self.adam.defaults.get("fused", False)
                state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device if fused else "cpu")
                for moment in MOMENTS:
                    state[moment] = torch.zeros_like(flat, memory_format=torch.preserve_format)
            state["step"].fill_(float(step))
        if self.kind == "zero2":
            self.outer._lazy_init_hp_params_optimizer_state()

    def _adam_tensors(self) -> list[Tensor]:
        if self.kind == "zero3":
            return list(self.outer.fp32_partitioned_groups_flat)
        return [tensor for group in self.adam.param_groups for tensor in group["params"]]


def _partition(parameter: Any, value: Tensor) -> Tensor:
    """This rank's piece of a full tensor, padded as DeepSpeed pads."""
    size = parameter.partition_numel()
    rank = torch.distributed.get_rank()
    flat = value.flatten().to(parameter.ds_tensor.device)
    padded = torch.nn.functional.pad(flat, (0, size * torch.distributed.get_world_size() - flat.numel()))
    return padded.narrow(0, rank * size, size)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone().contiguous()
