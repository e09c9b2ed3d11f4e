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

from faceid.data.body.head_boxes import head_around
from faceid.data.latents.head_mask import head_mask
from faceid.data.latents.latent_reader import load_verified
from faceid.data.latents.latent_shards import inactive_name, prompt_name
from faceid.data.photo_settings import Framing
from faceid.errors import DataError
from faceid.faces.identities.identity import Identity
from faceid.faces.identities.reference_pictures import REFERENCE_MARGIN
from faceid.faces.photos.detect import cut_window, window_around
from faceid.files.documents import find_json, fitted, parse_json, read_bytes
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_file, write_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.media.images import read_photo
from faceid.media.pixels.fit import fit_sizes
from faceid.models.base.latent_codec import encode_grey, encode_pixels, to_pixels
from faceid.models.base.prompts import cut_padding, encode_prompts, pad
from faceid.models.base.wan import WanModel

# Increased when the same photo files give other latents.
RECIPE = 5
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


def face_photos(
    photos_dir: Path, identity: Identity, names: Sequence[str], captions: Mapping[str, str | None]
) -> list[FacePhoto]:
    """Photos of an identity, read in the order of their names. photos_dir: as `check_same_photos` found it."""
    return [
        FacePhoto(
            *(name, read_photo(photos_dir / name), identity.photo_boxes[name], identity.photo_sha256[name]),
            captions.get(name),
        )
        for name in names
    ]


@dataclass(frozen=True)
class PhotoView:
    """One way to show a photo. height, width: in pixels."""

    framing: Framing
    height: int
    width: int

    def key(self, photo: str, plain: PhotoView) -> str:
        """The name of a photo's sample; of the plain view, the photo's own."""
        return photo if self == plain else f"{photo}@{self.framing}-{self.width}x{self.height}"


@dataclass(frozen=True)
class PhotoLatent:
    """One view of a photo, encoded. latent: raw means [C, 1, h, w] bf16. head_mask: uint8 [1, h, w].

    caption, prompt_embeds [L, D]: set for a photo with a caption of its own. photo: the photo's name; empty where the
    sample is named after it. inactive: of a size that no clip has, [C, 1, h, w]; else None.
    """

    latent: Tensor
    head_mask: Tensor
    caption: str | None = None
    prompt_embeds: Tensor | None = None
    photo: str = ""
    inactive: Tensor | None = None
    box: tuple[float, ...] = ()
    """The face (x0, y0, x1, y1), in pixels of the view."""


def views_of(
    framings: Sequence[Framing], sizes: Sequence[float], size_hw: tuple[int, int], multiple: int
) -> list[PhotoView]:
    """Every framing at every size, the plain view first where it is among them. multiple: of pixels, of each side."""
    height, width = size_hw

    def scaled(side: int, size: float) -> int:
        return max(round(side * size / multiple), 1) * multiple if size < 1 else side

    views = [PhotoView(how, scaled(height, size), scaled(width, size)) for how in framings for size in sizes]
    return list(dict.fromkeys(views))


def view_keys(photos: Sequence[str], views: Sequence[PhotoView], size_hw: tuple[int, int]) -> dict[str, str]:
    """The name of every sample, with its photo's. size_hw: of the clips, whose view has the photo's own name."""
    plain = PhotoView("photo", *size_hw)
    return {view.key(photo, plain): photo for photo in photos for view in views}


def describe_samples(captions: Mapping[str, str | None]) -> list[Any]:
    """What says which samples of photos are trained on, for a run's origin. captions: of each, where it has its own."""
    own = {key: caption for key, caption in sorted(captions.items()) if caption}
    return [*sorted(captions), own] if own else sorted(captions)


def encode_photos(
    photos: Sequence[FacePhoto],
    output_dir: Path,
    wan: WanModel,
    height: int,
    width: int,
    views: Sequence[PhotoView] = (),
    private: bool = True,
) -> dict[str, Any]:
    """Encode each view of each photo into one folder. Returns its index.

    wan: with its VAE, and its text parts where a photo has a caption of its own. height, width: of the clips. views: by
    default each photo at that size, cropped around its face. An older folder at `output_dir` is replaced whole.
    private: whether only its owner may look in.
    Raises: DataError when there are no photos or a key repeats.
    """
    keys = [photo.key for photo in photos]
    if not photos or len(set(keys)) != len(keys):
        raise DataError(f"{len(photos)} photos with {len(set(keys))} distinct names: at least one, each with its own")
    plain = PhotoView("photo", height, width)
    shown = list(views) or [plain]
    tensors: dict[str, Tensor] = {}
    photo_of: dict[str, str] = {}
    boxes: dict[str, list[float]] = {}
    for photo in progress(photos, "photos", unit="photo"):
        for view in shown:
            wan.geometry.latent_shape(1, view.height, view.width)
            key = view.key(photo.key, plain)
            tensors[key], tensors[mask_name(key)], box = show_photo(wan, photo, view)
            photo_of[key], boxes[key] = photo.key, [round(edge, 2) for edge in box]
    for view in shown:
        if (view.height, view.width) != (height, width):
            grey = encode_grey(wan.vae, 1, view.height, view.width)
            tensors[inactive_name(*grey.shape[1:])] = grey.to(torch.bfloat16).cpu().contiguous()
    captions = {photo.key: photo.caption for photo in photos if photo.caption is not None}
    for text, embedding in _encode_captions(captions, wan).items():
        tensors[_prompt_key(text)] = embedding
    with staged_folder(output_dir, "photo latents", private) as folder:
        (folder / PHOTOS_NAME).write_bytes(save(tensors))
        hashes = {photo.key: photo.sha256 for photo in photos}
        index = {
            **_made_from(hashes, captions, wan.latents_fingerprint, height, width, shown),
            **({"text_tokens": wan.files.text_tokens} if captions else {}),
            "keys": list(photo_of),
            "boxes": boxes,
            **({"photo_of": photo_of} if shown != [plain] else {}),
            "sha256": sha256_file(folder / PHOTOS_NAME),
        }
        write_provenance(folder, {"photos_sha256": index["sha256"]})
        write_json(folder / "index.json", index)
    return index


def show_photo(wan: WanModel, photo: FacePhoto, view: PhotoView) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """A view of a photo, encoded: raw means [C, 1, h, w] bf16; the head's mask, uint8 [1, h, w]; the face's box, px.

    wan: with its VAE.
    """
    picture, box = _show(photo, view)
    latent = encode_pixels(wan.vae, to_pixels(picture[None]))[0].to(torch.bfloat16).cpu().contiguous()
    # Hair and hat say who somebody is, and a detector's box leaves them out.
    head = None if box is None else head_around(box)
    return latent, head_mask([head], 1, view.height, view.width, wan.geometry), box or ()


def _show(photo: FacePhoto, view: PhotoView) -> tuple[np.ndarray, tuple[float, float, float, float] | None]:
    """A view of a photo, uint8 [H, W, 3], and the face's box in it."""
    pixels, box = photo.pixels, photo.face_box
    if view.framing == "head":
        window = window_around(box, REFERENCE_MARGIN, view.width / view.height)
        pixels, (left, top, _, _) = cut_window(pixels, window), window
        box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    fit = fit_sizes(pixels.shape[:2], view.height, view.width, "crop", centre)
    return fit.frame(pixels), fit.box(box)


def photo_latents_are_current(
    folder: Path,
    photos: dict[str, str],
    fingerprint: str,
    height: int,
    width: int,
    captions: Mapping[str, str] | None = None,
    views: Sequence[PhotoView] = (),
) -> bool:
    """Whether `folder` holds exactly these photos (name to sha256) in these views, encoded with this base.

    height, width: of the clips. captions: for the photos that have one of their own. views: as in `encode_photos`.
    """
    index = find_json(folder / "index.json") or {}
    shown = list(views) or [PhotoView("photo", height, width)]
    expected = {**_MAY_LACK, **_made_from(photos, captions or {}, fingerprint, height, width, shown)}
    return {name: index.get(name) for name in expected} == expected


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
        photo_of = fitted(dict[str, str], index.get("photo_of", {}), "photo_of")
        boxes = fitted(dict[str, list[float]], index["boxes"], "boxes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a folder of photo latents ({error}); encode the photos again") from error
    if fingerprint != base_fingerprint:
        raise DataError(f"{folder}: encoded with base {fingerprint[:12]}, not {base_fingerprint[:12]}; encode again")
    path = folder / PHOTOS_NAME
    tensors = load_verified(path, sha256, "photos")
    try:
        texts = {text: pad(tensors[_prompt_key(text)], length) for text in captions.values()}
        found = {}
        for key in keys:
            photo, latent = photo_of.get(key, key), tensors[key]
            caption = captions.get(photo)
            embeds = texts[caption] if caption is not None else None
            inactive = tensors.get(inactive_name(*latent.shape[1:]))
            found[key] = PhotoLatent(
                latent, tensors[mask_name(key)], caption, embeds, photo_of.get(key, ""), inactive, tuple(boxes[key])
            )
        return found
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


# Keys of an index that folders of an earlier version lack, where they say nothing new.
_MAY_LACK: dict[str, Any] = {"captions": None, "views": None}


def _made_from(
    photos: dict[str, str],
    captions: Mapping[str, str],
    fingerprint: str,
    height: int,
    width: int,
    views: Sequence[PhotoView],
) -> dict[str, Any]:
    made_of = {"photos": photos, "size_hw": [height, width], "base_fingerprint": fingerprint}
    found: dict[str, Any] = {"kind": "photos", "recipe": RECIPE, **made_of}
    if captions:
        found["captions"] = dict(captions)
    if list(views) != [PhotoView("photo", height, width)]:
        found["views"] = [[view.framing, view.height, view.width] for view in views]
    return found
