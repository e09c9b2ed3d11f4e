"""Keep reference frames of the target and of the dancers: raw latents [C, 1, h, w], one file and its index.

A reference frame has the size of what it is shown with. So each picture is there in every size of its person's samples.

A reference frame shows the base what somebody looks like. In training it has to show the person in the pixels. The
target's are cut from the photos, as for rendering. A dancer's are the faces of the face bank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from faceid.data.aist import performance_of
from faceid.data.latents.latent_reader import load_verified
from faceid.errors import DataError
from faceid.files.documents import find_json, fitted, parse_json, read_bytes
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_file, write_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.models.base.reference_frames import encode_reference
from faceid.models.base.wan import WanModel

# Increased when the same pictures give other latents.
RECIPE = 2
LATENTS_NAME = "references.safetensors"


@dataclass(frozen=True)
class ReferencePicture:
    """One picture to look at: uint8 RGB [H, W, 3]. of: a photo of the target, or the film or clip of a dancer."""

    pixels: np.ndarray
    of: str
    sizes_hw: Sequence[tuple[int, int]]
    """Sizes in pixels of the samples that it may be shown with."""
    dancer: str = ""
    """The dancer whom it shows; empty for the target."""


class References:
    """Reference frames by whom they show."""

    def __init__(
        self, of_target: Sequence[tuple[str, Tensor]], of_dancer: Mapping[str, Sequence[tuple[str, Tensor]]]
    ) -> None:
        """of_target: with the photo that each was made of. of_dancer: with the performance that each is from."""
        self._of_target, self._of_dancer = sorted(of_target, key=lambda row: row[0]), dict(of_dancer)

    def for_photo(self, name: str, like: Tensor) -> list[Tensor]:
        """Those of the target that are not of this photo; all of them where there is no other photo.

        like: the latent [C, f, h, w] that they are to be shown with; they are of its size.
        """
        return _of_others(self._of_target, name, like)

    def for_clip(self, clip: str, dancer: str, like: Tensor) -> list[Tensor]:
        """Those of a clip's dancer from other performances; of its own where there are no others. like: as above."""
        return _of_others(self._of_dancer.get(dancer, []), performance_of(clip), like)

    @property
    def has_target(self) -> bool:
        """Whether there is one of the target."""
        return bool(self._of_target)

    @property
    def num_dancers(self) -> int:
        """Dancers of whom there are some."""
        return len(self._of_dancer)


def encode_references(
    pictures: Iterable[ReferencePicture],
    made_of: Mapping[str, Any],
    output_dir: Path,
    wan: WanModel,
    private: bool = True,
) -> None:
    """Encode pictures into one folder. An older one at `output_dir` is replaced whole.

    made_of: what the pictures follow from, for `references_are_current`. wan: with its VAE. private: whether only its
    owner may look in. Raises: DataError when there are no pictures.
    """
    shown = list(pictures)
    if not shown:
        raise DataError(f"{output_dir}: no picture to make references of")
    latents: dict[str, Tensor] = {}
    of: list[list[str]] = []
    for picture in progress(shown, "references", unit="picture"):
        image = Image.fromarray(picture.pixels)
        for size_hw in picture.sizes_hw:
            latent = encode_reference(wan.vae, image, *size_hw)[0]
            latents[f"{len(of):06d}"] = latent.to(torch.bfloat16).cpu()
            of.append([picture.dancer, picture.of])
    with staged_folder(output_dir, "reference latents", private) as folder:
        (folder / LATENTS_NAME).write_bytes(save({name: latent.contiguous() for name, latent in latents.items()}))
        index = {
            **_made_of(made_of, wan.latents_fingerprint),
            "of": of,
            "sha256": sha256_file(folder / LATENTS_NAME),
        }
        write_provenance(folder, {"references_sha256": index["sha256"]})
        write_json(folder / "index.json", index)


def references_are_current(folder: Path, made_of: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether `folder` holds what would be made. fingerprint: of the base that encodes."""
    index = find_json(folder / "index.json") or {}
    expected = _made_of(made_of, fingerprint)
    return {name: index.get(name) for name in expected} == expected


def read_references(folder: Path, base_fingerprint: str) -> References:
    """Raises: DataError when the folder is missing, damaged, or made with another base."""
    try:
        index = parse_json(read_bytes(folder / "index.json"))
        fingerprint, sha256 = str(index["base_fingerprint"]), str(index["sha256"])
        of = fitted(list[list[str]], index["of"], "of")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a folder of references ({error}); remove it, it is made again") from error
    if fingerprint != base_fingerprint:
        raise DataError(f"{folder}: encoded with base {fingerprint[:12]}, not {base_fingerprint[:12]}; remove it")
    path = folder / LATENTS_NAME
    tensors = load_verified(path, sha256, "references")
    of_target: list[tuple[str, Tensor]] = []
    of_dancer: dict[str, list[tuple[str, Tensor]]] = {}
    try:
        for number, (dancer, shown) in enumerate(of):
            latent = tensors[f"{number:06d}"]
            if dancer:
                of_dancer.setdefault(dancer, []).append((performance_of(shown), latent))
            else:
                of_target.append((shown, latent))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: not what its index says ({error}); remove {folder}") from error
    return References(of_target, of_dancer)


def _of_others(rows: Sequence[tuple[str, Tensor]], own: str, like: Tensor) -> list[Tensor]:
    """Latents of the size of `like`: those that are not of `own`, or all when there are no others."""
    fitting = [(source, latent) for source, latent in rows if latent.shape[-2:] == like.shape[-2:]]
    return [latent for source, latent in fitting if source != own] or [latent for _, latent in fitting]


def _made_of(made_of: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    return {"kind": "references", "recipe": RECIPE, "made_of": dict(made_of), "base_fingerprint": fingerprint}
