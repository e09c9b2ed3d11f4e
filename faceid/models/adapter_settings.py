"""Settings of the adapter (its sizes, its LoRA, which blocks it touches), and the default prompts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume

GradientCheckpointing = Literal["none", "full", "attention"]
"""What a block recomputes in the backward pass: nothing, all of it, or all but its self-attention."""

# Neutral on purpose, in training and rendering alike. In AIST every dancer has one genre, so a genre word would name
# the dancer.
DEFAULT_PROMPT = "a person dancing in a studio"
DEFAULT_NEGATIVE_PROMPT = (
    "overexposed, static, blurred details, subtitles, worst quality, low quality, deformed face, "
    "extra fingers, fused fingers, disfigured, still picture, cluttered background"
)


@dataclass(frozen=True)
class AdapterSettings:
    """The face adapter: mapper, face attention, LoRA."""

    ON_RESUME: ClassVar[OnResume] = "same"

    conditioning_dim: Annotated[int, Field(gt=0, le=65536)] = 768
    """Width of a face token."""
    mapper_hidden_dim: Annotated[int, Field(gt=0, le=65536)] = 1024
    """Hidden width of the mapper."""
    num_mapper_layers: Annotated[int, Field(ge=2, le=64)] = 2
    """Linear layers of the mapper."""
    num_tokens: Annotated[int, Field(gt=0, le=1024)] = 8
    """Face tokens each block attends to."""
    mapper_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout inside the mapper."""
    lora_rank: Annotated[int, Field(gt=0, le=8192)] = 64
    """Rank of the LoRA on the transformer and on the mapper."""
    lora_alpha: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """LoRA alpha; the rank when not given, so that the LoRA's weight is 1."""
    lora_branch: Literal["base", "vace", "both"] = "base"
    """Which blocks get the LoRA. With `base` the VACE branch runs without a graph, saving a quarter of the work."""
    lora_layers: Literal["attention", "linear"] = "attention"
    """attention: q, k, v and o of both attentions; linear: the feed-forward and the VACE blocks' projections, too."""
    face_attention_every: Annotated[int, Field(gt=0, le=1000)] = 1
    """Face attention in every n-th main block."""
    face_modulation: bool = False
    """Also let the face shift each block's modulation (a small zero-initialised delta)."""
    target_tokens: bool = False
    """Also learn what is added to the face tokens of the target alone: what no embedding says."""
    target_words: Annotated[int, Field(ge=0, le=256)] = 0
    """Also learn so many words of the target's own. The base reads them as it reads a prompt's (textual inversion).
    They take the place of empty tokens at the end of the text."""

    @property
    def has_own_of_target(self) -> bool:
        """Whether it holds anything for the target alone."""
        return self.target_tokens or self.target_words > 0

    def has_face_attention(self, block: int) -> bool:
        """Whether the main block of that number, from 0, has face attention."""
        return block % self.face_attention_every == 0

    @property
    def alpha(self) -> float:
        """The LoRA alpha in use."""
        return float(self.lora_alpha if self.lora_alpha is not None else self.lora_rank)
