"""Validation videos during training: the target's face on a fixed pose at a fixed seed, to disk and TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faceid.data.latents import LatentSet
from faceid.data.order import spread
from faceid.media.video import write_video
from faceid.models.adapter import FaceAdapter
from faceid.models.latents import decode_latents, to_frames
from faceid.models.pipeline import FaceIdentityPipeline, Sampling
from faceid.models.settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.wan import WanModel
from faceid.vace import pose_control

# Frames of a strip in TensorBoard: first, last and what lies evenly between.
STRIP_FRAMES = 5


@dataclass
class Preview:
    """Renders one video of the run's target. wan: with transformer and VAE of the run."""

    wan: WanModel
    adapter: FaceAdapter
    latents: LatentSet
    face: Tensor
    fps: float
    sampling: Sampling

    def render(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Render the pose of the first clip that is not damaged.

        Returns its key, uint8 frames [T, H, W, 3], and a strip of pose, clip and render.

        Under ZeRO-3 every rank must call: each forward gathers parameters.
        """
        sample, wan = self.latents.first(), self.wan
        was_training = wan.transformer.training
        wan.transformer.eval()
        statistics = wan.statistics
        pose = statistics.normalise(sample.pose.unsqueeze(0))
        control = pose_control(pose, statistics.normalise(sample.inactive.unsqueeze(0)), wan.geometry)
        latents = FaceIdentityPipeline(wan, self.adapter).sample_latents(
            control,
            sample.prompt_embeds,
            self.latents.prompt(DEFAULT_NEGATIVE_PROMPT),
            self.face,
            self.sampling,
        )
        wan.transformer.train(was_training)
        rows = [pose, statistics.normalise(sample.video.unsqueeze(0)), latents]
        videos = [to_frames(decode_latents(wan.vae, row.to(torch.float32))) for row in rows]
        return sample.key, videos[-1], _strip(videos)

    def write(self, folder: Path, key: str, frames: np.ndarray) -> Path:
        """Write the rendered video; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{key}.mp4", frames, self.fps)
        return folder / f"{key}.mp4"


def _strip(videos: list[np.ndarray]) -> np.ndarray:
    """Rows of a few frames of each video, one picture."""
    picks = spread(len(videos[0]), STRIP_FRAMES)
    return np.concatenate([np.concatenate(list(video[picks]), axis=1) for video in videos], axis=0)
