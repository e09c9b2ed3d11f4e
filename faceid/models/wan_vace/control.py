"""Build the VACE control tensor.

It has an inactive half, a reactive half and a mask, with reference frames before them. The result equals, to the bit,
what `WanVACEPipeline.prepare_video_latents` and `prepare_masks` assemble (diffusers 0.42). The latents may come from a
cache. Training and sampling build their control here and nowhere else.

Legend: B batch; T H W frames and pixels; C f h w latent channels, frames and sizes; R reference images.
s: spatial factor (pixels per latent cell side). "Active" pixels (mask 1) are generated, inactive ones are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceid.geometry import Geometry


def mask_channels(geometry: Geometry) -> int:
    """Channels of the mask: each latent cell's pixels are folded into channels (Wan2.1: 64)."""
    return geometry.spatial_factor**2


def control_channels(geometry: Geometry) -> int:
    """Channels of inactive half, reactive half and mask (Wan2.1: 96)."""
    return 2 * geometry.latent_channels + mask_channels(geometry)


def assemble_control(inactive: Tensor, reactive: Tensor, mask: Tensor, references: Sequence[Tensor] = ()) -> Tensor:
    """Build the control [B, 2C + s*s, R + f, h, w] from normalised latents.

    inactive, reactive: [B, C, f, h, w]. mask: folded, [B, s*s, f, h, w]. references: normalised single-frame latents
    [B, C, 1, h, w], in the order the user gave them. The pipeline prepends one by one, so the last ends up first.
    A reference frame has a zero reactive half and a zero mask: it is kept, not generated.
    """
    halves = torch.cat([inactive, reactive], dim=1)
    return prepend_references(torch.cat([halves, mask.to(halves.dtype)], dim=1), references)


def prepend_references(control: Tensor, references: Sequence[Tensor]) -> Tensor:
    """Put reference frames before a control tensor, as `assemble_control` does with its references."""
    for reference in references:
        channels = control.shape[1] - reference.shape[1]
        zeros = reference.new_zeros(reference.shape[0], channels, *reference.shape[2:])
        control = torch.cat([torch.cat([reference, zeros], dim=1).to(control), control], dim=2)
    return control


def pose_control(pose: Tensor, inactive: Tensor, geometry: Geometry, references: Sequence[Tensor] = ()) -> Tensor:
    """Build the control of a pose video. All of it is active: the mask is ones and the inactive half is constant.

    pose, inactive: normalised latents [B, C, f, h, w]; inactive is the latent of an all-zero (mid-grey) video.
    references: as in `assemble_control`.
    """
    batch, _, f, h, w = pose.shape
    mask = pose.new_ones(batch, mask_channels(geometry), f, h, w)
    return assemble_control(inactive.expand_as(pose), pose, mask, references)
