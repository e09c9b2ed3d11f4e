"""People of the toy world rendered with any way of sampling, and what judges say of them.

The shipped adapter, which learnt faces in general; people and dances that it has not seen. The denoising loop is the
product's own (`models/rendering/denoise.py`). Everybody of a pose is in one batch: they share the pose and the noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rendered_people import SIZE_HW, Gallery, cut_heads, make_gallery
from torch import Tensor

from faceid.evaluation.videos.joint_reader import PoseReader
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.base.latent_codec import decode_latents, encode_pixels, to_frames, to_pixels
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import WanModel, load_wan
from faceid.models.rendering.denoise import Conditions, Sampling, denoise, make_scheduler
from faceid.toy.readers import load_toy_pose_reader
from faceid.toy.render import render_pose
from faceid.toy.shipped import resolve_adapter_path, resolve_model_path
from faceid.vace import pose_control


@dataclass(frozen=True)
class Scene:
    """Who is rendered in which dances, by what, and who judges."""

    wan: WanModel
    adapter: FaceAdapter
    gallery: Gallery
    reader: PoseReader


@dataclass(frozen=True)
class Rendered:
    """Everybody in every dance. A video is uint8 [T, H, W, 3]; dance by dance, everybody in order.

    hits: whether the nearest person is the one given, of each video. similarities: cosine to the one given.
    pose_errors: mean distance of joints read to those asked for, pixels of 64.
    passes, passes_computed: of the transformer, and those that a cache did not leave out.
    """

    videos: list[np.ndarray]
    hits: np.ndarray
    similarities: np.ndarray
    pose_errors: np.ndarray
    passes: int
    passes_computed: int

    @property
    def rank1(self) -> float:
        """Share of hits."""
        return float(self.hits.mean())

    @property
    def similarity(self) -> float:
        """Mean cosine."""
        return float(self.similarities.mean())

    @property
    def pose_error(self) -> float:
        """Mean, pixels."""
        return float(self.pose_errors.mean())


def make_scene(num_people: int, num_poses: int) -> Scene:
    """The toy base with the shipped adapter."""
    wan = load_wan(resolve_model_path("toy"))
    path = resolve_adapter_path("toy")
    assert path is not None
    adapter, _ = load_adapter(Path(path), wan)
    return Scene(wan, adapter, make_gallery(num_people, num_poses), load_toy_pose_reader())


@torch.no_grad()
def render_scene(scene: Scene, sampling: Sampling) -> Rendered:
    """Render and judge. The dance's number is the noise's seed."""
    videos: list[np.ndarray] = []
    hits, similarities, errors = [], [], []
    gallery = scene.gallery
    with _counted_passes(scene.wan) as passes:
        for number, joints in enumerate(gallery.joints):
            for person, frames in enumerate(_render_dance(scene, joints, number, sampling)):
                scores = (gallery.recogniser.embed(cut_heads(frames, joints)) @ gallery.references.T).mean(0)
                hits.append(int(scores.argmax()) == person)
                similarities.append(float(scores[person]))
                errors.append(float(np.linalg.norm(scene.reader.read(frames)[..., :2] - joints, axis=-1).mean()))
                videos.append(frames)
    computed, asked = passes["computed"], passes["asked"]
    return Rendered(videos, np.array(hits), np.array(similarities), np.array(errors), asked, computed)


def _render_dance(scene: Scene, joints: np.ndarray, seed: int, sampling: Sampling) -> Iterator[np.ndarray]:
    wan, faces, statistics = scene.wan, scene.gallery.faces, scene.wan.statistics
    count = len(faces)
    pixels = to_pixels(render_pose(joints, SIZE_HW))
    pose, grey = (statistics.normalise(encode_pixels(wan.vae, video)) for video in (pixels, torch.zeros_like(pixels)))
    prompts = encode_prompts(wan.tokenizer, wan.text_encoder, [DEFAULT_PROMPT, DEFAULT_NEGATIVE_PROMPT])

    def everybody(tensor: Tensor) -> Tensor:
        return tensor.expand(count, *tensor.shape[1:])

    scale = sampling.face_scale
    conditions = Conditions(
        text=everybody(prompts[DEFAULT_PROMPT].unsqueeze(0)),
        negative_text=everybody(prompts[DEFAULT_NEGATIVE_PROMPT].unsqueeze(0)),
        face=face_input(faces, scale) if scale else None,
        null_face=face_input(torch.zeros_like(faces), scale) if scale else None,
        control=everybody(pose_control(pose, grey, wan.geometry)),
        num_references=0,
    )
    scene.adapter.set_lora_strength(min(1.0, scale))
    noise = torch.randn(pose.shape, generator=torch.Generator().manual_seed(seed))
    scheduler = make_scheduler(wan.scheduler, sampling.scheduler, sampling.shift)
    latents = denoise(wan.transformer, scheduler, scene.adapter, everybody(noise), conditions, sampling)
    for one in latents:
        yield to_frames(decode_latents(wan.vae, one.unsqueeze(0)))


@contextmanager
def _counted_passes(wan: WanModel) -> Iterator[Counter[str]]:
    """Forward passes of the transformer; one whose first main block does not attend was left out by a cache."""
    passes: Counter[str] = Counter()
    hooks = [
        wan.transformer.register_forward_pre_hook(lambda *_: passes.update(asked=1)),
        wan.transformer.blocks[0].attn1.register_forward_pre_hook(lambda *_: passes.update(computed=1)),
    ]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()
