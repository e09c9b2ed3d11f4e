"""Read a drawn dancer's joints from the picture with a small convolutional heatmap network.

It is the toy world's counterpart of a published pose model; tools/toy_factory/train_pose_reader.py trained it. A joint
is the centre of its heatmap (soft-argmax: Sun et al. 2018). Its confidence is the heatmap's share around that centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from faceid.errors import ModelError

FRAME_PX, HEATMAP_PX, NUM_JOINTS = 64, 16, 17
# Cells around the centre whose share of the heatmap is the confidence.
NEAR_CELLS = 2.0


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


def load_pose_reader(path: Path) -> ToyPoseReader:
    """Load the reader. Raises: ModelError when the file is missing."""
    if not path.is_file():
        raise ModelError(f"{path}: missing, so the installation is not whole; install faceid again")
    network = PoseReaderNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return ToyPoseReader(network.requires_grad_(False).eval())


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU())
