"""Compute one video in several processes.

Each takes a share of the tokens, VACE's too, and attention exchanges. Everything in a block but self-attention looks at
one token at a time, at the text or at the face. Every process has all of the text and the face. Self-attention
exchanges heads for tokens and back (Ulysses, Jacobs et al. 2023): each process attends with its share of the heads over
all tokens. diffusers has the exchange, but needs an accelerator for it. It has no plan for WanVACE, where the embedded
latents enter every VACE block anew and the hints must be cut as the tokens are.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

from faceid.errors import ConfigError
from faceid.models.compute.execution import replace_processor
from faceid.models.wan_vace.transformer import all_blocks, hint_blocks


class TokenShare:
    """This process's share of the tokens: a contiguous run, as even as possible.

    total: tokens of the newest forward.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count, self.total = rank, count, 0

    def sizes(self) -> list[int]:
        """Tokens of each process."""
        return [self.total // self.count + (rank < self.total % self.count) for rank in range(self.count)]

    @property
    def start(self) -> int:
        """The first token of this process."""
        return sum(self.sizes()[: self.rank])

    @property
    def end(self) -> int:
        """One past the last token of this process."""
        return self.start + self.sizes()[self.rank]

    def take(self, tensor: Tensor, dim: int = 1) -> Tensor:
        """This process's tokens of a tensor that has all of them."""
        return tensor.narrow(dim, self.start, self.end - self.start)

    def gather(self, tensor: Tensor) -> Tensor:
        """Gather [B, tokens of this process, ...] to [B, all tokens, ...]."""
        sizes = self.sizes()
        # All pieces are padded to one size, which every backend can gather.
        padded = tensor.new_zeros(len(tensor), max(sizes), *tensor.shape[2:])
        padded[:, : tensor.shape[1]] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)

    def heads_of_all(self, tensor: Tensor) -> Tensor:
        """[B, tokens of this process, heads, D] to [B, all tokens, heads of this process, D]."""
        sizes, (batch, own, heads, width) = self.sizes(), tensor.shape
        some = heads // self.count
        sent = tensor.unflatten(2, (self.count, some)).permute(2, 1, 0, 3, 4).reshape(self.count * own, batch, -1)
        received = sent.new_empty(self.total, batch, some * width)
        dist.all_to_all_single(received, sent, sizes, [own] * self.count)
        return received.transpose(0, 1).unflatten(2, (some, width))

    def tokens_of_all(self, tensor: Tensor) -> Tensor:
        """[B, all tokens, heads of this process, D] to [B, tokens of this process, heads, D]."""
        sizes, (batch, _, some, width) = self.sizes(), tensor.shape
        own = sizes[self.rank]
        sent = tensor.flatten(2).transpose(0, 1).contiguous()
        received = sent.new_empty(self.count * own, batch, some * width)
        dist.all_to_all_single(received, sent, [own] * self.count, sizes)
        return received.view(self.count, own, batch, some, width).permute(2, 1, 0, 3, 4).flatten(2, 3)

    def from_first(self, tensor: Tensor) -> Tensor:
        """The first process's tensor, so that all compute with the same bits."""
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        dist.broadcast(tensor, 0)
        return tensor

    def sum_over_all(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors of one shape."""
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor


class SharedAttnProcessor(WanAttnProcessor):
    """`attn1` of a block of either kind: the stock processor, with heads exchanged for tokens around the attention."""

    def __init__(self, share: TokenShare) -> None:
        super().__init__()
        self.share = share

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """hidden_states: [B, tokens of this process, I]. rotary_emb: for these tokens."""
        assert encoder_hidden_states is None and attention_mask is None and rotary_emb is not None
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        query, key = (_rotated(tensor, *rotary_emb) for tensor in (query, key))
        query, key, value = (self.share.heads_of_all(tensor) for tensor in (query, key, value))
        attended = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        attended = self.share.tokens_of_all(attended).flatten(2).type_as(hidden_states)
        return attn.to_out[1](attn.to_out[0](attended))


def _rotated(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate as WanAttnProcessor does, where this is a function inside a function."""
    even, odd = tensor.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    out = torch.empty_like(tensor)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out.type_as(tensor)


def join_processes(device: torch.device) -> None:
    """Meet the other processes, as the launcher says. Raises: ConfigError when it does not say where."""
    if "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            "context_parallel: nothing says where the processes meet; start them with accelerate launch, which does"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def check_heads(count: int, num_heads: int) -> None:
    """Raises: ConfigError unless the heads can be shared out evenly."""
    if num_heads % count:
        legal = [number for number in range(2, num_heads + 1) if num_heads % number == 0]
        raise ConfigError(
            f"context_parallel={count}: does not divide the base's {num_heads} attention heads; use one of "
            + ", ".join(map(str, legal))
        )


def share_tokens(transformer: Any, rank: int, count: int) -> TokenShare:
    """Compute a transformer's forward passes together with the other processes of the default group.

    All processes must be given the same inputs.

    Inputs and output are whole in every process. Raises: ConfigError when the heads cannot be shared out.
    """
    check_heads(count, transformer.config.num_attention_heads)
    share = TokenShare(rank, count)

    def cut_rotary(module: nn.Module, args: Any, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        # This module is the first to run in a forward pass, and shows how many tokens there are.
        share.total = rotary[0].shape[1]
        return tuple(share.take(one) for one in rotary)

    def cut_first(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (share.take(args[0]), *args[1:])

    def cut_all(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_states, text, control, *rest = args
        return (share.take(hidden_states), text, share.take(control), *rest)

    transformer.rope.register_forward_hook(cut_rotary)
    transformer.blocks[0].register_forward_pre_hook(cut_first)
    for number, block in enumerate(hint_blocks(transformer)):
        # Embedded latents enter each VACE block anew. The control goes on from one block to the next.
        block.register_forward_pre_hook(cut_all if number == 0 else cut_first)
    for block in all_blocks(transformer):
        replace_processor(block.attn1, SharedAttnProcessor(share))
    transformer.proj_out.register_forward_hook(lambda module, args, output: share.gather(output))
    return share
