"""Convert frames to latents and back. This is the only place where latents are normalised.

Raw means are stored; the transformer sees normalised ones. The arithmetic follows WanVACEPipeline (diffusers 0.42,
`prepare_video_latents` and `__call__`), operation by operation, so that results equal its results to the bit.
Legend: B batch; T H W frames and pixels; C f h w latent channels, frames and sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor

from faceid.errors import ConfigError


def to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 RGB frames [T, H, W, 3] to [1, 3, T, H, W] float32 in [-1, 1], as diffusers' VideoProcessor does it."""
    shown = torch.from_numpy(frames).permute(3, 0, 1, 2)
    # The values are changed in place in one new array, because a clip of 65 frames at 480p takes 312 MB. diffusers
    # divides by 255 and doubles. Doubling is exact, so this gives the same number to the bit.
    pixels = torch.empty(shown.shape, dtype=torch.float32).copy_(shown)
    return pixels.div_(127.5).sub_(1.0).unsqueeze(0)


def to_frames(pixels: Tensor) -> np.ndarray:
    """[1, 3, T, H, W] in [-1, 1] to uint8 RGB frames [T, H, W, 3], rounded to nearest."""
    unit = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0)
    return (unit * 255.0).round().to(torch.uint8).cpu().numpy()


@torch.no_grad()
def encode_pixels(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Encode [B, 3, T, H, W] in [-1, 1] to raw VAE means [B, C, f, h, w], float32 (the mode, never a sample)."""
    posterior = vae.encode(pixels.to(device=vae.device, dtype=vae.dtype)).latent_dist
    return posterior.mode().float()


def encode_grey(vae: AutoencoderKLWan, num_frames: int, height: int, width: int) -> Tensor:
    """Raw means [C, f, h, w] of a mid grey clip: the inactive half of the control where all is generated."""
    return encode_pixels(vae, torch.zeros(1, 3, num_frames, height, width))[0]


@torch.no_grad()
def decode_latents(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode normalised latents [B, C, f, h, w] to pixels [B, 3, T, H, W] in [-1, 1]."""
    latents = latents.to(vae.device, vae.dtype)
    return vae.decode(statistics_of(vae.config).denormalise(latents), return_dict=False)[0]


def decode_unclamped(vae: AutoencoderKLWan, raw: Tensor) -> Tensor:
    """Decode raw latents [B, C, f, h, w] to pixels [B, 3, T, H, W], with gradient and without diffusers' clamp.

    It is for training a VAE. Where the clamp holds a pixel at -1 or 1 there is no gradient, and black stays black.
    """
    vae.clear_cache()
    latents, frames = vae.post_quant_conv(raw), []
    for index in range(raw.shape[2]):
        vae._conv_idx = [0]
        first = {"first_chunk": True} if index == 0 else {}
        one = latents[:, :, index : index + 1]
        frames.append(vae.decoder(one, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, **first))
    vae.clear_cache()
    # A decoder with patches (Wan2.2's) gives each patch's pixels as channels.
    return unpatchify(torch.cat(frames, dim=2), vae.config.patch_size or 1)


def through_vae(vae: AutoencoderKLWan, frames: np.ndarray) -> np.ndarray:
    """What a VAE leaves of a clip, uint8 [T, H, W, 3], as renders have been through it. T' <= T: 4n+1 frames.

    Raises: ConfigError for a size that the VAE cannot take.
    """
    config = vae.config
    temporal, spatial = config.scale_factor_temporal, config.scale_factor_spatial
    height, width = frames.shape[1:3]
    if height % spatial or width % spatial:
        raise ConfigError(f"{width}x{height}: this VAE takes multiples of {spatial} pixels; scale the clip")
    whole = (len(frames) - 1) // temporal * temporal + 1
    statistics = statistics_of(config)
    latents = statistics.normalise(encode_pixels(vae, to_pixels(frames[:whole])))
    return to_frames(decode_latents(vae, latents))


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and spread of a VAE's raw latents, per channel, read from its config."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw VAE means [B, C, f, h, w] to the transformer's input, float32."""
        mean, inverse_std = self._tensors(raw.device)
        return (raw.float() - mean) * inverse_std

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`, in the given dtype."""
        mean, inverse_std = (value.to(latents.dtype) for value in self._tensors(latents.device))
        return latents / inverse_std + mean

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and 1/std, [1, C, 1, 1, 1], float32. We multiply by the inverse, because the pipeline does."""
        mean = torch.tensor(self.mean, device=device, dtype=torch.float32).view(1, -1, 1, 1, 1)
        return mean, 1.0 / torch.tensor(self.std, device=device, dtype=torch.float32).view(1, -1, 1, 1, 1)


def statistics_of(vae_config: Mapping[str, Any]) -> LatentStatistics:
    """Read the statistics of a VAE's config (the module's, or its config.json)."""
    return LatentStatistics(mean=tuple(vae_config["latents_mean"]), std=tuple(vae_config["latents_std"]))
