"""Prompts to text embeddings, exactly as WanVACEPipeline makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan_vace import prompt_clean
from torch import Tensor

# Wan2.1 was trained with 512 text tokens; a tokenizer that says it holds fewer is believed.
MAX_TEXT_TOKENS = 512


def text_length(tokenizer: Any) -> int:
    """L, the padded number of text tokens the transformer is given."""
    return min(int(tokenizer.model_max_length), MAX_TEXT_TOKENS)


@torch.no_grad()
def encode_prompts(tokenizer: Any, text_encoder: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Embed each distinct prompt: {prompt: [L, D]}, zeros after the end token, in the encoder's dtype."""
    length = text_length(tokenizer)
    embeddings: dict[str, Tensor] = {}
    for prompt in dict.fromkeys(prompts):
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
