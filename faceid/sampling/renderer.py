"""Pose videos to rendered videos: what is loaded once, and the path of one video from file to file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from faceid.errors import ConfigError, DataError
from faceid.geometry import Geometry
from faceid.media.fit import resize_frames
from faceid.media.video import measure_video, read_video, write_video
from faceid.models.adapter_file import AdapterMetadata
from faceid.models.denoise import Sampling
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.sampling.settings import SampleSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoShape:
    """Size, length and rate of what is rendered."""

    num_frames: int
    height: int
    width: int
    fps: float


@dataclass
class Renderer:
    """A loaded pipeline, ready for any pose and any face; the prompts are encoded once."""

    pipeline: FaceIdentityPipeline
    shape: VideoShape
    settings: SampleSettings

    @property
    def face_scale(self) -> float:
        """As rendered: 0, the base model, without an adapter."""
        return self.settings.face_scale if self.pipeline.adapter is not None else 0.0

    def prepare(self, pose_video: Path) -> Tensor:
        """The control tensor of a pose video: what rendering needs of it, the same for every face.

        Raises: DataError when the pose video cannot be read or is too short.
        """
        return self.pipeline.control(read_pose(pose_video, self.shape, self.pipeline.wan.geometry, self.settings))

    def render(
        self, control: Tensor, face: Tensor | None, output: Path, on_step: Callable[[int, int], None] | None = None
    ) -> None:
        """Render one face on one pose to an mp4, verified before this returns.

        control: from `prepare`. face: [D], unit length; None for no particular person.
        """
        settings = self.settings
        sampling = Sampling(
            settings.face_scale,
            settings.cfg_scale,
            settings.num_inference_steps,
            settings.seed,
            settings.control_scale,
            settings.cfg_start,
        )
        latents = self.pipeline.sample_latents(control, *self._texts, face, sampling, on_step)
        write_video(output, self.pipeline.decode(latents), self.shape.fps)
        written = measure_video(output).frames
        if written != self.shape.num_frames:
            raise DataError(f"{output}: {written} frames on disk, {self.shape.num_frames} rendered; is the disk full?")

    @cached_property
    def _texts(self) -> tuple[Tensor, Tensor]:
        return self.pipeline.encode_prompts(self.settings.prompt, self.settings.negative_prompt)


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
