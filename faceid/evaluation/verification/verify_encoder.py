"""Verify an encoder on folders of labelled photos: does it tell these people apart?

Photos go through the detector, the crop and the encoder of an identity. Of several faces the largest counts, whatever
the encoder makes of it. So encoders are compared on the same crops. Nothing that holds a face is kept or written:
no crop, no embedding.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from faceid.config import warn_of_unused
from faceid.errors import DataError
from faceid.evaluation.places import VERIFICATION, refuse_output_among_photos
from faceid.evaluation.verification.verification_figures import Figures, Pairs, conclusion, make_pairs, measure
from faceid.evaluation.verification.verification_report import About, publish_verification
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.identities.photos_to_identity import encoder_of
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.copies import are_copies
from faceid.faces.photos.detect import FaceDetector, load_detector
from faceid.faces.photos.photo_faces import Photo, examine_photo, miniature
from faceid.faces.photos.photo_selection import DUPLICATE_CORRELATION, usable
from faceid.files.given_paths import why_no_folder
from faceid.files.outputs import refuse_replacing
from faceid.files.provenance import sha256_json
from faceid.logs import Progress
from faceid.media import images
from faceid.media.listing import entries_of
from faceid.toy.shipped import resolve_encoder_path

log = logging.getLogger(__name__)

FEWEST_PEOPLE = 2
# This gives 4.5 million pairs. A resampling takes 0.4 s on one core, so a thousand take some 6 minutes (2 million pairs
# took 0.16 s each).
MOST_PHOTOS = 3000
# Photos of one person that are examined closely for copies. Every two of them are compared, at 12 ms each on one core.
MOST_LOOKED_AT = 60


@dataclass
class EmbeddedPhotos:
    """The photos: embeddings of those that count, and why the others do not."""

    people: list[str] = field(default_factory=list)
    """The person of each embedding, [N]."""
    embeddings: list[np.ndarray] = field(default_factory=list)
    """N of [D]; unit length."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Hash of each photo's file to person/file."""
    left_out: dict[str, str] = field(default_factory=dict)
    """person/file to reason."""
    several_faces: list[str] = field(default_factory=list)
    """person/file of photos of which only the largest face counts."""


def verify_encoder(
    faces_dir: Path, output_dir: Path, settings: FaceSettings, bootstrap_samples: int = 1000, seed: int = 0
) -> Figures:
    """Verify the encoder of `settings` on the people of `faces_dir`, write the report, and log the conclusion.

    Raises: DataError when the folders are unusable, or too few photos have a face. The encoder's and the detector's
    ModelError and ConfigError pass through.
    """
    people = find_people_to_verify(faces_dir)
    refuse_output_among_photos(output_dir, faces_dir)
    refuse_replacing(output_dir, VERIFICATION)
    output_dir = output_dir.resolve()
    warn_of_unused([settings], settings.unused("here, where no identity is made"))
    detector = load_detector(settings.detector, settings.detector_path)
    encoder = encoder_of(replace(settings, encoder_path=resolve_encoder_path(settings.encoder_path)))
    photos = embed_photos(people, detector, encoder, settings.face_margin)
    pairs = _make_pairs(photos, faces_dir)
    num_photos = {name: photos.people.count(name) for name in pairs.people}
    figures = measure(pairs, num_photos, bootstrap_samples, seed)
    num_given = sum(len(paths) for paths in people.values())
    # The path tells two CLIP encoders apart.
    name = (
        settings.encoder if settings.encoder_path is None else f"{settings.encoder} {Path(settings.encoder_path).name}"
    )
    about = About(
        encoder=name,
        conclusion=conclusion(name, figures, num_given),
        encoder_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        settings=settings,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        left_out=photos.left_out,
        several_faces=photos.several_faces,
        num_given=num_given,
        photos_sha256=sha256_json(sorted(photos.sha256)),
    )
    publish_verification(output_dir, about, figures, pairs)
    log.info("%s", output_dir / "report.html")
    log.info("%s", about.conclusion)
    return figures


def find_people_to_verify(faces_dir: Path) -> dict[str, list[Path]]:
    """Photo files by person, in order of name. Nothing is decoded.

    Raises: DataError when the folder is missing, or its people or their photos are too few or too many.
    """
    if (reason := why_no_folder(faces_dir)) is not None:
        raise DataError(f"faces_dir={faces_dir}: {reason}; name a folder with one folder of photos for each person")
    folders = [path for path in entries_of(faces_dir, f"faces_dir={faces_dir}") if path.is_dir()]
    people = {folder.name: images.list_photos(folder) for folder in folders}
    for name in [name for name, photos in people.items() if not photos]:
        log.warning("%s: holds no photos, so this person does not count", faces_dir / name)
        del people[name]
    if len(people) < FEWEST_PEOPLE:
        raise DataError(
            f"faces_dir={faces_dir}: {len(people)} folders with photos, at least {FEWEST_PEOPLE} people are needed to "
            "tell one from another; add a folder of photos for each person"
        )
    if all(len(photos) < 2 for photos in people.values()):
        raise DataError(
            f"faces_dir={faces_dir}: one photo of each of {len(people)} people, so no two show the same person; add "
            "a second photo of as many of them as you can"
        )
    count = sum(len(photos) for photos in people.values())
    if count > MOST_PHOTOS:
        raise DataError(
            f"faces_dir={faces_dir}: {count} photos, at most {MOST_PHOTOS}, as every two of them are compared; give "
            "a folder with fewer people, or fewer photos of each"
        )
    return people


def embed_photos(
    people: dict[str, list[Path]], detector: FaceDetector, encoder: FaceEncoder, face_margin: float
) -> EmbeddedPhotos:
    """Embed the face of every photo, person by person, so that few pictures are held at a time."""
    found = EmbeddedPhotos()
    bar = Progress("photos", sum(len(paths) for paths in people.values()), unit="photo")
    for person, paths in people.items():
        photos = []
        for path in paths:
            photos.append(examine_photo(path, detector, face_margin))
            bar.advance()
        _leave_out_copies(person, photos, found)
        kept = usable(photos)
        # Detectors return the largest face first.
        embeddings = encoder.embed([photo.candidates[0].crop for photo in kept])
        found.people += [person] * len(kept)
        found.embeddings += list(embeddings.numpy())
        found.several_faces += [f"{person}/{photo.name}" for photo in kept if len(photo.candidates) > 1]
        for photo in photos:
            if photo.dropped is not None:
                found.left_out[f"{person}/{photo.name}"] = photo.dropped
                log.warning("%s/%s left out: %s", person, photo.name, photo.dropped)
    bar.close()
    return found


def _leave_out_copies(person: str, photos: list[Photo], found: EmbeddedPhotos) -> None:
    """Drop photos that repeat a picture. A copy resembles itself by any encoder, and would flatter every one."""
    earlier: list[tuple[Photo, np.ndarray]] = []
    if len(photos) > MOST_LOOKED_AT:
        log.warning(
            "%s: %d photos: crops and mirrored copies are looked for among the first %d that count only",
            person,
            len(photos),
            MOST_LOOKED_AT,
        )
    for photo in photos:
        other = found.sha256.setdefault(photo.sha256, f"{person}/{photo.name}")
        if photo.dropped is not None:
            continue
        if other != f"{person}/{photo.name}":
            is_own = other.startswith(f"{person}/")
            photo.dropped = f"the same file as {other}" + ("" if is_own else ", so one of the two names is wrong")
            continue
        assert photo.thumbnail is not None, f"{photo.name}: usable and not read"
        picture = miniature(photo.thumbnail)
        is_looked_at = len(earlier) < MOST_LOOKED_AT
        for first, its_picture in earlier:
            if float(its_picture @ picture) > DUPLICATE_CORRELATION:
                how: str | None = ""
            else:
                how = _copied(first, photo) if is_looked_at else None
            if how is not None:
                photo.dropped = f"nearly the same picture as {first.name}{f' ({how})' if how else ''}"
                break
        else:
            earlier.append((photo, picture))


def _copied(first: Photo, photo: Photo) -> str | None:
    assert first.compared is not None and photo.compared is not None, f"{photo.name}: usable and not read"
    return are_copies(first.compared, first.candidates[0].face.box_xyxy, photo.compared)


def _make_pairs(photos: EmbeddedPhotos, faces_dir: Path) -> Pairs:
    """Make the pairs. Raises: DataError when the usable photos make no genuine pair, or no impostor pair."""
    counts = {name: photos.people.count(name) for name in photos.people}
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(photos.left_out.items())[:3])
    more = f"; and {len(photos.left_out) - 3} more" if len(photos.left_out) > 3 else ""
    if len(counts) < FEWEST_PEOPLE:
        raise DataError(
            f"faces_dir={faces_dir}: {len(counts)} people with a usable photo, at least {FEWEST_PEOPLE} are needed "
            f"({reasons}{more}); add photos from the front, or use --detector yunet, or none for photos cut to the face"
        )
    if max(counts.values()) < 2:
        raise DataError(
            f"faces_dir={faces_dir}: nobody has 2 usable photos, so no two show the same person ({reasons}{more}); "
            "add photos from the front, or use --detector yunet, or none for photos cut to the face"
        )
    return make_pairs(np.stack(photos.embeddings), photos.people)
