"""Count the floating point operations of a training step.

Time and kernels are judged against this count. A multiplication and an addition are two operations. Matrix products and
attention are counted. Norms, GELU, softmax and sums are not. The count is checked against torch's own counter on the
meta device at the sizes of the real models (tests/models/costs/test_flops.py).

Legend. N: tokens of the latents; T: tokens of the text; K: tokens of the face; d: width of the transformer; f: width of
its feed-forward; c: width of a face token; r: rank of the LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from faceid.models.adapter.face_attention import MODULATION_RANK
from faceid.models.adapter_settings import AdapterSettings, GradientCheckpointing
from faceid.models.wan_vace.transformer import num_hint_blocks, num_input_channels

# Flash attention's backward pass has five products where the forward pass has two. One of the five is recomputed.
ATTENTION_BACKWARD = 2.5
ATTENTION_BACKWARD_WITHOUT_REMAKING = 2.0


@dataclass(frozen=True)
class StepFlops:
    """Operations of one sample's part of a step."""

    forward: float
    recomputed: float
    """Operations done a second time in the backward pass, to save memory."""
    backward: float
    useful: float
    """Forward and backward without recomputation. A utilisation (MFU) is measured by it."""

    @property
    def total(self) -> float:
        """Operations as executed."""
        return self.forward + self.recomputed + self.backward


@dataclass
class _BlockFlops:
    """Operations of a piece, grouped by the cost of their backward pass."""

    frozen: float = 0.0
    """Products with frozen weights whose input has a gradient. The backward pass costs as much again."""
    trained: float = 0.0
    """Products with trained weights whose input has a gradient. The backward pass costs twice as much."""
    trained_on_text: float = 0.0
    """Down and up products whose input (the text, or the first block's) has no gradient. Backward: three for two."""
    without_gradient: float = 0.0
    """Products without a backward pass, since nothing upstream learns."""
    self_attention: float = 0.0
    other_attention: float = 0.0

    @property
    def forward(self) -> float:
        return sum(astuple(self))

    def backward(self, attention: float) -> float:
        products = self.frozen + 2 * self.trained + 1.5 * self.trained_on_text
        return products + attention * (self.self_attention + self.other_attention)


@dataclass(frozen=True)
class _Sizes:
    config: Mapping[str, Any]
    settings: AdapterSettings
    num_tokens: int
    text_tokens: int

    @property
    def d(self) -> int:
        """Width of the transformer."""
        return self.config["num_attention_heads"] * self.config["attention_head_dim"]

    @property
    def self_attention(self) -> float:
        """Self-attention of one block."""
        return 4 * self.num_tokens**2 * self.d


def step_flops(
    config: Mapping[str, Any],
    settings: AdapterSettings,
    num_tokens: int,
    checkpointing: GradientCheckpointing,
    face_embedding_dim: int,
    text_tokens: int = 512,
) -> StepFlops:
    """Operations of one sample, forwards and backwards. config: the transformer's."""
    sizes = _Sizes(config, settings, num_tokens, text_tokens)
    hints_learn = settings.lora_branch != "base"
    main = [_main_block(sizes, index) for index in range(config["num_layers"])]
    hints = [_hint_block(sizes, index) for index in range(num_hint_blocks(config))]
    ends = _ends(sizes, face_embedding_dim)
    blocks = [*main, *hints] if hints_learn else main
    forward = sum(flops.forward for flops in (*main, *hints, ends))
    recomputed = 0.0
    if checkpointing != "none":
        recomputed = sum(flops.forward for flops in blocks)
        if hints_learn and settings.lora_layers == "attention":
            # A VACE block ends with a frozen product whose output is not needed again. torch stops recomputing before
            # it.
            recomputed -= len(hints) * 2 * num_tokens * sizes.d**2
    if checkpointing == "attention":
        recomputed -= len(blocks) * sizes.self_attention
    backward, useful = (
        sum(flops.backward(attention) for flops in (*blocks, ends))
        for attention in (ATTENTION_BACKWARD, ATTENTION_BACKWARD_WITHOUT_REMAKING)
    )
    return StepFlops(forward, recomputed, backward, forward + useful)


def _main_block(sizes: _Sizes, index: int) -> _BlockFlops:
    """Self-attention, text and face attention, feed-forward. The LoRA is on q, k, v and o, or on the rest as well."""
    n, d = sizes.num_tokens, sizes.d
    has_lora = sizes.settings.lora_branch in ("base", "both")
    flops = _attention_and_feed_forward(sizes, has_lora)
    if index == 0 and not sizes.settings.face_modulation:
        _hand_no_gradient_on(flops, sizes, has_lora)
    if sizes.settings.has_face_attention(index):
        k, c = sizes.settings.num_tokens, sizes.settings.conditioning_dim
        flops.trained += 2 * 2 * k * c * d
        flops.other_attention += 4 * n * k * d
    return flops


def _hint_block(sizes: _Sizes, index: int) -> _BlockFlops:
    """Count as for a main block without a face.

    Each block has a projection out, and the first one has a projection in.
    """
    n, d = sizes.num_tokens, sizes.d
    has_lora = sizes.settings.lora_branch != "base"
    flops = _attention_and_feed_forward(sizes, has_lora)
    flops.frozen += 2 * n * d * d
    learns_ends = has_lora and sizes.settings.lora_layers == "linear"
    if learns_ends:
        flops.trained += _lora(n, d, sizes.settings.lora_rank)
    if index == 0:
        flops.without_gradient += 2 * n * d * d
        if learns_ends:
            # The projection in learns, so the next operation has a gradient to hand on.
            flops.trained_on_text += _lora(n, d, sizes.settings.lora_rank)
        else:
            _hand_no_gradient_on(flops, sizes, has_lora)
    return flops


def _attention_and_feed_forward(sizes: _Sizes, has_lora: bool) -> _BlockFlops:
    n, t, d, f, r = sizes.num_tokens, sizes.text_tokens, sizes.d, sizes.config["ffn_dim"], sizes.settings.lora_rank
    of_feed_forward = 2 * 2 * n * r * (d + f) if sizes.settings.lora_layers == "linear" else 0.0
    return _BlockFlops(
        frozen=2 * n * (6 * d * d + 2 * d * f),
        trained=6 * _lora(n, d, r) + of_feed_forward if has_lora else 0.0,
        trained_on_text=2 * _lora(t, d, r) if has_lora else 0.0,
        without_gradient=2 * 2 * t * d * d,  # the text's keys and values
        self_attention=sizes.self_attention,
        other_attention=4 * n * t * d,
    )


def _hand_no_gradient_on(flops: _BlockFlops, sizes: _Sizes, has_lora: bool) -> None:
    """Subtract gradients in a first block. Nothing before it learns: queries, keys and values hand no gradient on.

    Without a LoRA there is no gradient up to the face's share of the text attention.
    """
    n, d = sizes.num_tokens, sizes.d
    products = (3 if has_lora else 5) * 2 * n * d * d
    flops.frozen -= products
    flops.without_gradient += products
    if has_lora:
        lora = 3 * _lora(n, d, sizes.settings.lora_rank)
        flops.trained -= lora
        flops.trained_on_text += lora
    else:
        flops.without_gradient += flops.self_attention + flops.other_attention
        flops.self_attention = flops.other_attention = 0.0


def _ends(sizes: _Sizes, face_embedding_dim: int) -> _BlockFlops:
    """Operations before the blocks (patches, control, text, time, the face mapper) and after them."""
    config, settings, n, t, d = sizes.config, sizes.settings, sizes.num_tokens, sizes.text_tokens, sizes.d
    cells = math.prod(config["patch_size"])
    time = 2 * (config["freq_dim"] * d + d * d + 6 * d * d)
    width, hidden = face_embedding_dim, settings.mapper_hidden_dim
    tokens = settings.num_tokens * settings.conditioning_dim
    mapper = 0.0
    for _ in range(settings.num_mapper_layers - 1):
        mapper += 2 * width * hidden
        width = hidden
    mapper += 2 * (width * tokens + width * settings.lora_rank + settings.lora_rank * tokens)
    modulation = 2 * config["num_layers"] * MODULATION_RANK * (tokens + 2 * d) if settings.face_modulation else 0.0
    return _BlockFlops(
        frozen=2 * n * d * config["out_channels"] * cells,
        trained=mapper + modulation,
        without_gradient=2 * n * cells * d * num_input_channels(config)
        + 2 * t * (config["text_dim"] * d + d * d)
        + time,
    )


def _lora(tokens: int, d: int, r: int) -> float:
    """The LoRA's products: down and up."""
    return 2 * 2 * tokens * d * r
