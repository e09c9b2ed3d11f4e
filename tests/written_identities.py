"""Identities on disk without photos: what rendering and training read of them."""

from __future__ import annotations

from pathlib import Path

import torch

from faceid.faces.identities.identity_folder import write_manifest


def unit_embedding(seed: int, size: int = 4) -> torch.Tensor:
    """A random unit vector [size]."""
    return torch.nn.functional.normalize(torch.randn(size, generator=torch.Generator().manual_seed(seed)), dim=0)


def write_embedding(file: Path, seed: int = 0, size: int = 4) -> Path:
    """A bare embedding, as other tools make it."""
    torch.save(unit_embedding(seed, size), file)
    return file


def write_identity(
    folder: Path, seed: int = 0, size: int = 4, name: str | None = None, fingerprint: str = "e" * 64
) -> Path:
    """An identity folder of a person of whom no photo is known."""
    folder.mkdir(parents=True)
    write_embedding(folder / "identity_embedding.pt", seed, size)
    about = {"name": name or folder.name, "encoder": "clip", "encoder_fingerprint": fingerprint}
    torch.save({**about, "photos": []}, folder / "metadata.pt")
    write_manifest(folder, about)
    return folder
