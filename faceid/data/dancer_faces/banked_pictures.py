"""Take the pictures of faces out of a face bank, for reference frames of the dancers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load

from faceid.data.dancer_faces.face_bank import PICTURE_SIDE_PX, open_face_bank
from faceid.data.latents.reference_latents import ReferencePicture
from faceid.data.shards.index import DamagedError

# The best pictures of a film or clip, and of a dancer. More would cost memory and show little that is new.
MOST_OF_FILM, MOST_OF_DANCER = 2, 16


def banked_pictures(
    folder: Path, encoder_fingerprint: str, sizes_hw: Sequence[tuple[int, int]]
) -> list[ReferencePicture]:
    """The best faces of each dancer, from as many films or clips as there are. sizes_hw: of the clips, in pixels.

    Raises: DataError as `open_face_bank`, and when the bank is damaged.
    """
    index = open_face_bank(folder, encoder_fingerprint)
    of_dancer: dict[str, list[tuple[int, float, ReferencePicture]]] = {}
    for number, sample in enumerate(index.samples):
        try:
            scores = load(index.read(number, "safetensors"))["scores"].tolist()
            strip = np.asarray(Image.open(io.BytesIO(index.read(number, "jpg"))).convert("RGB"))
        except (SafetensorError, KeyError, UnidentifiedImageError, OSError) as error:
            raise DamagedError(f"{folder}: {sample.key}: no faces in it ({error}); make the bank again") from error
        if strip.shape != (PICTURE_SIDE_PX, len(scores) * PICTURE_SIDE_PX, 3):
            raise DamagedError(f"{folder}: {sample.key}: not {len(scores)} faces side by side; make the bank again")
        best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:MOST_OF_FILM]
        for rank, place in enumerate(best):
            pixels = strip[:, place * PICTURE_SIDE_PX : (place + 1) * PICTURE_SIDE_PX]
            picture = ReferencePicture(np.ascontiguousarray(pixels), sample.key, sizes_hw, sample.dancer)
            of_dancer.setdefault(sample.dancer, []).append((rank, -scores[place], picture))
    # Each film's best picture comes before any film's second.
    chosen = [
        sorted(found, key=lambda row: (row[0], row[1], row[2].of))[:MOST_OF_DANCER]
        for _, found in sorted(of_dancer.items())
    ]
    return [picture for found in chosen for _, _, picture in found]
