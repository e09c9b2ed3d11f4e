"""Measure what a drawn person looks like from a crop of the head.

The read-out has a closed form. It takes random Fourier features of the shrunk crop (Rahimi and Recht 2007). Ridge
regression maps them to the visible attributes of a person (`appearance_vector`). It is calibrated on real renders of
people who are in no other set. As a recogniser, its embedding is the measured attributes. Each attribute is in units of
its spread between people, times how well it is measured (R^2). The read-out shares nothing with the face encoder: no
weights, no training set, no way of learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceid.errors import ModelError
from faceid.files.outputs import staged_file
from faceid.files.provenance import sha256_json
from faceid.toy.people import APPEARANCE

# Side of the shrunk crops.
CROP_PX = 24
NUM_FEATURES = 2048
# Width of the kernel for each pixel of that side, in units of a crop's root-sum-square distance: found by a search on
# calibration people.
KERNEL_WIDTH = 1.0
RIDGE = 1e-3


@dataclass
class AttributeReadout:
    """weights [F + 1, A]. mean, spread, r2: [A], of the attributes named by APPEARANCE. It is a FaceEncoder.

    crop_px: side of the crops that it was fitted on.
    """

    weights: Tensor
    mean: Tensor
    spread: Tensor
    r2: Tensor
    crop_px: int = CROP_PX
    name: str = "toy_readout"
    fingerprint: str = ""
    dim: int = len(APPEARANCE)

    def __post_init__(self) -> None:
        samples = [tensor.half().flatten()[:64].tolist() for tensor in (self.weights, self.mean, self.spread, self.r2)]
        self.fingerprint = sha256_json(["toy_readout", *samples])

    def read(self, faces: list[np.ndarray]) -> Tensor:
        """Head crops (RGB uint8 [S, S, 3], any S) to attributes [N, A], about in [0, 1]."""
        return _features(_shrink(faces, self.crop_px)) @ self.weights

    def embed(self, faces: list[np.ndarray]) -> Tensor:
        """Head crops to embeddings [N, A], float32, unit length."""
        if not faces:
            return torch.zeros(0, self.dim)
        standard = (self.read(faces) - self.mean) / self.spread
        return torch.nn.functional.normalize(standard * self.r2.clamp_min(0), dim=1)


def calibrate_readout(crops: np.ndarray, truth: np.ndarray) -> AttributeReadout:
    """Fit on head crops, uint8 [N, S, S, 3], and true attributes [N, A]. R^2 is of the last quarter, held out."""
    targets = torch.from_numpy(truth).float()
    features = _features(_shrink(list(crops), CROP_PX))
    fitted = len(crops) * 3 // 4
    weights = _ridge(features[:fitted], targets[:fitted])
    rest = targets[fitted:]
    residual = (features[fitted:] @ weights - rest).pow(2).mean(0)
    r2 = 1 - residual / rest.var(0, unbiased=False).clamp_min(1e-6)
    return AttributeReadout(_ridge(features, targets), targets.mean(0), targets.std(0).clamp_min(1e-3), r2)


def save_readout(path: Path, readout: AttributeReadout) -> None:
    """Write the calibration, with weights in half precision."""
    with staged_file(path) as temporary:
        small = {"mean": readout.mean, "spread": readout.spread, "r2": readout.r2}
        small["crop_px"] = torch.tensor(readout.crop_px)
        save_file({"weights": readout.weights.half().contiguous(), **small}, temporary)


def load_readout(path: Path) -> AttributeReadout:
    """Read a calibration. Raises: ModelError when the file is missing."""
    if not path.is_file():
        raise ModelError(f"{path}: missing, so the installation is not whole; install faceid again")
    stored = load_file(path)
    weights, mean, spread, r2 = (stored[name].float() for name in ("weights", "mean", "spread", "r2"))
    return AttributeReadout(weights, mean, spread, r2, int(stored["crop_px"]))


def _shrink(faces: list[np.ndarray], crop_px: int) -> Tensor:
    """Crops to [N, crop_px * crop_px * 3] in [0, 1]."""
    small = [Image.fromarray(face).resize((crop_px, crop_px), Image.Resampling.BOX) for face in faces]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in small]).reshape(len(faces), -1)) / 255.0


def _features(pixels: Tensor) -> Tensor:
    """Random Fourier features and a constant, [N, F + 1]. The directions are always the same."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(pixels.shape[1], NUM_FEATURES, generator=generator)
    directions = directions / (KERNEL_WIDTH * (pixels.shape[1] / 3) ** 0.5)
    phases = torch.rand(NUM_FEATURES, generator=generator) * 2 * torch.pi
    waves = torch.cos(pixels @ directions + phases) * (2 / NUM_FEATURES) ** 0.5
    return torch.cat([waves, torch.ones(len(pixels), 1)], dim=1)


def _ridge(features: Tensor, targets: Tensor) -> Tensor:
    f, t = features.double(), targets.double()
    return torch.linalg.solve(f.T @ f + RIDGE * torch.eye(f.shape[1], dtype=f.dtype), f.T @ t).float()
