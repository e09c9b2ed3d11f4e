"""Face attention: each main block's text cross-attention also looks at the face tokens.

The text query is reused. Bias-free projections make keys and values of the face tokens. Values start at zero, so a new
adapter changes nothing. The result, times face_scale, is added to the text attention before the shared output
projection, and nothing normalises after it. IP-Adapter (Ye et al. 2023) and Lynx use the same idea.

The VACE blocks carry the pose and must not see the face. Their processor drops the face rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import Tensor, nn

from faceid.models.adapter.face_tokens import TokenRows
from faceid.models.compute.context_parallel import TokenShare

MODULATION_RANK = 16
# Rows of a block's modulation (WanTransformerBlock): shift, scale and gate of self-attention, then of the feed-forward.
SHIFT_ATTENTION, GATE_ATTENTION = 0, 2


class FaceAttention(nn.Module):
    """Keys and values of one block's face attention. It is a submodule `face` of the block's `attn2`."""

    def __init__(self, conditioning_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(conditioning_dim, inner_dim, bias=False)
        self.value = nn.Linear(conditioning_dim, inner_dim, bias=False)
        nn.init.zeros_(self.value.weight)
        # This block's own share of face_scale (FaceAdapter.set_block_strengths).
        self.strength = 1.0

    def forward(self, tokens: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
        """Face tokens [B, K, C] to keys and values [B, K, heads, head_dim]. Keys have unit mean square."""
        key = self.key(tokens)
        key = F.rms_norm(key, key.shape[-1:])
        return key.unflatten(2, (num_heads, -1)), self.value(tokens).unflatten(2, (num_heads, -1))


class FaceModulation(nn.Module):
    """A face-dependent delta on one block's modulation. It is a submodule `face_modulation` of the block."""

    def __init__(self, rows: TokenRows) -> None:
        super().__init__()
        self.rows = rows
        self.down = nn.Linear(rows.num_tokens * rows.conditioning_dim, MODULATION_RANK, bias=False)
        self.up = nn.Linear(MODULATION_RANK, 2 * rows.inner_dim, bias=False)
        nn.init.zeros_(self.up.weight)
        self.strength = 1.0

    def forward(self, packed: Tensor, modulation: Tensor) -> Tensor:
        """Add the delta of rows [B, num_rows, I] to modulation [B, 6, I].

        A modulation has no frames. For a face that changes over them, packed [B, frames * num_rows, I], the mean
        counts.
        """
        batch, num_faces = len(packed), packed.shape[1] // self.rows.num_rows
        tokens, face_scale = unpack_faces(packed, self.rows, num_faces)
        if self.strength != 1.0:
            face_scale = face_scale * self.strength
        shift, gate = self.up(self.down(tokens.flatten(1))).chunk(2, dim=1)
        if num_faces > 1:
            face_scale = face_scale.view(batch, num_faces)[:, 0]
            shift, gate = (delta.view(batch, num_faces, -1).mean(1) for delta in (shift, gate))
        delta = torch.zeros_like(modulation)
        delta[:, SHIFT_ATTENTION] = (face_scale.unsqueeze(1) * shift).to(delta.dtype)
        delta[:, GATE_ATTENTION] = (face_scale.unsqueeze(1) * torch.tanh(gate)).to(delta.dtype)
        return modulation + delta


class FaceAttnProcessor:
    """`attn2` of a main block: text attention plus face_scale times face attention, then the shared projection."""

    # diffusers' set_attention_backend writes this attribute.
    _attention_backend = None
    _parallel_config = None

    def __init__(
        self, rows: TokenRows, num_faces: int = 1, share: TokenShare | None = None, learns_text: bool = False
    ) -> None:
        """num_faces: number of latent frames if each has its own face (FaceAdapter.set_num_faces), else 1.

        learns_text: whether a part of the text is learnt (target_words).
        """
        self.rows, self.num_faces, self.share, self.learns_text = rows, num_faces, share, learns_text

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """hidden_states [B, S, I]; encoder_hidden_states [B, faces * num_rows + L, I], face rows first.

        With a share, S counts the tokens of this process alone.
        """
        packed, text = split_rows(encoder_hidden_states, self.rows, self.num_faces, self.learns_text)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(text)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(text).unflatten(2, (attn.heads, -1))
        attended = self._attend(query, key, value, attention_mask)
        if hasattr(attn, "face"):
            tokens, face_scale = unpack_faces(packed, self.rows, self.num_faces)
            if attn.face.strength != 1.0:
                face_scale = face_scale * attn.face.strength
            face_key, face_value = (one.to(query.dtype) for one in attn.face(tokens, attn.heads))
            scale = face_scale.view(-1, 1, 1).to(attended.dtype)
            if self.num_faces == 1:
                face = scale * self._attend(query, face_key, face_value, None)
            else:
                face = self._attend_by_frame(query, face_key, face_value, scale)
            attended = attended + face
        return attn.to_out[1](attn.to_out[0](attended))

    def _attend_by_frame(self, query: Tensor, key: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """Attend from each frame's tokens, which follow each other, to that frame's face: [B, S, I].

        query: [B, S, heads, D]. key, value: [B * frames, K, heads, D]. scale: [B * frames, 1, 1].
        """
        start, end, total = (0, query.shape[1], query.shape[1])
        if self.share is not None:
            start, end, total = self.share.start, self.share.end, self.share.total
        of_frame = total // self.num_faces
        # A share may begin and end within a frame. The missing tokens are filled up, and cut off again.
        first, last = start // of_frame, -(-end // of_frame)
        before, after = start - first * of_frame, last * of_frame - end
        asking = F.pad(query, (0, 0, 0, 0, before, after)).unflatten(1, (last - first, of_frame)).flatten(0, 1)
        asked = (one.unflatten(0, (-1, self.num_faces))[:, first:last].flatten(0, 1) for one in (key, value, scale))
        key, value, scale = asked
        face = scale * self._attend(asking, key, value, None)
        return face.unflatten(0, (len(query), -1)).flatten(1, 2)[:, before : before + query.shape[1]]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        attended = dispatch_attention_fn(
            query, key, value, attn_mask=mask, dropout_p=0.0, is_causal=False, backend=self._attention_backend
        )
        return attended.flatten(2, 3).type_as(query)


class TextOnlyAttnProcessor(WanAttnProcessor):
    """`attn2` of a VACE block: the stock processor on the text part alone."""

    def __init__(self, rows: TokenRows, num_faces: int = 1) -> None:
        super().__init__()
        self.rows, self.num_faces = rows, num_faces

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Drop the face rows of encoder_hidden_states [B, num_rows + L, I] and continue as usual."""
        _, text = split_rows(encoder_hidden_states, self.rows, self.num_faces)
        return super().__call__(attn, hidden_states, text, attention_mask, rotary_emb)


def split_rows(
    encoder_hidden_states: Tensor, rows: TokenRows, num_faces: int = 1, learns_text: bool = False
) -> tuple[Tensor, Tensor]:
    """The face rows, and the text tokens, detached from their graph unless they are learnt.

    A slice of a tensor that carries gradient carries gradient, although the text part itself has none. Without the
    detach the whole VACE branch would silently get a graph.
    """
    count = num_faces * rows.num_rows
    packed, text = encoder_hidden_states[:, :count], encoder_hidden_states[:, count:]
    return packed, text if learns_text else text.detach()


def unpack_faces(packed: Tensor, rows: TokenRows, num_faces: int) -> tuple[Tensor, Tensor]:
    """Rows [B, faces * num_rows, I] to tokens [B * faces, K, C] and face_scale [B * faces]."""
    return rows.unpack(packed if num_faces == 1 else packed.unflatten(1, (num_faces, -1)).flatten(0, 1))


def add_face_modulation(block: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Add the delta to the modulation, as forward pre-hook of a WanTransformerBlock.

    args: (hidden, encoder_hidden, modulation, rotary).
    """
    hidden_states, encoder_hidden_states, modulation, *rest = args
    if not isinstance(block.attn2.processor, FaceAttnProcessor):  # type: ignore[union-attr]
        return args  # the adapter is off, so no face rows came in
    module, processor = block.face_modulation, block.attn2.processor  # type: ignore[union-attr]
    packed, _ = split_rows(encoder_hidden_states, processor.rows, processor.num_faces)
    return (hidden_states, encoder_hidden_states, module(packed, modulation), *rest)  # type: ignore[operator]
