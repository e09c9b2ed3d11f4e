"""Everything that a module is, as plain values to compare: what looking at it must not change."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = (bool, int, float, str, bytes, type(None))
# What ZeRO-3 counts of each module's passes, and notes of the newest one.
_COUNTS = ("applied_pre_backward", "ds_", "_ds")
_CONTAINERS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def state_of_module(module: nn.Module, adapter: Any = None) -> dict[str, Any]:
    """Tensors by sha256, modes, hooks, processors with what they hold, and every plain value of every submodule."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        found |= {f"{name}.{key}": value for key, value in _attributes(part).items()}
    for name, parameter in module.named_parameters():
        gradient = None if parameter.grad is None else _sha256(parameter.grad)
        # Under ZeRO-3 a parameter is there between uses or not; this process's piece of it always is.
        kept = getattr(parameter, "ds_tensor", parameter)
        found[f"parameter {name}"] = [_sha256(kept), str(parameter.dtype), parameter.requires_grad, gradient]
    found |= {f"buffer {name}": _sha256(buffer) for name, buffer in module.named_buffers()}
    if adapter is not None:
        found |= {f"adapter {key}": value for key, value in _attributes(adapter).items()}
    return found


def random_state() -> dict[str, Any]:
    """Of the generators that this process has."""
    python, of_numpy = random.getstate(), np.random.get_state()
    return {"python": repr(python), "numpy": repr(of_numpy), "torch": _sha256(torch.get_rng_state())}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs, with both values."""
    names = sorted(before.keys() | after.keys())
    return [f"{n}: {before.get(n)} -> {after.get(n)}" for n in names if before.get(n) != after.get(n)]


def _attributes(thing: Any) -> dict[str, Any]:
    found = {}
    for key, value in vars(thing).items():
        if key in _CONTAINERS or key.startswith(_COUNTS):
            continue
        if "hooks" in key:
            found[key] = [getattr(hook, "__qualname__", type(hook).__name__) for hook in value.values()]
        elif key == "processor":
            found[key] = [
                type(value).__name__,
                {name: repr(one) for name, one in vars(value).items() if _is_shown(one)},
            ]
        elif _is_shown(value):
            found[key] = repr(value)
    return found


def _is_shown(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_shown, value.values()))
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(map(_is_shown, value)))


def _sha256(tensor: torch.Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:16]
