"""Photos of the target as single-frame samples: raw latents [C, 1, h, w], one file and its index.

The photos come in upright; here they are cropped around the face, encoded and stored, with the same conventions as
clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from faceid.data.head_mask import head_mask
from faceid.documents import fitted, parse_json
from faceid.errors import DataError
from faceid.logs import progress
from faceid.media.fit import fit_sizes
from faceid.models.latents import encode_pixels, to_pixels
from faceid.models.wan import WanModel
from faceid.outputs import staged_folder
from faceid.provenance import sha256_file, write_provenance
from faceid.writing import write_json

PHOTOS_NAME = "photos.safetensors"


@dataclass(frozen=True)
class FacePhoto:
    """One photo of the target. pixels: uint8 RGB [H, W, 3]; face_box: (x0, y0, x1, y1) in them; sha256: of its file."""

    key: str
    pixels: np.ndarray
    face_box: tuple[int, int, int, int]
    sha256: str


@dataclass(frozen=True)
class PhotoLatent:
    """One photo, encoded. latent: raw means [C, 1, h, w] bf16. head_mask: uint8 [1, h, w]."""

    latent: Tensor
    head_mask: Tensor


def encode_photos(
    photos: Sequence[FacePhoto], output_dir: Path, wan: WanModel, height: int, width: int
) -> dict[str, Any]:
    """Encode photos, each cropped to the size around its face, into one folder; returns its index.

    An older folder at `output_dir` is replaced whole. Raises: DataError when there are no photos or a key repeats.
    """
    keys = [photo.key for photo in photos]
    if not photos or len(set(keys)) != len(keys):
        raise DataError(f"{len(photos)} photos with {len(set(keys))} distinct names: at least one, each with its own")
    wan.geometry.latent_shape(1, height, width)
    tensors = {}
    for photo in progress(photos, "photos", unit="photo"):
        x0, y0, x1, y1 = photo.face_box
        fit = fit_sizes(photo.pixels.shape[:2], height, width, "crop", ((x0 + x1) / 2, (y0 + y1) / 2))
        pixels = to_pixels(fit.frame(photo.pixels)[None])
        tensors[photo.key] = encode_pixels(wan.vae, pixels)[0].to(torch.bfloat16).cpu().contiguous()
        tensors[mask_name(photo.key)] = head_mask([fit.box(photo.face_box)], 1, height, width, wan.geometry)
    with staged_folder(output_dir, "photo latents", private=True) as folder:
        (folder / PHOTOS_NAME).write_bytes(save(tensors))
        index = {
            **_made_from({photo.key: photo.sha256 for photo in photos}, wan.latents_fingerprint, height, width),
            "keys": keys,
            "sha256": sha256_file(folder / PHOTOS_NAME),
        }
        write_provenance(folder, {"photos_sha256": index["sha256"]})
        write_json(folder / "index.json", index)
    return index


def photo_latents_are_current(folder: Path, photos: dict[str, str], fingerprint: str, height: int, width: int) -> bool:
    """Whether `folder` holds exactly these photos (name to sha256) at this size, encoded with this base."""
    try:
        index = parse_json((folder / "index.json").read_bytes())
    except (OSError, ValueError):
        return False
    expected = _made_from(photos, fingerprint, height, width)
    return {name: index.get(name) for name in expected} == expected


def read_photo_latents(folder: Path, base_fingerprint: str) -> dict[str, PhotoLatent]:
    """Photos by key, in the order they were given.

    Raises: DataError when the folder is missing, damaged, or made with another base.
    """
    try:
        index = parse_json((folder / "index.json").read_bytes())
        fingerprint, sha256 = str(index["base_fingerprint"]), index["sha256"]
        keys = fitted(list[str], index["keys"], "keys")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a folder of photo latents ({error}); encode the photos again") from error
    if fingerprint != base_fingerprint:
        raise DataError(f"{folder}: encoded with base {fingerprint[:12]}, not {base_fingerprint[:12]}; encode again")
    path = folder / PHOTOS_NAME
    if not path.is_file() or sha256_file(path) != sha256:
        raise DataError(f"{path}: missing or damaged (its sha256 is not the index's); encode the photos again")
    try:
        tensors = load(path.read_bytes())
        return {key: PhotoLatent(tensors[key], tensors[mask_name(key)]) for key in keys}
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); encode the photos again") from error


def mask_name(key: str) -> str:
    """Name of a photo's head mask beside its latent."""
    return f"{key}/head_mask"


def _made_from(photos: dict[str, str], fingerprint: str, height: int, width: int) -> dict[str, Any]:
    return {"kind": "photos", "photos": photos, "size_hw": [height, width], "base_fingerprint": fingerprint}
