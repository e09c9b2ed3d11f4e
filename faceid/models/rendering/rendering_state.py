"""Leave a model unchanged by rendering.

What a rendering sets is put back, however the rendering ends. A rendering sets the LoRA's strength, the blocks'
strengths, the number of faces, processors and the mode. Within a training run the same transformer is trained on
afterwards. Among many videos, the next one must not inherit the last one's values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter.face_attention import FaceAttention, FaceModulation

# What peft keeps of a layer besides its weights: its strength, whether it is on, the active adapter, what was merged.
_OF_LORA = ("scaling", "_disable_adapters", "_active_adapter", "merged_adapters")


@contextmanager
def rendering(transformer: Any, adapter: FaceAdapter | None = None) -> Iterator[None]:
    """Allow rendering inside the block, in eval mode. Afterwards the transformer is as it was.

    Each module's mode, each attention's processor and its content, and the LoRA's and the blocks' strengths are put
    back. So are the parameters that require gradients, the adapter's own state, and this process's random number
    generators. Weights are not put back, since nothing that renders may write them.
    adapter: on the transformer; None for a bare base.
    """
    put_back = [_random_state(transformer), *(_state_of(module) for module in transformer.modules())]
    put_back += [_requires_grad(transformer)]
    if adapter is not None:
        put_back.append(_attributes_of(adapter))
    transformer.eval()
    try:
        yield
    finally:
        for restore in put_back:
            restore()


def _state_of(module: nn.Module) -> Callable[[], None]:
    """Return a function that puts this module's own state back, without its children's."""
    is_training = module.training
    parts: list[Callable[[], None]] = []
    processor = getattr(module, "processor", None)
    if processor is not None:
        parts += [lambda: module.set_processor(processor), _attributes_of(processor)]  # type: ignore[operator]
    if isinstance(module, LoraLayer):
        parts.append(_attributes_of(module, _OF_LORA))
    if isinstance(module, FaceAttention | FaceModulation):
        parts.append(_attributes_of(module, ("strength",)))

    def restore() -> None:
        module.training = is_training
        for part in parts:
            part()

    return restore


def _attributes_of(thing: Any, names: tuple[str, ...] | None = None) -> Callable[[], None]:
    """Return a function that puts all or the named attributes back. Lists and dicts are kept by content."""
    kept = {
        name: (value, value.copy() if isinstance(value, dict | list) else None)
        for name, value in vars(thing).items()
        if names is None or name in names
    }

    def restore() -> None:
        for name in [name for name in vars(thing) if names is None and name not in kept]:
            delattr(thing, name)
        for name, (value, content) in kept.items():
            if isinstance(content, dict):
                value.clear()
                value.update(content)
            elif isinstance(content, list):
                value[:] = content
            vars(thing)[name] = value

    return restore


def _requires_grad(transformer: nn.Module) -> Callable[[], None]:
    kept = [(parameter, parameter.requires_grad) for parameter in transformer.parameters()]

    def restore() -> None:
        for parameter, requires_grad in kept:
            # requires_grad is set only where it differs, since DDP and ZeRO watch over their tensors.
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)

    return restore


def _random_state(transformer: Any) -> Callable[[], None]:
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    device = transformer.device
    of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore() -> None:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_device is not None:
            torch.cuda.set_rng_state(of_device, device)

    return restore
