"""The inputs from which one video is rendered, and further options of a pipeline call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
from torch import Tensor

from faceid.models.rendering.denoise import OnStep


@dataclass(frozen=True)
class CallOptions:
    """Options of a pipeline call besides `Sampling`, and what the video shows."""

    reference_images: Sequence[PIL.Image.Image] = ()
    """Pictures that the base itself looks at."""
    on_step: OnStep | None = None
    """Called with (steps done, total steps)."""
    output_type: str = "frames"
    """frames, or latent for normalised latents."""
    window: int | None = None
    """Latent frames denoised at once; None: all."""
    overlap: int = 0
    """Latent frames that neighbouring windows share at least."""
    target_share: float | Tensor = 0.0
    """1 for the person that the adapter was trained on, who has tokens of their own in it. [R + f] as `face_embedding`
    has them."""


@dataclass(frozen=True)
class VideoInputs:
    """The inputs from which one video is rendered, on any device.

    control: [1, control channels, R + f, h, w], from `control` or a cache. text, negative_text: [L, D]. face: [D], or
    [R + f, D] for a changing face; None for nobody in particular. num_references: R.
    """

    control: Tensor
    text: Tensor
    negative_text: Tensor
    face: Tensor | None = None
    num_references: int = 0
    target_share: float | Tensor = 0.0
    """How much of the adapter's target is in the face, 0 to 1: one number, or [R + f] for a changing face."""
