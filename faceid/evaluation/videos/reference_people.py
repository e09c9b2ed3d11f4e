"""Find the people that a render may show: photos by person, none of them used for conditioning.

Reference photos go through the face detector. A photo without a face is left out with a warning. Files and pictures are
checked, so that no conditioning photo is also a reference. A model that copies its input would win otherwise.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.faces.photos.copies import ComparedPhoto, are_copies, compared
from faceid.faces.photos.detect import FaceDetector
from faceid.faces.photos.photo_faces import Photo, examine_photo, miniature
from faceid.faces.photos.photo_selection import DUPLICATE_CORRELATION
from faceid.files.given_paths import why_no_folder
from faceid.files.provenance import sha256_file
from faceid.logs import progress
from faceid.media import images
from faceid.media.listing import entries_of

log = logging.getLogger(__name__)

FEWEST_PEOPLE = 2


@dataclass(frozen=True)
class Reference:
    """One person of the gallery."""

    name: str
    photos: list[Path]
    """The photos that count."""
    crops: list[np.ndarray]
    """The face of each, square, RGB uint8 [S, S, 3]."""


def find_reference_photos(references_dir: Path) -> dict[str, list[Path]]:
    """Photo files by person, people in order of name. Nothing is decoded.

    Raises: DataError when the folder is missing, holds fewer than 2 people, or a person has no photo.
    """
    if (reason := why_no_folder(references_dir)) is not None:
        raise DataError(f"references_dir={references_dir}: {reason}; give a folder with a subfolder per person")
    people = {
        folder.name: images.list_photos(folder)
        for folder in entries_of(references_dir, f"references_dir={references_dir}")
        if folder.is_dir()
    }
    for name, photos in people.items():
        if not photos:
            raise DataError(f"{references_dir / name}: holds no photos; add some, or remove the folder")
    if len(people) < FEWEST_PEOPLE:
        raise DataError(
            f"references_dir={references_dir}: {len(people)} people, at least {FEWEST_PEOPLE} are needed to tell one "
            "from another; add a subfolder of photos per person"
        )
    return people


def refuse_shared_photos(people: dict[str, list[Path]], conditioning_dir: Path) -> None:
    """Refuse references that were used for conditioning, including resized or newly saved ones.

    Raises: DataError naming the first photo found on both sides.
    """
    if (reason := why_no_folder(conditioning_dir)) is not None:
        raise DataError(f"conditioning_dir={conditioning_dir}: {reason}; give the folder of conditioning photos")
    references = [photo for photos in people.values() for photo in photos]
    conditioning = sorted(path for path in conditioning_dir.rglob("*") if path.is_file())
    _refuse_same_files(references, conditioning)
    _refuse_same_pictures(references, [f for f in conditioning if f.suffix.lower() in images.PHOTO_SUFFIXES])


def cut_references(
    people: dict[str, list[Path]], detector: FaceDetector, face_margin: float, conditioning_dir: Path | None = None
) -> list[Reference]:
    """Cut the largest sure face out of every photo.

    conditioning_dir: photos from which embeddings were made, of one person or in a subfolder for each. A crop,
    a mirrored or a brighter copy of a conditioning photo of the same person is left out, with a warning.
    Raises: DataError when a person has no photo left.
    """
    references = []
    # Photos of one person lie in the folder itself, those of several people in a subfolder each.
    of_all = {} if conditioning_dir is None else _as_compared(conditioning_dir)
    for name in progress(people, "references", unit="person"):
        photos = [examine_photo(path, detector, face_margin) for path in people[name]]
        if conditioning_dir is not None:
            _leave_out_copies(photos, {**of_all, **_as_compared(conditioning_dir / name)})
        for photo in photos:
            if photo.dropped is not None:
                log.warning("%s: not a reference, %s", photo.path, photo.dropped)
        kept = [photo for photo in photos if photo.dropped is None]
        if not kept:
            raise DataError(
                f"{people[name][0].parent}: none of its {len(photos)} photos can be a reference ({photos[0].name}: "
                f"{photos[0].dropped}); add photos of {name}'s face"
            )
        # Detectors return the largest face first.
        references.append(Reference(name, [each.path for each in kept], [each.candidates[0].crop for each in kept]))
    return references


def _refuse_same_files(references: list[Path], conditioning: list[Path]) -> None:
    conditioned = {sha256_file(path): path for path in conditioning}
    for photo in references:
        if (other := conditioned.get(sha256_file(photo))) is not None:
            raise DataError(
                f"{photo}: is the conditioning photo {other}, so a copy of it would win; take it out of references_dir"
            )


def _refuse_same_pictures(references: list[Path], conditioning: list[Path]) -> None:
    conditioned = _miniatures(conditioning)
    if not conditioned:
        return
    others, pictures = list(conditioned), np.stack(list(conditioned.values()))
    for photo, picture in _miniatures(references).items():
        correlations = pictures @ picture
        nearest = int(correlations.argmax())
        # Other pictures reach 0.94 (691,000 pairs of drawn photos) and 0.86 (62 news photos). Copies of a third the
        # size and of poor quality reach 0.988 and more.
        if correlations[nearest] > DUPLICATE_CORRELATION:
            raise DataError(
                f"{photo}: shows the same as the conditioning photo {others[nearest]} (correlation "
                f"{correlations[nearest]:.3f}, over {DUPLICATE_CORRELATION}), so a copy of it would win; take it out "
                "of references_dir"
            )


def _miniatures(paths: list[Path]) -> dict[Path, np.ndarray]:
    """Every readable photo as a `miniature` [1024]."""
    found = {}
    for path in progress(paths, "photos compared", unit="photo"):
        try:
            found[path] = miniature(images.read_photo(path))
        except DataError:
            # An unreadable photo has conditioned nothing. An unreadable reference is left out with a warning later.
            continue
    return found


def _as_compared(folder: Path) -> dict[Path, ComparedPhoto]:
    """A folder's photos, prepared for the search for copies. Unreadable ones have conditioned nothing."""
    found = {}
    for path in images.list_photos(folder) if folder.is_dir() else []:
        with suppress(DataError):
            found[path] = compared(images.read_photo(path))
    return found


def _leave_out_copies(references: list[Photo], conditioning: dict[Path, ComparedPhoto]) -> None:
    """Leave copies out instead of refusing them. In a thousand pairs of drawn photos, one may be a false copy."""
    for photo in references:
        if photo.dropped is not None:
            continue
        assert photo.compared is not None, f"{photo.name}: has a face and was not read"
        for path, other in conditioning.items():
            how = are_copies(photo.compared, photo.candidates[0].face.box_xyxy, other)
            if how is not None:
                photo.dropped = f"shows the same as the conditioning photo {path}{f' ({how})' if how else ''}"
                break
