"""Bytes held for the backward pass, at the true sizes of the 1.3B: ours, a plain loop, DiffSynth-Studio's modules.

No weights and no values: tensors are fakes that know their shapes, so that 65 frames at 480x832 take seconds. Counted
is what is alive after a forward pass under bf16 autocast, by storage, weights aside, in units of one activation, N x d
in bf16; and what one more main block adds without checkpointing, where peft's own defaults show.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import peft
import torch
from gpu_model import FACE_DIM, VACE_1_3B
from peers_models import DIFFSYNTH, Model, Sizes, diffsynth, ours, plain
from peers_ratios import Ratio, in_a_fork
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from faceid.models.adapter_settings import AdapterSettings

LATENT, TEXT_TOKENS = (17, 60, 104), 512


def compare_bytes(has_diffsynth: bool, is_small: bool) -> tuple[list[Ratio], dict[str, Any]]:
    """Ratios of A4 and A5, and every count."""
    num_layers = 2 if is_small else 30
    base, both = _sizes("base", num_layers), _sizes("both", num_layers)
    models: dict[str, Callable[[], Model]] = {
        "ours, full": partial(ours, base, "full"),
        "ours, attention": partial(ours, base, "attention"),
        "ours, full, both": partial(ours, both, "full"),
        "plain, full": partial(plain, base, True),
        "plain, full, both": partial(plain, both, True),
    }
    if has_diffsynth:
        models |= {
            "DiffSynth, full": partial(diffsynth, base, True),
            "DiffSynth, full, both": partial(diffsynth, both, True),
        }
    for name, make in (("ours", partial(ours, mode="none")), ("plain", partial(plain, is_checkpointed=False))):
        for layers in (2, 3):
            models[f"{name}, none, {layers} blocks"] = partial(make, _sizes("base", layers))
    units = in_a_fork(lambda: {name: round(held_units(make), 2) for name, make in models.items()})
    for name in ("ours", "plain"):
        units[f"{name}, none, one block"] = round(
            units[f"{name}, none, 3 blocks"] - units[f"{name}, none, 2 blocks"], 2
        )
    loop = f"plain loop: diffusers {diffusers.__version__}, peft {peft.__version__}"
    rows = [
        ("A4", "held, LoRA on the main blocks, full", "ours, full", "plain, full", loop),
        (
            "A4",
            "held, LoRA on the main blocks, attention (ours), full (theirs)",
            "ours, attention",
            "plain, full",
            loop,
        ),
        ("A4", "held, LoRA on both branches, full", "ours, full, both", "plain, full, both", loop),
        ("A4", "held, LoRA on the main blocks, full", "ours, full", "DiffSynth, full", DIFFSYNTH),
        ("A4", "held, LoRA on both branches, full", "ours, full, both", "DiffSynth, full, both", DIFFSYNTH),
        ("A5", "held by one block, no checkpointing", "ours, none, one block", "plain, none, one block", loop),
    ]
    size = f"the 1.3B{' cut to 2 blocks' if is_small else ''}, 65x480x832"
    ratios = [
        Ratio(row, f"{what} ({size})", peer, (units[mine],) * 2, (units[theirs],) * 2, "N x d", "counted")
        for row, what, mine, theirs, peer in rows
        if theirs in units
    ]
    return ratios, {"unit_mib": round(base.tokens * 1536 * 2 / 2**20, 1), "units": units}


def held_units(make: Callable[[], Model]) -> float:
    """What a forward pass leaves alive, of the model that `make` gives on the meta device."""
    with torch.device("meta"):
        model = make()
    sizes, fake = model.sizes, FakeTensorMode(allow_non_fake_inputs=True)
    lora = {id(weight) for weight in model.trained}
    with fake:
        weights = [tensor.untyped_storage()._cdata for module in model.modules for tensor in _give_shapes(module, lora)]
        for module in model.modules:
            if hasattr(module, "freqs"):
                module.freqs = tuple(torch.empty(table.shape, dtype=table.dtype) for table in module.freqs)
        x_t = torch.randn(1, 16, *sizes.latent, dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            out = model.output(x_t, partial(torch.randn, dtype=torch.bfloat16))
    assert out.requires_grad
    gc.collect()
    alive = {}
    for found in gc.get_objects():
        if isinstance(found, FakeTensor) and found.fake_mode is fake:
            storage = found.untyped_storage()
            alive[storage._cdata] = storage.nbytes()
    width = sizes.config["num_attention_heads"] * sizes.config["attention_head_dim"]
    return sum(size for key, size in alive.items() if key not in weights) / (sizes.tokens * width * 2)


def _give_shapes(module: Any, trained: set[int]) -> list[torch.Tensor]:
    """Fakes for all weights: the base in bf16, what is trained in float32. All of them."""
    given: list[torch.Tensor] = []
    for inner in module.modules():
        for name, tensor in inner._parameters.items():
            if tensor is not None:
                # peft makes a bf16 base's LoRA float32, and so do we.
                dtype = torch.float32 if id(tensor) in trained else torch.bfloat16
                fake = torch.nn.Parameter(torch.empty(tensor.shape, dtype=dtype), requires_grad=tensor.requires_grad)
                inner._parameters[name] = fake
                given.append(fake)
        for name, tensor in inner._buffers.items():
            if tensor is not None:
                inner._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
                given.append(inner._buffers[name])
    return given


def _sizes(branch: Any, num_layers: int) -> Sizes:
    layers = VACE_1_3B["vace_layers"] if num_layers == VACE_1_3B["num_layers"] else [0]
    config = VACE_1_3B | {"num_layers": num_layers, "vace_layers": layers}
    return Sizes(config, AdapterSettings(lora_branch=branch), LATENT, TEXT_TOKENS, FACE_DIM)
