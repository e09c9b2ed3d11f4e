"""Encode prompts to text embeddings, exactly as WanVACEPipeline does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan_vace import prompt_clean
from torch import Tensor

from faceid.errors import DataError
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT

log = logging.getLogger(__name__)

# Wan2.1 was trained with 512 text tokens. A tokenizer that states a smaller number is believed.
MAX_TEXT_TOKENS = 512


def text_length(model_max_length: float | None) -> int:
    """L, the padded number of text tokens that the transformer gets. model_max_length: what the tokenizer states."""
    return int(min(model_max_length or MAX_TEXT_TOKENS, MAX_TEXT_TOKENS))


def count_tokens(tokenizer: Any, prompt: str) -> int:
    """The tokens of a prompt, its end token among them; they may be more than the base reads."""
    return len(tokenizer(prompt_clean(prompt), add_special_tokens=True, verbose=False).input_ids)


@torch.no_grad()
def encode_prompts(
    tokenizer: Any, text_encoder: Any, prompts: Sequence[str], is_private: bool = False
) -> dict[str, Tensor]:
    """Embed each distinct prompt: {prompt: [L, D]}, zeros after the end token, in the encoder's dtype.

    is_private: whether prompts say what a person looks like, which belongs in no log.
    """
    length = text_length(tokenizer.model_max_length)
    embeddings: dict[str, Tensor] = {}
    for prompt in dict.fromkeys(prompts):
        if not is_private:
            _warn_of_long(tokenizer, prompt, length)
        words = tokenizer(
            [prompt_clean(prompt)],
            padding="max_length",
            max_length=length,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        ids, mask = words.input_ids.to(text_encoder.device), words.attention_mask.to(text_encoder.device)
        hidden = text_encoder(ids, mask).last_hidden_state[0]
        embeddings[prompt] = torch.where(mask[0, :, None] > 0, hidden, torch.zeros_like(hidden))
    return embeddings


def cut_padding(embedding: Tensor) -> Tensor:
    """A text embedding [L, D] without the zeros after its end token, [l, D]. Only this part is kept on disk."""
    told = embedding.abs().amax(dim=1).nonzero()
    return embedding[: int(told[-1]) + 1] if len(told) else embedding[:0]


def pad(embedding: Tensor, length: int) -> Tensor:
    """The reverse of `cut_padding`: [l, D] to [length, D]. Raises: DataError for an impossible length."""
    if not isinstance(length, int) or not len(embedding) <= length <= MAX_TEXT_TOKENS:
        raise DataError(f"text_tokens={length!r}: a prompt of {len(embedding)} tokens is stored; encode again")
    return torch.nn.functional.pad(embedding, (0, 0, 0, length - len(embedding)))


def _warn_of_long(tokenizer: Any, prompt: str, length: int) -> None:
    if prompt == DEFAULT_NEGATIVE_PROMPT:
        # This is Wan's own negative prompt. The toy base reads only its beginning, and needs no warning.
        return
    count = count_tokens(tokenizer, prompt)
    if count > length:
        log.warning("prompt of %d tokens, the base reads %d: its end is left out: ...%s", count, length, prompt[-60:])
