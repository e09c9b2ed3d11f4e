"""List the schedulers, which take the steps from noise to video.

Flags, help and rendering use this one list. diffusers is imported only when a scheduler is made, so that a command line
is read before. docs/extending.md says how to add a scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from faceid.errors import ConfigError


def _by_count(scheduler: Any, count: int, device: Any) -> None:
    scheduler.set_timesteps(count, device=device)


@dataclass(frozen=True)
class SchedulerSpec:
    """One scheduler of diffusers, made for flow matching."""

    meaning: str
    """Text for the help."""
    make: Callable[[Any, float], Any]
    """Makes the scheduler to sample with from the model's own one and the flow shift."""
    set_steps: Callable[[Any, int, Any], None] = _by_count
    """Sets the steps to Wan's own noise levels. Arguments: scheduler, number of steps, device."""


def _unipc(own: Any, shift: float) -> Any:
    from diffusers import UniPCMultistepScheduler

    return own if shift == own.config.flow_shift else UniPCMultistepScheduler.from_config(own.config, flow_shift=shift)


def _euler(own: Any, shift: float) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    from faceid.flow import NUM_TRAIN_TIMESTEPS

    return FlowMatchEulerDiscreteScheduler(NUM_TRAIN_TIMESTEPS, shift=shift)


def _euler_steps(scheduler: Any, count: int, device: Any) -> None:
    """Set Wan's steps.

    By itself, diffusers' Euler shifts its last level twice, and ends where UniPC has another step.
    """
    import torch

    from faceid.flow import NUM_TRAIN_TIMESTEPS

    levels = torch.linspace(1, 1 / NUM_TRAIN_TIMESTEPS, count + 1, dtype=torch.float64)[:-1]
    scheduler.set_timesteps(sigmas=levels.tolist(), device=device)


SCHEDULERS: dict[str, SchedulerSpec] = {
    "unipc": SchedulerSpec("Wan's own", _unipc),
    "euler": SchedulerSpec("a plain step of first order", _euler, _euler_steps),
}
# A key of SCHEDULERS: to whoever reads flags those words, to a type checker a text.
if TYPE_CHECKING:
    SchedulerName = str
else:
    SchedulerName = Literal[tuple(SCHEDULERS)]

# The text for the help.
SCHEDULER_MEANINGS = "; ".join(f"{name}: {spec.meaning}" for name, spec in SCHEDULERS.items())


def make_scheduler(own: Any, name: SchedulerName, shift: float | None) -> Any:
    """The scheduler to sample with. own: the model's; its shift is used where none is given. Raises: ConfigError."""
    if name not in SCHEDULERS:
        raise ConfigError(f"scheduler={name}: unknown; use {' or '.join(SCHEDULERS)}")
    return SCHEDULERS[name].make(own, own.config.flow_shift if shift is None else shift)
