"""Choose how a transformer computes.

The choices are what blocks keep for the backward pass, compilation, and the attention kernel. None of these choices
changes the result. Checkpointing `full` keeps a block's input alone. `attention` also keeps the output of the block's
self-attention, one tensor of the block's width. At a video's length self-attention is over half of a block's
operations. torch makes the selection (torch.utils.checkpoint.create_selective_checkpoint_contexts).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, get_args

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from faceid.errors import ConfigError
from faceid.models.adapter_settings import GradientCheckpointing
from faceid.models.wan_vace.transformer import hint_blocks, is_hint_block

log = logging.getLogger(__name__)

_MOST_VARIANTS = 48

# Attention operators of torch and of diffusers' backends. The number is the dimension of query and key (the first two
# arguments) that counts tokens: [B, heads, tokens, D] or [B, tokens, heads, D].
_TOKENS_DIM = {
    "aten::_scaled_dot_product_flash_attention": 2,
    "aten::_scaled_dot_product_flash_attention_for_cpu": 2,
    "aten::_scaled_dot_product_efficient_attention": 2,
    "aten::_scaled_dot_product_cudnn_attention": 2,
    "aten::_scaled_dot_product_fused_attention_overrideable": 2,
    "flash_attn::_flash_attn_forward": 1,
    "_diffusers_flash_attn_3::_flash_attn_forward": 1,
}


def set_gradient_checkpointing(transformer: Any, mode: GradientCheckpointing, is_compiled: bool = False) -> None:
    """Choose what the transformer's blocks keep, and compile them. Gradients are the same to the bit in every mode.

    The compiled piece is a block with its checkpointing. A compiler that saw the block alone could keep nothing of it.
    """
    if mode not in get_args(GradientCheckpointing):
        raise ConfigError(f"gradient_checkpointing={mode!r}: unknown; use {', '.join(get_args(GradientCheckpointing))}")
    if is_compiled:
        allow_variants()
    if mode == "none":
        transformer.disable_gradient_checkpointing()
        if is_compiled:
            transformer.compile_repeated_blocks()
        return
    run_block = _keep_attention if mode == "attention" else keep_input
    if not any(parameter.requires_grad for block in hint_blocks(transformer) for parameter in block.parameters()):
        run_block = functools.partial(_without_graph_in_hints, run_block)
    transformer.enable_gradient_checkpointing(torch.compile(run_block) if is_compiled else run_block)


def allow_variants() -> None:
    """Let torch compile as many kinds of block as there are. Past its limit of 8 it would run new kinds uncompiled.

    First and later blocks of both branches, for clips and for single frames, make 8. With the adapter off (the base as
    a target) there are as many again, and without gradients (validation) too.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VARIANTS)


def check_attention_backend(name: str) -> None:
    """Raises: ConfigError when diffusers knows no attention kernel of that name, or it is not installed here."""
    known = sorted(backend.value for backend in AttentionBackendName)
    if name not in known:
        raise ConfigError(f"attention_backend={name!r}: unknown to diffusers; use one of {', '.join(known)}")
    _try_backend(name, lambda: _check_attention_backend_requirements(AttentionBackendName(name)))


def set_attention_backend(transformer: Any, name: str) -> None:
    """Use one of diffusers' attention kernels by name. Raises: ConfigError when it is unknown or cannot run here."""
    check_attention_backend(name)
    _try_backend(name, lambda: transformer.set_attention_backend(name))


def _try_backend(name: str, use: Callable[[], Any]) -> None:
    try:
        use()
    except Exception as error:  # each backend has its own way to say that it is not installed
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"attention_backend={name!r}: cannot be used here ({first_line}); use native") from error


def replace_processor(attn: Any, processor: Any) -> None:
    """Attend by another processor from now on. A kernel chosen by set_attention_backend stays in effect."""
    processor._attention_backend = attn.processor._attention_backend
    attn.set_processor(processor)


def offload_blocks(transformer: Any, device: torch.device) -> None:
    """Leave a transformer's blocks in the CPU's memory and bring each to `device` for its turn."""
    # No stream of its own is used. Such a stream learns the order of the blocks, and a step cache skips blocks at
    # times.
    apply_group_offloading(transformer, onload_device=device, offload_type="block_level", num_blocks_per_group=1)
    for block in transformer.blocks:
        # diffusers brings a block to the device inside its forward. Hooks before that (face modulation) need it
        # earlier.
        group = block._diffusers_hook.get_hook("group_offloading").group
        block.register_forward_pre_hook(lambda block, inputs, group=group: group.onload_(), prepend=True)


def _without_graph_in_hints(run_block: Callable[..., Any], block: Any, *inputs: Any) -> Any:
    """Hint blocks that learn nothing have no backward pass to keep anything for; a compiler cannot make one of them."""
    return block(*inputs) if is_hint_block(block) else run_block(block, *inputs)


def keep_input(block: Any, *inputs: Any) -> Any:
    """Run a block, keeping its input alone for the backward pass."""
    # Nothing in a block is random (the mapper's dropout is outside), and a compiler cannot keep a generator.
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


def _keep_attention(block: Any, *inputs: Any) -> Any:
    contexts = functools.partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def _policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = op.name() if isinstance(op, torch._ops.OpOverload) else ""
    tokens_dim = _TOKENS_DIM.get(name)
    if tokens_dim is None:
        if "attention" in name or "attn" in name:
            _warn_of_unknown_attention(name)
        return CheckpointPolicy.PREFER_RECOMPUTE
    # The text's and the face's attention have few keys. They are cheap to recompute, and as large to keep.
    is_self_attention = args[0].shape[tokens_dim] == args[1].shape[tokens_dim]
    return CheckpointPolicy.MUST_SAVE if is_self_attention else CheckpointPolicy.PREFER_RECOMPUTE


@functools.cache
def _warn_of_unknown_attention(name: str) -> None:
    log.warning("gradient_checkpointing=attention: has no effect on %s, which is recomputed like all else", name)
