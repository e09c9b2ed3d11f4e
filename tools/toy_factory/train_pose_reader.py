"""Train the toy world's pose reader on renders.

They show people who are in no other set, in any clothes, place and light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from faceid.files.outputs import staged_file
from faceid.logs import progress
from faceid.media.pixels.draw import blur
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import draw_nuisance, draw_person, generator
from faceid.toy.pose_reader import FRAME_PX, HEATMAP_PX, PoseReaderNetwork, locate
from faceid.toy.render import render_clip
from faceid.toy.worlds import EVALUATION_WORLD, person_seed
from toy_factory.schedule import rate_factor
from toy_factory.world import draw_framing

WARMUP_STEPS = 50


@dataclass(frozen=True)
class PoseReaderTraining:
    """How the reader is trained. A step is one batch of frames."""

    num_steps: int = 800
    num_clips: int = 2500
    frames_per_clip: int = 3
    batch_size: int = 48
    learning_rate: float = 2e-3
    seed: int = 0


def train_pose_reader(
    network: PoseReaderNetwork, settings: PoseReaderTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Train in place on drawn frames. on_step: called with (steps done, mean error in pixels)."""
    frames, joints = draw_frames(EVALUATION_WORLD, settings.num_clips, settings.frames_per_clip)
    rng = generator(settings.seed, "pose reader")
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-2)
    network.train()
    for step in progress(range(settings.num_steps), "pose reader", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(step, settings.num_steps, WARMUP_STEPS)
        chosen = rng.integers(len(frames), size=settings.batch_size)
        pixels = torch.from_numpy(frames[chosen].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        target = torch.from_numpy(joints[chosen])
        logits = network(pixels)
        places, _ = locate(logits)
        # A joint outside the picture has no place in it, and an even heatmap: little confidence.
        is_seen = torch.from_numpy(in_picture(joints[chosen]))
        error = (places - target).norm(dim=-1)[is_seen]
        # The heatmap itself is taught too. A soft-argmax alone may put two peaks to either side of a joint.
        loss = error.mean() + 0.5 * _peak_loss(logits, target, is_seen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, float(error.detach().mean()))
    network.requires_grad_(False).eval()


def in_picture(joints: np.ndarray) -> np.ndarray:
    """Which joints [..., 2], in pixels, lie in a frame and can be read."""
    return np.all((joints >= 0) & (joints < FRAME_PX), axis=-1)


def draw_frames(world: int, num_clips: int, frames_per_clip: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [N, 64, 64, 3] and joints float32 [N, 17, 2] in pixels, each clip of another person."""
    frames, joints, size_hw = [], [], (FRAME_PX, FRAME_PX)
    for number in progress(range(num_clips), "frames", unit="clip"):
        rng = generator(person_seed(world, f"frames {number}"), "frames")
        framing = draw_framing(rng)
        genre, seed = list(GENRES)[number % len(GENRES)], int(rng.integers(1 << 31))
        places = dance_joints(genre, seed, 33, size_hw, framing)
        places = places[rng.choice(33, frames_per_clip, replace=False)]
        person = draw_person(person_seed(world, f"dancer {number}"))
        clip = render_clip(person, places, draw_nuisance(int(rng.integers(1 << 31))), size_hw)
        # A VAE leaves pictures a little soft, so some frames are blurred.
        frames += [blur(frame, s) if (s := rng.uniform(0, 1.0)) > 0.3 else frame for frame in clip]
        joints.append(places)
    return np.array(frames), np.concatenate(joints)


def save_pose_reader(path: Path, network: PoseReaderNetwork) -> None:
    """Write the weights in half precision."""
    with staged_file(path) as temporary:
        save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, temporary)


def _peak_loss(logits: Tensor, target: Tensor, is_seen: Tensor) -> Tensor:
    """Cross-entropy against a Gaussian of one cell around each joint; against an even heatmap where it is not seen."""
    along = torch.arange(HEATMAP_PX) + 0.5
    at = target / (FRAME_PX / HEATMAP_PX)
    squared = (along.view(1, 1, -1, 1) - at[..., 1, None, None]) ** 2 + (
        along.view(1, 1, 1, -1) - at[..., 0, None, None]
    ) ** 2
    wanted = torch.where(is_seen[..., None, None], torch.exp(-squared / 2), 1.0).flatten(2)
    wanted = wanted / wanted.sum(2, keepdim=True).clamp_min(1e-6)
    return -(wanted * logits.flatten(2).log_softmax(dim=2)).sum(2).mean()
