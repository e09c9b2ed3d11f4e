"""Turn a face embedding into face tokens, and pass them through an unchanged WanVACETransformer3DModel.

`FaceEmbedder` sits where diffusers keeps its image embedder. The embedding enters by the existing argument
`encoder_hidden_states_image` and leaves concatenated before the text tokens. Tokens may be wider or narrower than the
transformer, and each sample brings its own face_scale. So they travel packed in rows of the transformer's width. The
modules hold no state: gradient checkpointing, DDP, ZeRO and compile see an ordinary forward.

Legend: B batch; D embedding size; K face tokens; C width of a face token; I inner width of the transformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class FaceConditioningBlock(nn.Module):
    """The face mapper: one embedding to K tokens.

    Layers: linear, GELU, dropout, linear to all tokens, LayerNorm. A low-rank delta (LoRA) on the last layer stays
    trainable when the mapper is frozen. A zero embedding means "no face" and selects the learned null tokens.
    """

    def __init__(
        self,
        face_embedding_dim: int = 768,
        conditioning_dim: int = 768,
        hidden_dim: int = 1024,
        num_mapper_layers: int = 2,
        num_tokens: int = 8,
        use_lora: bool = True,
        lora_rank: int = 64,
        dropout: float = 0.1,
        has_target_tokens: bool = False,
    ) -> None:
        """has_target_tokens: also learn what is added to the tokens of one person, the target."""
        super().__init__()
        self.face_embedding_dim, self.conditioning_dim, self.num_tokens = (
            face_embedding_dim,
            conditioning_dim,
            num_tokens,
        )
        layers: list[nn.Module] = []
        width = face_embedding_dim
        for _ in range(num_mapper_layers - 1):
            layers += [nn.Linear(width, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
            width = hidden_dim
        self.layers = nn.Sequential(*layers)
        self.to_tokens = nn.Linear(width, num_tokens * conditioning_dim)
        self.norm = nn.LayerNorm(conditioning_dim)
        self.null_tokens = nn.Parameter(torch.randn(num_tokens, conditioning_dim) * 0.02)
        # It starts at zero: the target begins as the mapper makes it of the embedding.
        self.target_tokens = nn.Parameter(torch.zeros(num_tokens, conditioning_dim)) if has_target_tokens else None
        self.lora_down = self.lora_up = None
        if use_lora:
            # The mapper starts from nothing, so there is nothing to preserve. Both halves start small and random, and
            # both learn from the first step that reaches the mapper.
            self.lora_down = nn.Linear(width, lora_rank, bias=False)
            self.lora_up = nn.Linear(lora_rank, num_tokens * conditioning_dim, bias=False)
            nn.init.normal_(self.lora_up.weight, std=0.02 / math.sqrt(lora_rank))

    def forward(self, embedding: Tensor, target_share: Tensor | None = None) -> Tensor:
        """[B, D], unit length or zero, to tokens [B, K, C].

        target_share: [B], how much of the target is in each face: 1 the target, 0 somebody else; None is 0 for all.
        """
        # A unit vector has numbers near 1/sqrt(D). They are brought to the size that layers are initialised for.
        hidden = self.layers(embedding * math.sqrt(self.face_embedding_dim))
        tokens = self.to_tokens(hidden)
        if self.lora_down is not None and self.lora_up is not None:
            tokens = tokens + self.lora_up(self.lora_down(hidden))
        tokens = self.norm(tokens.unflatten(1, (self.num_tokens, self.conditioning_dim)))
        if self.target_tokens is not None and target_share is not None:
            tokens = tokens + target_share.view(-1, 1, 1).to(tokens.dtype) * self.target_tokens
        is_face = (embedding != 0).any(dim=1).view(-1, 1, 1)
        return torch.where(is_face, tokens, self.null_tokens.to(tokens.dtype))

    def lora_parameters(self) -> list[nn.Parameter]:
        """The parameters that keep training when the mapper is frozen."""
        parts = [part for part in (self.lora_down, self.lora_up) if part is not None]
        return [parameter for part in parts for parameter in part.parameters()]


@dataclass(frozen=True)
class TokenRows:
    """How K tokens of width C and one scale are packed into rows of width I."""

    num_tokens: int
    conditioning_dim: int
    inner_dim: int

    @property
    def num_rows(self) -> int:
        """Rows before the text tokens: enough for every token value and the scale."""
        return math.ceil((self.num_tokens * self.conditioning_dim + 1) / self.inner_dim)

    def pack(self, tokens: Tensor, face_scale: Tensor) -> Tensor:
        """tokens [B, K, C] and face_scale [B] to rows [B, num_rows, I]."""
        flat = torch.cat([tokens.flatten(1), face_scale.to(tokens.dtype).unsqueeze(1)], dim=1)
        padding = self.num_rows * self.inner_dim - flat.shape[1]
        return nn.functional.pad(flat, (0, padding)).unflatten(1, (self.num_rows, self.inner_dim))

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, num_rows, I] to tokens [B, K, C] and face_scale [B]."""
        flat, size = rows.flatten(1), self.num_tokens * self.conditioning_dim
        return flat[:, :size].unflatten(1, (self.num_tokens, self.conditioning_dim)), flat[:, size]


class FaceEmbedder(nn.Module):
    """The module that replaces `condition_embedder.image_embedder`: a face input to packed rows."""

    def __init__(self, mapper: FaceConditioningBlock, rows: TokenRows) -> None:
        super().__init__()
        self.mapper, self.rows = mapper, rows

    def forward(self, face_input: Tensor) -> Tensor:
        """[B, D + 1 or 2] from `face_input` to rows [B, num_rows, I]; [B, F, D + 1 or 2] to [B, F * num_rows, I]."""
        if face_input.dim() == 3:
            return self(face_input.flatten(0, 1)).unflatten(0, face_input.shape[:2]).flatten(1, 2)
        dtype, size = self.mapper.to_tokens.weight.dtype, self.mapper.face_embedding_dim
        share = face_input[:, size] if face_input.shape[1] > size + 1 else None
        tokens = self.mapper(face_input[:, :size].to(dtype), share)
        rows = self.rows.pack(tokens, face_input[:, -1])
        device_type = rows.device.type
        # LayerNorm leaves autocast's dtype. Rows in another dtype would lift the text tokens to it as well.
        return rows.to(torch.get_autocast_dtype(device_type)) if torch.is_autocast_enabled(device_type) else rows


def face_input(
    embedding: Tensor, face_scale: float | Tensor = 1.0, target_share: float | Tensor | None = None
) -> Tensor:
    """Join embeddings [..., D], their scales and target shares to the model's face input [..., D + 1] or [..., D + 2].

    Use [B, D] for one face a video, and [B, F, D] for one face a latent frame. face_scale: a number, or [...].
    target_share: the same, how much of the adapter's target is in a face; None is nothing, and takes no number.
    """
    numbers = [face_scale] if target_share is None else [target_share, face_scale]
    columns = [
        torch.as_tensor(number, dtype=embedding.dtype, device=embedding.device).expand(embedding.shape[:-1])
        for number in numbers
    ]
    return torch.cat([embedding, torch.stack(columns, dim=-1)], dim=-1)
