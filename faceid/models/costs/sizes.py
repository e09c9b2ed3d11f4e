"""Predict the size of a run before anything is loaded: count parameters, and predict memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter_settings import AdapterSettings, GradientCheckpointing
from faceid.models.wan_vace.transformer import TRANSFORMER

# Activations, in units of N x width, that one block holds for the backward pass. test_flops.py measures them at the
# 1.3B. The working set is what a block needs while it is recomputed.
HELD_BY_BLOCK: dict[GradientCheckpointing, float] = {"full": 1.0, "attention": 2.02, "none": 28.2}
WORKING_SET = 33.5
# Bytes for latents, text and the framework: an allowance, not a measurement.
OTHER_BYTES = 0.8 * (1 << 30)


@dataclass(frozen=True)
class Parameters:
    """Counts of one transformer with its adapter."""

    base: int
    """Frozen."""
    trained: int


@dataclass(frozen=True)
class Placement:
    """What memory depends on besides the model. shards: processes that share ZeRO's pieces; 1 without ZeRO."""

    zero_stage: int
    shards: int
    is_bf16: bool
    has_ema: bool
    checkpointing: GradientCheckpointing


def transformer_of(config: Mapping[str, Any]) -> Any:
    """Make a transformer of these sizes with random weights, on torch's current default device."""
    return TRANSFORMER.from_config({key: value for key, value in config.items() if not key.startswith("_")})


def count_parameters(config: Mapping[str, Any], settings: AdapterSettings, face_embedding_dim: int) -> Parameters:
    """Count on a model without values. config: the transformer's."""
    with torch.device("meta"):
        transformer = transformer_of(config)
    base = sum(parameter.numel() for parameter in transformer.parameters())
    adapter = install_adapter(transformer, settings, face_embedding_dim)
    return Parameters(base, sum(parameter.numel() for parameter in adapter.parameters().values()))


def predicted_memory(
    config: Mapping[str, Any], parameters: Parameters, tokens: int, where: Placement
) -> dict[str, float]:
    """Bytes on a device, by part. tokens: of one micro-batch."""
    element = 2 if where.is_bf16 else 4
    # Under ZeRO the module's copies follow the precision, and the float32 ones are shared out. Else there is one copy.
    module = parameters.trained * (2 * element if where.zero_stage else 8)
    state = 8 + (4 if where.has_ema else 0) + (4 if where.zero_stage else 0)
    unit = tokens * config["num_attention_heads"] * config["attention_head_dim"] * element
    return {
        "base": parameters.base * element / (where.shards if where.zero_stage == 3 else 1),
        "adapter and its optimizer": module + parameters.trained * state / where.shards,
        "activations held": HELD_BY_BLOCK[where.checkpointing] * config["num_layers"] * unit,
        "one block at work": 0.0 if where.checkpointing == "none" else WORKING_SET * unit,
        "other": OTHER_BYTES,
    }
