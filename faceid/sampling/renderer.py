"""Pose videos to rendered videos: what is loaded once, and the path of one video from file to file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from faceid.errors import ConfigError, DataError, ModelError
from faceid.faces.identity import Identity
from faceid.geometry import Geometry
from faceid.media.fit import resize_frames
from faceid.media.video import measure_video, read_video, write_video
from faceid.models.adapter_file import AdapterMetadata
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.sampling.settings import SampleSettings

log = logging.getLogger(__name__)

# Outside it likeness or picture suffer (facts: users of strengths near 2 report "crunchy" pictures).
FACE_SCALE_RANGE = (0.3, 2.0)


@dataclass(frozen=True)
class VideoShape:
    """Size, length and rate of what is rendered."""

    num_frames: int
    height: int
    width: int
    fps: float


@dataclass
class Renderer:
    """A loaded pipeline and a face, ready for any number of pose videos."""

    pipeline: FaceIdentityPipeline
    face: Tensor | None
    shape: VideoShape
    settings: SampleSettings

    def render(self, pose_video: Path, output: Path, on_step: Callable[[int, int], None] | None = None) -> None:
        """Render one pose video to an mp4, verified before this returns.

        Raises: DataError when the pose video cannot be read or is too short.
        """
        frames = read_pose(pose_video, self.shape, self.pipeline.wan.geometry, self.settings)
        rendered = self.pipeline(
            frames,
            face_embedding=self.face,
            face_scale=self.settings.face_scale,
            prompt=self.settings.prompt,
            negative_prompt=self.settings.negative_prompt,
            cfg_scale=self.settings.cfg_scale,
            num_inference_steps=self.settings.num_inference_steps,
            seed=self.settings.seed,
            control_scale=self.settings.control_scale,
            on_step=on_step,
        )
        assert isinstance(rendered, np.ndarray)
        write_video(output, rendered, self.shape.fps)
        written = measure_video(output)
        if written.frames != len(frames):
            raise DataError(f"{output}: {written.frames} frames on disk, {len(frames)} rendered; is the disk full?")


def check_output(pose_video: Path, output: Path) -> None:
    """Make the folder of an output. Raises: DataError when it cannot be made, or the pose would be overwritten."""
    if output.resolve() == pose_video.resolve():
        raise DataError(f"output={output}: is the pose video, which would be overwritten; choose another")
    if output.is_dir():
        raise DataError(f"output={output}: is a folder; name a file in it")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output={output}: its folder cannot be made ({error.strerror}); choose another") from error


def read_pose(path: Path, shape: VideoShape, geometry: Geometry, settings: SampleSettings) -> np.ndarray:
    """The first frames of a pose video, fitted to the size: uint8 [T, H, W, 3].

    Frames are taken one by one: the rates written in pose files are often wrong.
    Raises: DataError when there are too few, naming the longest length it has frames for.
    """
    frames = read_video(path, max_frames=shape.num_frames).frames
    if len(frames) < shape.num_frames:
        step = geometry.temporal_factor
        longest = (len(frames) - 1) // step * step + 1
        raise DataError(f"{path}: {len(frames)} frames, {shape.num_frames} wanted; use --num_frames {longest}")
    return resize_frames(frames, shape.height, shape.width, settings.fit)


def choose_shape(settings: SampleSettings, metadata: AdapterMetadata | None, geometry: Geometry) -> VideoShape:
    """Size and length from the flags, else from the adapter. Raises: ConfigError when missing or illegal."""
    values: dict[str, float] = {}
    for name in ("num_frames", "height", "width", "fps"):
        given = getattr(settings, name)
        trained = getattr(metadata, name) if metadata is not None else 0
        if given is None and not trained:
            raise ConfigError(f"{name}: missing; without an adapter that says it, give --{name}")
        values[name] = given if given is not None else trained
        if given is not None and trained and given != trained and name != "fps":
            log.warning("%s=%s: the adapter was trained at %s; likeness may suffer", name, given, trained)
    shape = VideoShape(int(values["num_frames"]), int(values["height"]), int(values["width"]), float(values["fps"]))
    geometry.latent_shape(shape.num_frames, shape.height, shape.width)
    return shape


def check_face(identity: Identity | None, metadata: AdapterMetadata | None, settings: SampleSettings) -> Tensor | None:
    """The embedding to render with; warns of what has no effect. Raises: ModelError for another encoder's."""
    low, high = FACE_SCALE_RANGE
    if metadata is None:
        if identity is not None:
            raise ModelError("face_images_dir: a face is given, but no adapter; give --face_lora_path")
        return None
    if settings.face_scale == 0:
        log.warning("face_scale=0: the base model alone renders, without the face")
    elif not low <= settings.face_scale <= high:
        log.warning("face_scale=%s: outside %s to %s likeness or picture suffer", settings.face_scale, low, high)
    if identity is None:
        log.warning("no face given: the adapter renders no particular person; give --face_images_dir")
        return None
    if not identity.encoder_fingerprint:
        log.warning(
            "face_embedding: a bare tensor says not which encoder made it; the adapter wants %s", metadata.encoder
        )
    elif identity.encoder_fingerprint != metadata.encoder_fingerprint:
        raise ModelError(
            f"face_embedding: made by encoder {identity.encoder} ({identity.encoder_fingerprint[:12]}), the adapter "
            f"was trained with {metadata.encoder} ({metadata.encoder_fingerprint[:12]}); use that encoder"
        )
    return identity.embedding
