"""Convert sizes from pixels and frames to latents and tokens, all derived from a model's own config.

Legend: T H W frames and pixels; f h w latent frames and sizes. No other file of the package writes 8, 4, 16 or 96.
"""

from __future__ import annotations

from dataclasses import dataclass

from faceid.errors import ConfigError

# Pixels per latent cell of every Wan2.1, for places where no model is at hand.
WAN_SPATIAL_FACTOR = 8


@dataclass(frozen=True)
class Geometry:
    """The factors of one VAE and transformer pair."""

    spatial_factor: int
    """Pixels per latent cell, each side (Wan2.1: 8)."""
    temporal_factor: int
    """Frames per latent frame after the first (Wan2.1: 4)."""
    latent_channels: int
    """Channels of a video latent (Wan2.1: 16)."""
    patch_thw: tuple[int, int, int]
    """Latent cells per token (Wan2.1: 1, 2, 2)."""

    @property
    def size_multiple_px(self) -> int:
        """Height and width must be multiples of this many pixels (Wan2.1: 16)."""
        return self.spatial_factor * max(self.patch_thw[1], self.patch_thw[2])

    def latent_frames(self, num_frames: int, key: str = "num_frames") -> int:
        """f for T frames. key: the flag that gave them. Raises: ConfigError unless T = n * temporal_factor + 1."""
        self.check_num_frames(num_frames, key)
        return (num_frames - 1) // self.temporal_factor + 1

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """[C, f, h, w] of a clip of this size. Raises: ConfigError for an illegal size."""
        self.check_size(height, width)
        cells_hw = height // self.spatial_factor, width // self.spatial_factor
        return self.latent_channels, self.latent_frames(num_frames), *cells_hw

    def tokens(self, num_frames: int, height: int, width: int) -> int:
        """Transformer tokens of a clip of this size."""
        _, f, h, w = self.latent_shape(num_frames, height, width)
        patch_t, patch_h, patch_w = self.patch_thw
        return (f // patch_t) * (h // patch_h) * (w // patch_w)

    def check_num_frames(self, num_frames: int, key: str = "num_frames") -> None:
        """Raises: ConfigError naming the nearest legal counts."""
        step = self.temporal_factor
        if num_frames < 1 or (num_frames - 1) % step:
            below = max((num_frames - 1) // step, 0) * step + 1
            raise ConfigError(f"{key}={num_frames}: must be {step}n+1 for this model; use {below} or {below + step}")

    def check_size(self, height: int, width: int, keys: tuple[str, str] = ("height", "width")) -> None:
        """Raises: ConfigError naming the nearest legal sizes. keys: the flags that gave them."""
        step = self.size_multiple_px
        for name, value in zip(keys, (height, width), strict=True):
            if value < step or value % step:
                below = max(value // step, 1) * step
                raise ConfigError(
                    f"{name}={value}: must be a multiple of {step} px for this model; use {below} or {below + step}"
                )
