"""Store the mean embedding over many people beside an encoder.

It is subtracted before normalising. Without it, CLIP and DINO embeddings of different people all point nearly the same
way.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from faceid.errors import ModelError
from faceid.files.outputs import staged_file

MEAN_FILE = "embedding_mean.safetensors"


def save_embedding_mean(folder: Path, mean: torch.Tensor) -> None:
    """Write the mean of `encoder.embed(...)` over many people, [D], into an encoder's folder.

    Compute the mean with an encoder that has no mean yet. `load_encoder` uses it from then on.
    """
    assert mean.ndim == 1 and bool(torch.isfinite(mean).all()), f"expected finite [D], got {tuple(mean.shape)}"
    with staged_file(folder / MEAN_FILE) as temporary:
        save_file({"mean": mean.detach().to("cpu", torch.float32).contiguous()}, temporary)


def load_embedding_mean(folder: Path, dim: int) -> torch.Tensor | None:
    """The stored mean [D], or None when the folder has none. Raises: ModelError when it does not fit the encoder."""
    file = folder / MEAN_FILE
    if not file.is_file():
        return None
    try:
        mean = load_file(file)["mean"]
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{file}: holds no tensor `mean` ({error}); remove it or write it again") from error
    if mean.shape != (dim,) or not bool(torch.isfinite(mean).all()):
        raise ModelError(f"{file}: mean of shape {tuple(mean.shape)} for an encoder of {dim} numbers; remove the file")
    return mean.float()


def unit_embeddings(raw: torch.Tensor, mean: torch.Tensor | None) -> torch.Tensor:
    """Raw embeddings [N, D] to float32 [N, D] of unit length. With a mean: normalised, centred, normalised again.

    Raises: ModelError when the encoder gives a value that is not finite.
    """
    if not bool(torch.isfinite(raw).all()):
        raise ModelError(
            "the face encoder returned NaN or infinity: its weights are damaged or its input range is wrong"
        )
    units = torch.nn.functional.normalize(raw.double(), dim=1)
    if mean is not None:
        units = torch.nn.functional.normalize(units - mean.double(), dim=1)
    return units.float()
