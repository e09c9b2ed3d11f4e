"""Settle how a video is rendered, whoever it shows, from the flags, an adapter and a base."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.errors import ConfigError
from faceid.geometry import Geometry
from faceid.media.images import read_photo
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.models.compute.context_parallel import check_heads
from faceid.models.rendering.denoise import ALL_AT_ONCE, LatentWindows
from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.video_settings import (
    ContentSettings,
    FrameSettings,
    PoseSettings,
    RenderOptions,
    WindowSettings,
)
from faceid.sampling.who.rendered_identities import Face
from faceid.sampling.who.shown_references import ShownReference, choose_references

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderSetup:
    """How a video is rendered, settled for an adapter and a base. A renderer follows it."""

    sampling: Sampling
    content: ContentSettings
    pose: PoseSettings
    shape: VideoShape
    windows: LatentWindows = ALL_AT_ONCE


def settle(options: RenderOptions, metadata: AdapterMetadata | None, geometry: Geometry) -> RenderSetup:
    """Fill in the adapter's training values where the flags say nothing. Raises: ConfigError for impossible values."""
    shape = choose_shape(options.frames, options.windows.window_frames is None, metadata, geometry)
    windows = choose_windows(options.windows, metadata, geometry)
    return RenderSetup(options.sampling, options.content, options.pose, shape, windows)


def references_of(
    given: tuple[ShownReference, ...], own_references: int | None, face: Face, metadata: AdapterMetadata | None
) -> tuple[ShownReference, ...]:
    """The pictures that the base looks at in a video of this face. Raises: DataError when there are too few."""
    # With the face off, the video is the base's own, unless references are asked for.
    is_trained_with = metadata is not None and metadata.reference_share > 0 and face.embedding is not None
    return choose_references(given, face.references, own_references, is_trained_with, face.name)


def check_setup(setup: RenderSetup, context_parallel: int, transformer_config: Mapping[str, Any]) -> None:
    """Raises: ConfigError or DataError for faults that a render would otherwise find only after loading weights."""
    check_heads(context_parallel, transformer_config["num_attention_heads"])
    for name in setup.content.reference_images:
        read_photo(Path(name))
    scales, blocks = setup.sampling.face_block_scales, transformer_config["num_layers"]
    if scales is not None and len(scales) != blocks:
        raise ConfigError(f"face_block_scales: {len(scales)} numbers; the base has {blocks} main blocks")


def choose_shape(
    frames: FrameSettings, is_windowed: bool, metadata: AdapterMetadata | None, geometry: Geometry
) -> VideoShape:
    """Size and length from the flags, else from the adapter. Raises: ConfigError when missing or illegal.

    is_windowed: a longer video is denoised in windows of the trained length, so no warning is needed.
    """
    values: dict[str, float] = {}
    for name in ("num_frames", "height", "width", "fps"):
        given = getattr(frames, name)
        if given == "all":
            given = 0
        trained = getattr(metadata, name) if metadata is not None else 0
        if given is None and not trained:
            raise ConfigError(f"{name}: missing; without an adapter that says it, give --{name}")
        values[name] = given if given is not None else trained
        is_like_trained = name == "fps" or (name == "num_frames" and is_windowed)
        if given and trained and given != trained and not is_like_trained:
            log.warning("%s=%s: the adapter was trained at %s; likeness may suffer", name, given, trained)
    shape = VideoShape(int(values["num_frames"]), int(values["height"]), int(values["width"]), float(values["fps"]))
    geometry.latent_shape(shape.num_frames or 1, shape.height, shape.width)
    return shape


def choose_windows(settings: WindowSettings, metadata: AdapterMetadata | None, geometry: Geometry) -> LatentWindows:
    """Latent frames denoised at once, and frames that windows share. Raises: ConfigError when illegal."""
    frames = settings.window_frames
    if frames is None:
        frames = metadata.num_frames if metadata is not None else 0
    if frames == 0:
        return LatentWindows()
    size = geometry.latent_frames(frames, "window_frames")
    overlap = frames // 4 if settings.window_overlap is None else settings.window_overlap
    step = geometry.temporal_factor
    shared = -(-overlap // step)
    if shared >= size and size > 1:
        raise ConfigError(f"window_overlap={overlap}: must leave of a window's {frames} frames {step} at least")
    return LatentWindows(size, min(shared, size - 1))
