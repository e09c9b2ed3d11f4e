"""Render videos from pose videos: what is loaded once, and the path of one video from file to file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceid.errors import DataError
from faceid.files.outputs import refuse_hidden
from faceid.media.video import measure_video, write_video
from faceid.models.rendering.denoise import OnStep
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.models.rendering.video_inputs import VideoInputs
from faceid.sampling.one_video.poses import is_one_by_one, read_pose, say_timing
from faceid.sampling.one_video.prompt_encoder import PromptEncoder
from faceid.sampling.one_video.render_setup import RenderSetup
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.sampling.one_video.sidecar import InputHashes
from faceid.sampling.who.rendered_identities import Face
from faceid.sampling.who.shown_references import ShownReference

log = logging.getLogger(__name__)

# The kinds of results kept for a pose video.
CONTROL, POSE_FRAMES = "control", "frames"


@dataclass(frozen=True)
class Control:
    """The data of a pose video that rendering needs, the same for every face.

    tensor: [1, control channels, f, h, w]. taken: as in `Pose`, [T]; f latent frames may decode to more than T.
    """

    tensor: Tensor
    taken: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        """T, the video's number of frames."""
        return len(self.taken)

    @property
    def pose_frames(self) -> list[int] | None:
        """The pose frames that the video's frames follow, for its record; None where that is each one."""
        return None if is_one_by_one(self.taken) else list(self.taken)


@dataclass
class Renderer:
    """A loaded pipeline, ready for any pose and any face. Prompts are encoded once."""

    pipeline: FaceIdentityPipeline
    setup: RenderSetup
    prompts: PromptEncoder | None = None
    """Encodes the prompts; without it the pipeline does."""
    references: Sequence[ShownReference] = ()
    """Pictures of the person that the base looks at."""

    @property
    def face_scale(self) -> float:
        """The scale in effect: 0, the base model, without an adapter."""
        return self.setup.sampling.face_scale if self.pipeline.adapter is not None else 0.0

    @property
    def own_references(self) -> int | None:
        """How many of the person's own pictures the base looks at, for a record; None where others were given."""
        return None if self.setup.content.reference_images else len(self.references)

    def prepare(self, pose_video: Path) -> Control:
        """The data of a pose video that rendering needs, the same for every face.

        Raises: DataError when the pose video cannot be read or is too short.
        """
        pose = read_pose(pose_video, self.setup.shape, self.pipeline.wan.geometry, self.setup.pose)
        say_timing(pose_video, pose, self.setup.shape)
        return Control(self.pipeline.control(pose.frames), pose.taken)

    def prepare_once(self, pose_video: Path, inputs: InputHashes, cache: ResultCache | None) -> Control:
        """As `prepare`, but taken from the cache if it was made before. inputs: hashes for this video."""
        if cache is None:
            return self.prepare(pose_video)
        made_of = self.made_of(inputs.pose)
        tensor, taken = (cache.get(kind, made_of) for kind in (CONTROL, POSE_FRAMES))
        if tensor is not None and taken is not None:
            return Control(tensor, tuple(taken.tolist()))
        control = self.prepare(pose_video)
        cache.put(CONTROL, made_of, control.tensor)
        cache.put(POSE_FRAMES, made_of, torch.tensor(control.taken))
        return control

    def made_of(self, pose_sha256: str) -> dict[str, Any]:
        """What a control tensor depends on, besides the base, for a cache of such tensors."""
        shape, timing = self.setup.shape, self.setup.pose.pose_timing
        size = {"num_frames": shape.num_frames, "height": shape.height, "width": shape.width}
        # With frames one by one, the rate is only written into the file.
        rate = {} if timing == "frames" else {"fps": shape.fps}
        fit = self.setup.pose.fit
        # Earlier versions kept references with it. Without any it is the same tensor.
        return {"pose": pose_sha256, "references": [], **size, "timing": timing, **rate, "fit": fit}

    def denoise(self, control: Control, face: Face, seed: int, on_step: OnStep | None = None) -> Tensor:
        """The latents of one face on one pose, without reference frames."""
        content, count = self.setup.content, len(self.references)
        encode = self.prompts.of if self.prompts is not None else self.pipeline.encode_prompts
        text, negative_text = encode(content.prompt, content.negative_prompt)
        num_frames, metadata = control.tensor.shape[2], self.pipeline.metadata
        tensor = self.pipeline.with_references(control.tensor, [reference.picture for reference in self.references])
        embedding = face.over(num_frames, count)
        share = face.share_over(metadata.target_name if metadata is not None else "", num_frames, count)
        inputs = VideoInputs(tensor, text, negative_text, embedding, count, share)
        latents = self.pipeline.sample_latents(inputs, self.setup.sampling, seed, self.setup.windows, on_step)
        return latents[:, :, count:]

    def write(self, latents: Tensor, output: Path, num_frames: int) -> np.ndarray:
        """Decode to an mp4 of so many frames, verified before this returns. May run during another denoising.

        Returns its middle frame, uint8 [H, W, 3].
        """
        frames = self.pipeline.decode(latents)[:num_frames]
        write_video(output, frames, self.setup.shape.fps)
        written = measure_video(output).frames
        if written != len(frames):
            raise DataError(f"{output}: {written} frames on disk, {len(frames)} rendered; is the disk full?")
        return frames[len(frames) // 2]


def check_video_place(pose_video: Path, output: Path) -> None:
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
