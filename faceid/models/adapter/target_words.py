"""Words of the target's own: learnt vectors in the text that the base reads (textual inversion, Gal et al. 2022).

They are added to the last tokens of a prompt's embedding, which prompts leave empty. So the base reads them through
weights that it has, in every block, as it reads what a prompt says of a person. No gradient passes through the blocks
that carry hints (face_attention).

Legend: B batch; L text tokens; W words; D_text width of the text encoder; D size of a face embedding; F latent frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# In units of a prompt's own tokens. Words that begin alike would stay alike: all would get one gradient.
WORD_STD = 0.02


class TargetWords(nn.Module):
    """Words of one person, for the texts of those samples that show this person."""

    def __init__(self, num_words: int, text_dim: int) -> None:
        super().__init__()
        # Drawn apart, so that all else of an adapter begins the same with and without them.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        self.vectors = nn.Parameter(WORD_STD * torch.randn(num_words, text_dim, generator=generator, device="cpu"))

    @torch.no_grad()
    def begin_with(self, tokens: Tensor) -> None:
        """Let the first words be tokens [n, D_text], n at most W, in units of a prompt's own. Others stay."""
        self.vectors[: len(tokens)] = tokens.to(self.vectors)

    def forward(self, text: Tensor, face_input: Tensor, face_embedding_dim: int) -> Tensor:
        """Add the words to text [B, L, D_text], times how much of the target each face is, and its scale.

        face_input: [B, D + 2] or [B, F, D + 2] as `face_tokens.face_input` joins it; a text has no frames, so the mean
        over frames counts. With D + 1 nobody is the target, and the text is returned as it is.
        """
        embedding, numbers = face_input[..., :face_embedding_dim], face_input[..., face_embedding_dim:]
        if numbers.shape[-1] == 1:
            return text
        strength = numbers.prod(dim=-1) * (embedding != 0).any(dim=-1)
        if strength.dim() == 2:
            strength = strength.mean(dim=1)
        words = (strength.view(-1, 1) * token_size(text)).unsqueeze(2).to(self.vectors.dtype) * self.vectors
        before = text.shape[1] - len(self.vectors)
        return torch.cat([text[:, :before], text[:, before:] + words.to(text.dtype)], dim=1)


def token_size(text: Tensor) -> Tensor:
    """The size of a text's own tokens, [B, 1]: the root of their mean square. text: [B, L, D_text].

    Of a text encoder whose last layer is a norm, all tokens have one size.
    """
    empty = text.abs().amax(dim=2, keepdim=True) == 0
    return (text.float().pow(2).mean(dim=2, keepdim=True).sum(1) / (~empty).sum(1).clamp_min(1)).sqrt()


def add_target_words(condition_embedder: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add the words to the text, as forward pre-hook of the transformer's condition embedder.

    args: (timestep, text, face input or None, ...).
    """
    timestep, text, face, *rest = args
    if face is None:
        return args  # the adapter is off
    embedder: Any = condition_embedder.image_embedder
    return (timestep, embedder.target_words(text, face, embedder.mapper.face_embedding_dim), face, *rest)
