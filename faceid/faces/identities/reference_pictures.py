"""Cut pictures for the base to look at from photos, and keep the best with the identity.

Such a picture shows a head with its hair and some of what is around it. Faces are biometric data: the folder is as
private as the identity that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from faceid.faces.photos.detect import crop_face
from faceid.media import images
from faceid.media.listing import entries_of

REFERENCES_FOLDER = "references"
# The best photos that an identity keeps, and how much is shown around a face, in parts of its box's longer side.
NUM_KEPT, REFERENCE_MARGIN = 2, 0.5
# More than any base renders of a face.
MOST_PX = 768


def cut_reference(photo: np.ndarray, box_xyxy: tuple[int, int, int, int]) -> np.ndarray:
    """The square around a face of a photo, uint8 [S, S, 3], as a reference shows it."""
    cut = crop_face(photo, box_xyxy, REFERENCE_MARGIN)
    if len(cut) <= MOST_PX:
        return cut
    return np.asarray(Image.fromarray(cut).resize((MOST_PX, MOST_PX), Image.Resampling.LANCZOS))


def write_references(
    folder: Path, photos_dir: Path, weights: Mapping[str, float], boxes: Mapping[str, tuple[int, int, int, int]]
) -> None:
    """Write the references of an identity's best photos into `folder`, best first. weights, boxes: by photo."""
    folder.mkdir()
    best = sorted(weights, key=lambda name: (-weights[name], name))[:NUM_KEPT]
    for number, name in enumerate(best, start=1):
        picture = cut_reference(images.read_photo(photos_dir / name), boxes[name])
        Image.fromarray(picture).save(folder / f"{number}.png")


def references_in(identity_dir: Path) -> list[Path]:
    """The references of an identity folder, best first; empty for one of before there were any."""
    folder = identity_dir / REFERENCES_FOLDER
    if not folder.is_dir():
        return []
    return [path for path in sorted(entries_of(folder, str(folder))) if path.suffix == ".png"]
