"""Where a drawn dancer's joints are, read from the picture: a small convolutional heatmap network.

The toy world's counterpart of a published pose model: trained on real renders of people who are in no other set, in any
clothes, place and light. A joint is the centre of its heatmap (soft-argmax: Sun et al. 2018), its confidence how much
of the heatmap lies around there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from faceid.errors import ModelError
from faceid.logs import progress
from faceid.media.draw import blur
from faceid.outputs import staged_file
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import draw_nuisance, draw_person, generator
from faceid.toy.render import render_clip
from faceid.toy.schedule import rate_factor
from faceid.toy.worlds import EVALUATION_WORLD, person_seed

FRAME_PX, HEATMAP_PX, NUM_JOINTS = 64, 16, 17
# Cells around the centre whose share of the heatmap is the confidence.
NEAR_CELLS = 2.0
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


class PoseReaderNetwork(nn.Module):
    """Frames [B, 3, 64, 64] in [-1, 1] to heatmap logits [B, 17, 16, 16]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_conv(3, w), _conv(w, w, 2), _conv(w, 2 * w, 2))
        self.body = nn.Sequential(_conv(2 * w, 2 * w), _conv(2 * w, 3 * w, 2), _conv(3 * w, 3 * w), _conv(3 * w, 3 * w))
        self.deep = nn.Sequential(_conv(3 * w, 3 * w, 2), _conv(3 * w, 3 * w), nn.Upsample(scale_factor=2))
        self.join = _conv(5 * w, 2 * w)
        self.heatmaps = nn.Conv2d(2 * w, NUM_JOINTS, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        fine = self.stem(pixels)
        middle = self.body(fine)
        coarse = F.interpolate(middle + self.deep(middle), scale_factor=2)
        return self.heatmaps(self.join(torch.cat([fine, coarse], dim=1)))


@dataclass(frozen=True)
class ToyPoseReader:
    """Reads joints from frames of any size by shrinking or stretching them to the network's."""

    network: PoseReaderNetwork

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [T, H, W, 3] to float32 [T, 17, 3]: x, y in pixels, confidence in [0, 1]."""
        height, width = frames.shape[1:3]
        pixels = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        if (height, width) != (FRAME_PX, FRAME_PX):
            pixels = F.interpolate(pixels, size=(FRAME_PX, FRAME_PX), mode="area")
        places, confidence = locate(self.network(pixels))
        scaled = places / FRAME_PX * torch.tensor([width, height])
        return torch.cat([scaled, confidence.unsqueeze(-1)], dim=-1).numpy()


def locate(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmap logits [B, J, h, w] to joints [B, J, 2] in pixels of 64 x 64, and confidence [B, J]."""
    heat = logits.flatten(2).softmax(dim=2).unflatten(2, logits.shape[2:])
    cell = FRAME_PX / HEATMAP_PX
    along = (torch.arange(HEATMAP_PX) + 0.5) * cell
    x, y = (heat.sum(2) * along).sum(2), (heat.sum(3) * along).sum(2)
    far = (along.view(1, 1, -1, 1) - y[..., None, None]) ** 2 + (along.view(1, 1, 1, -1) - x[..., None, None]) ** 2
    return torch.stack([x, y], dim=-1), (heat * (far <= (NEAR_CELLS * cell) ** 2)).sum((2, 3))


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
        error = (places - target).norm(dim=-1)
        # The heatmap itself is taught too: a soft-argmax alone may put two peaks to either side of a joint.
        loss = error.mean() + 0.5 * _peak_loss(logits, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, float(error.detach().mean()))
    network.requires_grad_(False).eval()


def draw_frames(world: int, num_clips: int, frames_per_clip: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [N, 64, 64, 3] and joints float32 [N, 17, 2] in pixels, each clip of another person."""
    frames, joints, size_hw = [], [], (FRAME_PX, FRAME_PX)
    for number in progress(range(num_clips), "frames", unit="clip"):
        rng = generator(person_seed(world, f"frames {number}"), "frames")
        places = dance_joints(list(GENRES)[number % len(GENRES)], int(rng.integers(1 << 31)), 33, size_hw)
        places = places[rng.choice(33, frames_per_clip, replace=False)]
        person = draw_person(person_seed(world, f"dancer {number}"))
        clip = render_clip(person, places, draw_nuisance(int(rng.integers(1 << 31))), size_hw)
        # A VAE leaves pictures a little soft.
        frames += [blur(frame, s) if (s := rng.uniform(0, 1.0)) > 0.3 else frame for frame in clip]
        joints.append(places)
    return np.array(frames), np.concatenate(joints)


def save_pose_reader(path: Path, network: PoseReaderNetwork) -> None:
    """Write the weights, half precision."""
    with staged_file(path) as temporary:
        save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, temporary)


def load_pose_reader(path: Path) -> ToyPoseReader:
    """Raises: ModelError when the file is missing."""
    if not path.is_file():
        raise ModelError(f"{path}: missing, so the installation is not whole; install faceid again")
    network = PoseReaderNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return ToyPoseReader(network.requires_grad_(False).eval())


def _peak_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy against a Gaussian of one cell around each joint."""
    along = torch.arange(HEATMAP_PX) + 0.5
    at = target / (FRAME_PX / HEATMAP_PX)
    squared = (along.view(1, 1, -1, 1) - at[..., 1, None, None]) ** 2 + (
        along.view(1, 1, 1, -1) - at[..., 0, None, None]
    ) ** 2
    wanted = torch.exp(-squared / 2).flatten(2)
    wanted = wanted / wanted.sum(2, keepdim=True).clamp_min(1e-6)
    return -(wanted * logits.flatten(2).log_softmax(dim=2)).sum(2).mean()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU())
