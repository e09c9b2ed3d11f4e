"""Render validation videos: the target on held-out poses, and people who are not trained on, dancing.

Each video has a noise of its own, because in many a base the noise decides who appears. Poses and noises are the same
at every validation, and the base model's video of each stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from faceid.data.aist import performance_of
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSample, LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.order import seed_for, spread
from faceid.data.shards.index import DamagedError
from faceid.data.stream.held_out import HeldOut
from faceid.evaluation.videos.heads import cut_head
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.latent_codec import decode_latents, to_frames
from faceid.models.base.wan import WanModel
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.models.rendering.video_inputs import VideoInputs
from faceid.models.wan_vace.control import pose_control

# Frames of a strip in TensorBoard: the first, the last, and evenly spaced ones between.
STRIP_FRAMES = 5
GREY = 128
TARGET = "target"


@dataclass(frozen=True)
class Scene:
    """One video to render: the pose of a clip, by number, as somebody. who: target, or a dancer."""

    number: int
    key: str
    who: str
    face: Tensor
    shown_by: int | None = None
    """A clip that shows what that dancer looks like, if possible another one; None for the target."""

    @property
    def name(self) -> str:
        """Its file's name without the ending."""
        return self.key if self.who == TARGET else f"{self.key}_as_{self.who}"


def choose_scenes(
    latents: LatentSet | LatentSets,
    faces: FaceBank,
    target: Tensor,
    held_out: HeldOut,
    num_videos: int,
    num_people: int,
) -> list[Scene]:
    """The target on held-out poses, and held-out dancers as themselves.

    Poses are of held-out dancers, else of held-out clips, else of all. The clips are whole and undamaged, spread evenly
    over the dancers. For each dancer the first one is taken, if possible a held-out one.
    """
    first_of: dict[str, int] = {}
    first_held: dict[str, int] = {}
    for number, (key, clip, dancer) in enumerate(zip(latents.keys, latents.clips, latents.dancers, strict=True)):
        firsts = first_held if held_out.has(clip, dancer) else first_of
        if key == clip and dancer not in firsts and _is_whole(latents, number):
            firsts[dancer] = number
    poses = sorted(held_out.dancers & first_held.keys()) or sorted(first_held) or sorted(first_of)
    first_of |= first_held
    scenes = []
    for place in spread(len(poses), num_videos) if poses and num_videos else []:
        number = first_of[poses[place]]
        scenes.append(Scene(number, latents.keys[number], TARGET, target))
    people = sorted(name for name in first_held if name in held_out.dancers and faces.of_dancer(name) is not None)
    for place in spread(len(people), num_people) if people and num_people else []:
        number = first_of[people[place]]
        own, others = faces.faces_for(latents.clips[number], people[place])
        known = others or own
        assert known is not None
        shown_by = _another_clip(latents, number, people[place])
        scenes.append(Scene(number, latents.keys[number], people[place], known.mean(), shown_by))
    return scenes


def _another_clip(latents: LatentSet | LatentSets, number: int, dancer: str) -> int:
    """A whole clip of the dancer, if possible of another performance; else `number` itself."""
    own = performance_of(latents.clips[number])
    others = [
        other
        for other, (key, clip, whose) in enumerate(zip(latents.keys, latents.clips, latents.dancers, strict=True))
        if whose == dancer and key == clip and performance_of(clip) != own
    ]
    return next((other for other in others if _is_whole(latents, other)), number)


def _is_whole(latents: LatentSet | LatentSets, number: int) -> bool:
    try:
        latents[number]
    except DamagedError:
        return False
    return True


@dataclass
class SceneRenderer:
    """Renders scenes with the run's transformer and VAE."""

    wan: WanModel
    adapter: FaceAdapter
    latents: LatentSet | LatentSets
    sampling: Sampling
    seed: int

    def render(self, scene: Scene) -> np.ndarray:
        """Uint8 frames [T, H, W, 3]. Under ZeRO-3 every rank must call, because each forward gathers parameters."""
        return self._render(scene, self.sampling)

    def base(self, scene: Scene) -> np.ndarray:
        """The base model's video of the same pose and noise. As `render`."""
        return self._render(scene, replace(self.sampling, face_scale=0.0))

    def clip(self, number: int) -> np.ndarray:
        """A clip as the VAE decodes it, which is how a perfect render would look."""
        return self._decode(self.latents[number].video)

    def pose(self, number: int) -> np.ndarray:
        """Its pose video."""
        return self._decode(self.latents[number].pose)

    def head(self, number: int) -> np.ndarray | None:
        """A dancer's head as a clip shows it, in a picture of the clip's size; None where no head is known."""
        frames, boxes = self.clip(number), self.latents.head_boxes(number)
        known = ((frame, box) for frame, box in zip(frames, boxes, strict=False) if box is not None)
        # A dance mostly begins towards the camera.
        frame, box = next(known, (None, None))
        if frame is None or box is None:
            return None
        head = Image.fromarray(cut_head(frame, box, FaceSettings.face_margin))
        height, width = frames.shape[1:3]
        return np.asarray(ImageOps.pad(head, (width, height), color=(GREY, GREY, GREY)))

    def picture(self, latent: Tensor) -> np.ndarray:
        """One frame [H, W, 3] of the raw latent [C, 1, h, w] of a photo."""
        return self._decode(latent)[0]

    def _render(self, scene: Scene, sampling: Sampling) -> np.ndarray:
        sample, wan = self.latents[scene.number], self.wan
        inputs = VideoInputs(
            self._control(sample),
            sample.prompt_embeds,
            self.latents.prompt(DEFAULT_NEGATIVE_PROMPT),
            scene.face,
            target_share=float(scene.who == TARGET),
        )
        seed = seed_for(self.seed, scene.number, f"validation as {scene.who}")
        latents = FaceIdentityPipeline(wan, self.adapter).sample_latents(inputs, sampling, seed)
        return to_frames(decode_latents(wan.vae, latents.to(torch.float32)))

    def _control(self, sample: LatentSample) -> Tensor:
        pose, inactive = (self.wan.statistics.normalise(raw.unsqueeze(0)) for raw in (sample.pose, sample.inactive))
        return pose_control(pose, inactive, self.wan.geometry)

    def _decode(self, raw: Tensor) -> np.ndarray:
        return to_frames(decode_latents(self.wan.vae, self.wan.statistics.normalise(raw.unsqueeze(0))))


def strip(videos: Sequence[np.ndarray], reference: np.ndarray | None) -> np.ndarray:
    """Rows of a few frames of each video, in one picture. A reference photo stands left of the first row."""
    picks = spread(len(videos[0]), STRIP_FRAMES)
    rows = [np.concatenate(list(video[picks]), axis=1) for video in videos]
    if reference is not None:
        empty = np.full_like(reference, GREY)
        rows = [np.concatenate([empty if place else reference, row], axis=1) for place, row in enumerate(rows)]
    return np.concatenate(rows, axis=0)
