"""Pose videos to rendered videos: what is loaded once, and the path of one video from file to file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faceid.errors import ConfigError, DataError
from faceid.files.outputs import refuse_hidden
from faceid.geometry import Geometry
from faceid.media.images import read_photo
from faceid.media.video import measure_video, write_video
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.models.compute.context_parallel import check_heads
from faceid.models.rendering.denoise import LatentWindows
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.pipeline import FaceIdentityPipeline, VideoInputs
from faceid.sampling.one_video.poses import VideoShape, is_one_by_one, read_pose, say_timing
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.sampling.one_video.sidecar import Inputs
from faceid.sampling.one_video.texts import Texts
from faceid.sampling.sampling_settings import SampleSettings
from faceid.sampling.who.rendered_identities import Face

log = logging.getLogger(__name__)

# What is kept of a pose video.
CONTROL, POSE_FRAMES = "control", "frames"
# Flags that say how is sampled, under the names that the model's side has for them.
SAME_IN_SAMPLING = tuple(field.name for field in fields(Sampling))


@dataclass(frozen=True)
class Control:
    """What rendering needs of a pose video, the same for every face.

    tensor: [1, control channels, R + f, h, w]. taken: as of `Pose`, [T]; f frames of latents may decode to more than T.
    """

    tensor: Tensor
    taken: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """T, of the video."""
        return len(self.taken)

    @property
    def pose_frames(self) -> list[int] | None:
        """What is recorded of a video: the frames of the pose that its frames follow; None where that is each one."""
        return None if is_one_by_one(self.taken) else list(self.taken)


@dataclass
class Renderer:
    """A loaded pipeline, ready for any pose and any face; the prompts are encoded once."""

    pipeline: FaceIdentityPipeline
    shape: VideoShape
    settings: SampleSettings
    window: tuple[int | None, int] = (None, 0)
    """Latent frames denoised at once, and those that windows share: from `choose_window`."""
    texts: Texts | None = None
    """Where prompts are encoded; by the pipeline without."""

    @property
    def face_scale(self) -> float:
        """As rendered: 0, the base model, without an adapter."""
        return self.settings.face_scale if self.pipeline.adapter is not None else 0.0

    def prepare(self, pose_video: Path) -> Control:
        """What rendering needs of a pose video, the same for every face.

        Raises: DataError when the pose video cannot be read or is too short.
        """
        pose = read_pose(pose_video, self.shape, self.pipeline.wan.geometry, self.settings)
        say_timing(pose_video, pose, self.shape)
        return Control(self.pipeline.control(pose.frames, self._references), pose.taken)

    def prepare_once(self, pose_video: Path, inputs: Inputs, cache: ResultCache | None) -> Control:
        """As `prepare`, found in the cache where it was made before. inputs: of this video."""
        if cache is None:
            return self.prepare(pose_video)
        made_of = self.made_of(inputs.pose, inputs.references)
        tensor, taken = (cache.get(kind, made_of) for kind in (CONTROL, POSE_FRAMES))
        if tensor is not None and taken is not None:
            return Control(tensor, tuple(taken.tolist()))
        control = self.prepare(pose_video)
        cache.put(CONTROL, made_of, control.tensor)
        cache.put(POSE_FRAMES, made_of, torch.tensor(control.taken))
        return control

    def made_of(self, pose_sha256: str, references: Sequence[str]) -> dict[str, Any]:
        """What a control tensor depends on, beside the base: for a cache of them."""
        shape = {name: getattr(self.shape, name) for name in ("num_frames", "height", "width")}
        timing = self.settings.pose_timing
        # One by one, the rate is written into the file alone.
        shape |= {"timing": timing, **({} if timing == "frames" else {"fps": self.shape.fps})}
        return {"pose": pose_sha256, "references": list(references), **shape, "fit": self.settings.fit}

    def denoise(
        self, control: Control, face: Face, seed: int, on_step: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """The latents of one face on one pose, reference frames left off."""
        count = len(self.settings.reference_images)
        sampling = sampling_of(self.settings)
        encode = self.texts.of if self.texts is not None else self.pipeline.encode_prompts
        text, negative_text = encode(self.settings.prompt, self.settings.negative_prompt)
        embedding = face.over(control.tensor.shape[2] - count, count)
        inputs = VideoInputs(control.tensor, text, negative_text, embedding, count)
        latents = self.pipeline.sample_latents(inputs, sampling, seed, LatentWindows(*self.window), on_step)
        return latents[:, :, count:]

    def write(self, latents: Tensor, output: Path, num_frames: int) -> np.ndarray:
        """Decode to an mp4 of so many frames, verified before this returns. May run beside another's denoising.

        Its middle frame, uint8 [H, W, 3].
        """
        frames = self.pipeline.decode(latents)[:num_frames]
        write_video(output, frames, self.shape.fps)
        written = measure_video(output).frames
        if written != len(frames):
            raise DataError(f"{output}: {written} frames on disk, {len(frames)} rendered; is the disk full?")
        return frames[len(frames) // 2]

    @cached_property
    def _references(self) -> list[Image.Image]:
        return [Image.fromarray(read_photo(Path(name))) for name in self.settings.reference_images]


def sampling_of(settings: SampleSettings) -> Sampling:
    """How a video is sampled. Raises: ConfigError for what cannot be."""
    return Sampling(**{name: getattr(settings, name) for name in SAME_IN_SAMPLING})


def check_how(settings: SampleSettings, window: tuple[int | None, int], transformer_config: Mapping[str, Any]) -> None:
    """Raises: ConfigError or DataError for what a render would find out only once weights are loaded."""
    sampling_of(settings)
    LatentWindows(*window)
    check_heads(settings.context_parallel, transformer_config["num_attention_heads"])
    for name in settings.reference_images:
        read_photo(Path(name))
    scales, blocks = settings.face_block_scales, transformer_config["num_layers"]
    if scales is not None and len(scales) != blocks:
        raise ConfigError(f"face_block_scales: {len(scales)} numbers; the base has {blocks} main blocks")


def check_output(pose_video: Path, output: Path) -> None:
    """Make the folder of an output. Raises: DataError when it cannot be made, or the pose would be overwritten."""
    if output.resolve() == pose_video.resolve():
        raise DataError(f"output={output}: is the pose video, which would be overwritten; choose another")
    refuse_hidden(output, "output")
    if output.is_dir():
        raise DataError(f"output={output}: is a folder; name a file in it")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output={output}: its folder cannot be made ({error.strerror}); choose another") from error


def check_output_dir(output_dir: Path, poses: set[Path], people: Sequence[str]) -> None:
    """Raises: DataError when a folder to write to holds the pose videos, which would be overwritten."""
    holding = {pose.parent.resolve() for pose in poses}
    for folder in {output_dir / person for person in people}:
        if folder.resolve() in holding:
            raise DataError(f"output_dir={folder}: holds the pose videos, which would be overwritten; choose another")


def choose_shape(settings: SampleSettings, metadata: AdapterMetadata | None, geometry: Geometry) -> VideoShape:
    """Size and length from the flags, else from the adapter. Raises: ConfigError when missing or illegal."""
    values: dict[str, float] = {}
    for name in ("num_frames", "height", "width", "fps"):
        given = getattr(settings, name)
        if given == "all":
            given = 0
        trained = getattr(metadata, name) if metadata is not None else 0
        if given is None and not trained:
            raise ConfigError(f"{name}: missing; without an adapter that says it, give --{name}")
        values[name] = given if given is not None else trained
        if given and trained and given != trained and name != "fps" and not _is_windowed(name, settings):
            log.warning("%s=%s: the adapter was trained at %s; likeness may suffer", name, given, trained)
    shape = VideoShape(int(values["num_frames"]), int(values["height"]), int(values["width"]), float(values["fps"]))
    geometry.latent_shape(shape.num_frames or 1, shape.height, shape.width)
    return shape


def choose_window(
    settings: SampleSettings, metadata: AdapterMetadata | None, geometry: Geometry
) -> tuple[int | None, int]:
    """Latent frames denoised at once (None: all) and those that windows share. Raises: ConfigError when illegal."""
    frames = settings.window_frames
    if frames is None:
        frames = metadata.num_frames if metadata is not None else 0
    if frames == 0:
        return None, 0
    window = geometry.latent_frames(frames, "window_frames")
    overlap = frames // 4 if settings.window_overlap is None else settings.window_overlap
    step = geometry.temporal_factor
    shared = -(-overlap // step)
    if shared >= window and window > 1:
        raise ConfigError(f"window_overlap={overlap}: must leave of a window's {frames} frames {step} at least")
    return window, min(shared, window - 1)


def _is_windowed(name: str, settings: SampleSettings) -> bool:
    """A longer video is denoised in windows of the length that was trained: nothing to warn of."""
    return name == "num_frames" and settings.window_frames is None
