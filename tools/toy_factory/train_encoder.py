"""Train the embedded world's face encoders: tiny CLIP image towers.

Training is contrastive, as in CLIP. A strong encoder learns as face recognisers do: two views of one person (one from a
photo, one from a clip) attract, and views of others repel. A weak one learns as CLIP does, from captions alone: it is
paired with a caption tower that reads what is said of the picture, roughly who it shows and in which scene. So it tells
people apart about as badly as CLIP does. The caption tower is thrown away afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceid.faces.encoders.face_encoders import CLIP_MEAN, CLIP_STD
from faceid.logs import progress
from faceid.toy.people import APPEARANCE, appearance_vector
from toy_factory.face_views import FaceViews
from toy_factory.schedule import rate_factor


@dataclass(frozen=True)
class EncoderTraining:
    """How an image tower is trained. A step is one batch of people, two views each."""

    num_steps: int = 500
    people_per_step: int = 96
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    pair_weight: float = 1.0
    """Weight of the loss between two views of one person."""
    caption_weight: float = 0.0
    """Weight of the loss between views and captions."""
    levels: int = 0
    """Captions say each visible attribute in so many steps. 0: exactly."""
    told_share: float = 1.0
    """Share of the attributes that a caption mentions."""
    scene_weight: float = 0.0
    """Size of what captions say of the scene, beside who is in it."""
    seed: int = 0


def train_encoder(
    tower: Any, views: FaceViews, settings: EncoderTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Train a CLIPVisionModelWithProjection in place. on_step: called with (steps done, loss)."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    looks = np.stack([appearance_vector(person) for person in views.people])
    width, caption_width = int(tower.config.projection_dim), len(APPEARANCE) + views.scenes.shape[2]
    caption_tower = nn.Sequential(nn.Linear(caption_width, 256), nn.GELU(), nn.Linear(256, width))
    scale = nn.Parameter(torch.tensor(math.log(10.0)))
    parameters = [*tower.parameters(), *caption_tower.parameters(), scale]
    tower.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    for step in progress(range(settings.num_steps), "encoder", unit="step"):
        factor = rate_factor(step, settings.num_steps, settings.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        chosen = rng.choice(len(views.people), min(settings.people_per_step, len(views.people)), replace=False)
        photos = rng.integers(views.num_photos, size=len(chosen))
        heads = rng.integers(views.num_photos, views.pictures.shape[1], size=len(chosen))
        pixels = torch.cat([_pixels(views.pictures[chosen, photos], rng), _pixels(views.pictures[chosen, heads], rng)])
        first, second = F.normalize(tower(pixel_values=pixels).image_embeds, dim=1).chunk(2)
        # The scale is CLIP's inverse temperature, held below 100 as CLIP does.
        times = scale.exp().clamp(max=100.0)
        loss = torch.zeros(())
        if settings.pair_weight:
            loss = loss + settings.pair_weight * _contrast(first, second, times)
        if settings.caption_weight:
            for seen, shown in ((first, photos), (second, heads)):
                said = _captions(looks[chosen], views.scenes[chosen, shown], settings, rng)
                told = F.normalize(caption_tower(said), dim=1)
                loss = loss + settings.caption_weight * _contrast(seen, told, times)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    tower.requires_grad_(False).eval()


def rank1(first: Tensor, second: Tensor) -> float:
    """Share of people whose view in `first` [P, D] is nearest to their own in `second` [P, D], among all P."""
    return float(((first @ second.T).argmax(1) == torch.arange(len(first))).float().mean())


def _captions(looks: np.ndarray, scenes: np.ndarray, settings: EncoderTraining, rng: np.random.Generator) -> Tensor:
    """What is said of pictures [P, A + S]. An attribute that is not mentioned is 0, like all that is not there."""
    said = np.round(looks * settings.levels) / settings.levels if settings.levels else looks
    said = said * (rng.random(said.shape) < settings.told_share)
    return torch.from_numpy(np.concatenate([said, settings.scene_weight * scenes], axis=1).astype(np.float32))


def _contrast(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss for matching rows [P, D]."""
    logits = scale * a @ b.T
    target = torch.arange(len(a))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _pixels(pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
    """uint8 [P, S, S, 3] to the tower's input [P, 3, S, S]: mirrored at random, lit differently."""
    unit = pictures.astype(np.float32) / 255
    mirrored = rng.random(len(unit)) < 0.5
    unit[mirrored] = unit[mirrored, :, ::-1]
    unit = unit * rng.uniform(0.93, 1.07, (len(unit), 1, 1, 3)).astype(np.float32)
    unit = (unit.clip(0, 1) - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    return torch.from_numpy(unit).permute(0, 3, 1, 2).contiguous()
