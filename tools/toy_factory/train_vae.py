"""Train the embedded world's VAE: the real AutoencoderKLWan at a tiny size.

It learns on clips, skeletons and portraits that it draws. Training uses small crops of short clips. The network is
convolutional, so a crop teaches as much per pixel as a whole frame, and more crops are different. Latents are the
posterior's means, as everywhere. A little noise on them late in training makes the decoder forgive a diffusion model's
small errors.
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

from faceid.logs import progress
from faceid.models.base.latent_codec import (
    decode_unclamped,
)
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import draw_nuisance, draw_person, generator
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo, render_pose
from faceid.toy.toy_settings import Framing
from faceid.toy.worlds import TRAINING_WORLD, person_seed
from toy_factory.schedule import rate_factor
from toy_factory.world import CLIP_FRAMES, FRAME_PX

KL_WEIGHT = 1e-5
# What the clips show, in turn.
FRAMINGS: tuple[Framing, ...] = ("upper", "whole", "upper", "far")


@dataclass(frozen=True)
class VaeTraining:
    """How the VAE is trained. A step is one batch of crops."""

    num_steps: int = 4000
    num_clips: int = 700
    """Clips drawn. Each has its skeleton, and a portrait of its dancer."""
    crop_px: int = 64
    batch_size: int = 3
    """Crops of 5 frames. There are three times as many of one frame."""
    learning_rate: float = 7e-4
    warmup_steps: int = 100
    single_frame_until: float = 0.1
    """Share of the training on single frames alone. Afterwards they are one batch in six."""
    pose_share: float = 0.2
    portrait_share: float = 0.1
    head_share: float = 0.5
    """Share of the crops that lie over a head."""
    noise_from: float = 0.5
    """Share of the training after which latents get noise."""
    latent_noise: float = 0.05
    """Noise on the latents, in units of their standard deviation."""
    finishing_steps: int = 200
    """Steps on whole clips afterwards. A crop of 5 frames never shows the decoder its third latent frame."""
    finishing_rate: float = 3e-4
    detail_weight: float = 0.0
    """Weight of the error in what is finer than 3 pixels. Eyes and glasses are of that size, and few pixels."""
    seed: int = 0


@dataclass(frozen=True)
class DrawnClips:
    """Pictures to learn from. clips, poses: uint8 [N, T, H, W, 3]. portraits: [N, P, P, 3]. heads: centres [N, 2]."""

    clips: np.ndarray
    poses: np.ndarray
    portraits: np.ndarray
    heads: np.ndarray


def draw_clips(num_clips: int, world: int = TRAINING_WORLD) -> DrawnClips:
    """Draw the first clips of a world, each of another person."""
    clips, poses, portraits, heads = [], [], [], []
    size_hw, genres = (FRAME_PX, FRAME_PX), list(GENRES)
    for number in progress(range(num_clips), "clips", unit="clip"):
        person = draw_person(person_seed(world, f"d{number:02d}"))
        framing = FRAMINGS[number % len(FRAMINGS)]
        joints = dance_joints(genres[number % len(genres)], number, CLIP_FRAMES, size_hw, framing)
        clips.append(render_clip(person, joints, draw_nuisance(person_seed(world, f"place {number}")), size_hw))
        poses.append(render_pose(joints, size_hw))
        portraits.append(render_photo(person, number, FRAME_PX))
        x0, y0, x1, y1 = drawn_head_boxes(joints, size_hw)[CLIP_FRAMES // 2] or (0, 0, FRAME_PX, FRAME_PX)
        heads.append(((x0 + x1) / 2, (y0 + y1) / 2))
    return DrawnClips(np.stack(clips), np.stack(poses), np.stack(portraits), np.array(heads))


def train_vae(
    vae: Any, drawn: DrawnClips, settings: VaeTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Train in place. on_step: called with (steps done, loss)."""
    rng = generator(settings.seed, "vae crops")
    noise = torch.Generator().manual_seed(settings.seed)
    optimizer = _optimizer(vae, settings.learning_rate)
    for step in progress(range(settings.num_steps), "vae", unit="step"):
        share = step / settings.num_steps
        is_single = share < settings.single_frame_until or rng.random() < 1 / 6
        pixels = _crops(drawn, settings, rng, 1 if is_single else 5)
        amount = settings.latent_noise if share >= settings.noise_from else 0.0
        factor = rate_factor(step, settings.num_steps, settings.warmup_steps, level_until=0.5)
        loss = _train_step(
            vae, pixels, optimizer, settings.learning_rate * factor, amount, noise, settings.detail_weight
        )
        if on_step is not None:
            on_step(step + 1, loss)
    finish_on_whole_clips(vae, drawn, settings, on_step)


def finish_on_whole_clips(
    vae: Any, drawn: DrawnClips, settings: VaeTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Do the last phase of `train_vae`. It can run alone, since its random draws are its own."""
    rng = generator(settings.seed, "vae whole clips")
    noise = torch.Generator().manual_seed(settings.seed + 1)
    optimizer = _optimizer(vae, settings.finishing_rate)
    for step in progress(range(settings.finishing_steps), "vae, whole clips", unit="step"):
        pixels = _crops(drawn, settings, rng, CLIP_FRAMES)
        rate = settings.finishing_rate * (0.5 + 0.5 * math.cos(math.pi * step / settings.finishing_steps))
        loss = _train_step(vae, pixels, optimizer, rate, settings.latent_noise, noise, settings.detail_weight)
        if on_step is not None:
            on_step(settings.num_steps + step + 1, loss)
    vae.requires_grad_(False).eval()
    set_layout(vae, is_last=False)


def set_layout(vae: Any, is_last: bool) -> None:
    """Lay out the convolutions' weights with channels last, which is faster on a CPU, or first, as files hold them."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d):
            last = torch.channels_last_3d if isinstance(module, nn.Conv3d) else torch.channels_last
            layout = last if is_last else torch.contiguous_format
            module.weight.data = module.weight.data.contiguous(memory_format=layout)


def _optimizer(vae: Any, rate: float) -> torch.optim.Optimizer:
    vae.requires_grad_(True).train()
    # A step takes two thirds of the time with channels last (two cores).
    set_layout(vae, is_last=True)
    return torch.optim.AdamW(vae.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0)


def _train_step(
    vae: Any,
    pixels: Tensor,
    optimizer: torch.optim.Optimizer,
    rate: float,
    latent_noise: float,
    noise: torch.Generator,
    detail_weight: float,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    latents = vae.encode(pixels).latent_dist.mode()
    noisy = latents
    if latent_noise:
        spread = latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
        noisy = latents + latent_noise * spread * torch.randn(latents.shape, generator=noise)
    error = decode_unclamped(vae, noisy) - pixels
    # The means are pulled towards zero a little, as a VAE's prior would do. The variance is never sampled.
    loss = 0.5 * error.abs().mean() + 2 * error.pow(2).mean() + KL_WEIGHT * latents.pow(2).mean()
    if detail_weight:
        flat = error.transpose(1, 2).flatten(0, 1)
        fine = flat - F.avg_pool2d(flat, 3, stride=1, padding=1, count_include_pad=False)
        loss = loss + detail_weight * fine.abs().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


@torch.no_grad()
def reconstruction_psnr(vae: Any, clips: np.ndarray) -> list[float]:
    """PSNR in dB of each clip, uint8 [N, T, H, W, 3], after encoding and decoding."""
    values = []
    for clip in clips:
        pixels = _to_pixels(clip[None])
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
        values.append(-10 * math.log10(float(((decoded - pixels) / 2).pow(2).mean())))
    return values


@torch.no_grad()
def latent_statistics(vae: Any, drawn: DrawnClips, count: int = 200) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the raw latents of clips (not of skeletons), for the VAE's config."""
    latents = torch.cat([vae.encode(_to_pixels(clip[None])).latent_dist.mode() for clip in drawn.clips[:count]])
    flat = latents.transpose(0, 1).flatten(1)
    return [round(v, 5) for v in flat.mean(1).tolist()], [round(v, 5) for v in flat.std(1).tolist()]


def _crops(drawn: DrawnClips, settings: VaeTraining, rng: np.random.Generator, frames: int) -> Tensor:
    """A batch of crops, [B, 3, frames, crop, crop] in [-1, 1]."""
    size, out = settings.crop_px, []
    for _ in range(settings.batch_size if frames > 1 else 3 * settings.batch_size):
        kind, number = rng.random(), rng.integers(len(drawn.clips))
        if kind < settings.portrait_share and frames == 1:
            source, centre = drawn.portraits[number][None], None
        elif kind < settings.portrait_share + settings.pose_share:
            source, centre = drawn.poses[number], None
        else:
            source = drawn.clips[number]
            centre = drawn.heads[number] if rng.random() < settings.head_share else None
        start = rng.integers(len(source) - frames + 1)
        left, top = _corner(centre, source.shape[1], size, rng)
        crop = source[start : start + frames, top : top + size, left : left + size]
        out.append(crop[:, :, ::-1] if rng.random() < 0.5 else crop)
    return _to_pixels(np.stack(out))


def _corner(centre: np.ndarray | None, side: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    if centre is None:
        left, top = rng.integers(side - size + 1, size=2)
    else:
        left, top = np.clip(np.round(centre - size / 2 + rng.integers(-8, 9, size=2)), 0, side - size).astype(int)
    return int(left), int(top)


def _to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [B, T, H, W, 3] to [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3).contiguous()
