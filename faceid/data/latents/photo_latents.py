"""Encode photos of the target as single-frame samples: raw latents [C, 1, h, w], one file and its index.

The photos come in upright. Here they are cropped around the face, encoded and stored, with the same conventions as
clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from faceid.data.latents.head_mask import head_mask
from faceid.data.latents.latent_reader import load_verified
from faceid.data.latents.latent_shards import prompt_name
from faceid.errors import DataError
from faceid.files.documents import find_json, fitted, parse_json, read_bytes
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_file, write_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.media.pixels.fit import fit_sizes
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.models.base.prompts import cut_padding, encode_prompts, pad, text_length
from faceid.models.base.wan import WanModel

# Increased when the same photo files give other latents.
RECIPE = 3
PHOTOS_NAME = "photos.safetensors"


@dataclass(frozen=True)
class FacePhoto:
    """One photo of the target. pixels: uint8 RGB [H, W, 3]. face_box: (x0, y0, x1, y1) in them. sha256: of its file.

    caption: the photo's own caption, if it has one.
    """

    key: str
    pixels: np.ndarray
    face_box: tuple[int, int, int, int]
    sha256: str
    caption: str | None = None


@dataclass(frozen=True)
class PhotoLatent:
    """One photo, encoded. latent: raw means [C, 1, h, w] bf16. head_mask: uint8 [1, h, w].

    caption, prompt_embeds [L, D]: set for a photo with a caption of its own.
    """

    latent: Tensor
    head_mask: Tensor
    caption: str | None = None
    prompt_embeds: Tensor | None = None


def encode_photos(
    photos: Sequence[FacePhoto], output_dir: Path, wan: WanModel, height: int, width: int, private: bool = True
) -> dict[str, Any]:
    """Encode photos, each cropped to the size around its face, into one folder. Returns its index.

    wan: with its VAE, and its text parts where a photo has a caption of its own. An older folder at `output_dir` is
    replaced whole. private: whether only its owner may look in.
    Raises: DataError when there are no photos or a key repeats.
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
    captions = {photo.key: photo.caption for photo in photos if photo.caption is not None}
    for text, embedding in _encode_captions(captions, wan).items():
        tensors[_prompt_key(text)] = embedding
    with staged_folder(output_dir, "photo latents", private) as folder:
        (folder / PHOTOS_NAME).write_bytes(save(tensors))
        index = {
            **_made_from(
                {photo.key: photo.sha256 for photo in photos}, captions, wan.latents_fingerprint, height, width
            ),
            **({"text_tokens": text_length(wan.tokenizer)} if captions else {}),
            "keys": keys,
            "sha256": sha256_file(folder / PHOTOS_NAME),
        }
        write_provenance(folder, {"photos_sha256": index["sha256"]})
        write_json(folder / "index.json", index)
    return index


def photo_latents_are_current(
    folder: Path,
    photos: dict[str, str],
    fingerprint: str,
    height: int,
    width: int,
    captions: Mapping[str, str] | None = None,
) -> bool:
    """Whether `folder` holds exactly these photos (name to sha256) at this size, encoded with this base.

    captions: for the photos that have one of their own.
    """
    index = find_json(folder / "index.json") or {}
    expected = _made_from(photos, captions or {}, fingerprint, height, width)
    return {name: index.get(name) for name in {**expected, "captions": None}} == {"captions": None, **expected}


def read_photo_latents(folder: Path, base_fingerprint: str) -> dict[str, PhotoLatent]:
    """Photos by key, in their given order.

    Raises: DataError when the folder is missing, damaged, or made with another base.
    """
    try:
        index = parse_json(read_bytes(folder / "index.json"))
        fingerprint, sha256 = str(index["base_fingerprint"]), index["sha256"]
        keys = fitted(list[str], index["keys"], "keys")
        captions = fitted(dict[str, str], index.get("captions", {}), "captions")
        length = fitted(int, index.get("text_tokens", 0), "text_tokens")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a folder of photo latents ({error}); encode the photos again") from error
    if fingerprint != base_fingerprint:
        raise DataError(f"{folder}: encoded with base {fingerprint[:12]}, not {base_fingerprint[:12]}; encode again")
    path = folder / PHOTOS_NAME
    tensors = load_verified(path, sha256, "photos")
    try:
        texts = {text: pad(tensors[_prompt_key(text)], length) for text in captions.values()}
        own = {key: (captions[key], texts[captions[key]]) for key in captions}
        return {key: PhotoLatent(tensors[key], tensors[mask_name(key)], *own.get(key, ())) for key in keys}
    except KeyError as error:
        raise DataError(f"{path}: has no {error}, which its index names; encode the photos again") from error


def mask_name(key: str) -> str:
    """The name of a photo's head mask beside its latent."""
    return f"{key}/head_mask"


def _encode_captions(captions: Mapping[str, str], wan: WanModel) -> dict[str, Tensor]:
    """Encode each distinct text once, without the zeros after its end."""
    if not captions:
        return {}
    embeddings = encode_prompts(wan.tokenizer, wan.text_encoder, sorted(set(captions.values())))
    return {text: cut_padding(embedding).cpu().contiguous() for text, embedding in embeddings.items()}


def _prompt_key(text: str) -> str:
    """The name of a caption's embedding. It is no photo's name, because that has the ending of a picture."""
    return f"prompts/{prompt_name(text)}"


def _made_from(
    photos: dict[str, str], captions: Mapping[str, str], fingerprint: str, height: int, width: int
) -> dict[str, Any]:
    made_of = {"photos": photos, "size_hw": [height, width], "base_fingerprint": fingerprint}
    # Folders from before photos had captions hold none.
    return {"kind": "photos", "recipe": RECIPE, **made_of} | ({"captions": dict(captions)} if captions else {})
