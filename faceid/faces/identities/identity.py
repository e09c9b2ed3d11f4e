"""Make an identity folder from a folder of photos, and read it back.

The identity folder holds tensors and plain types only, and loads under `weights_only=True`. The photos themselves
appear nowhere but in report.html.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from faceid.errors import DataError
from faceid.faces.aggregate import aggregate, concentration, effective_number
from faceid.faces.identities.identity_folder import IDENTITY, check_manifest, check_output_folder, write_manifest
from faceid.faces.identities.identity_report import render_identity_report
from faceid.faces.identities.reference_pictures import REFERENCES_FOLDER, references_in, write_references
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos import photo_selection
from faceid.faces.photos.detect import load_detector
from faceid.faces.photos.photo_faces import Photo, examine_photo
from faceid.faces.photos.photo_selection import FEWEST_PHOTOS, MOST_PHOTOS, usable
from faceid.files.documents import DocumentError, fitted
from faceid.files.given_paths import why_no_file, why_no_folder
from faceid.files.outputs import staged_folder, write_output
from faceid.files.provenance import sha256_file, sha256_json, write_provenance
from faceid.files.writing import write_atomic
from faceid.logs import progress
from faceid.media import images
from faceid.tensor_files import TensorFileError, load_plain, save_plain

if TYPE_CHECKING:
    # transformers takes seconds to import, and loading an identity does not need it.
    from faceid.faces.encoders.face_encoders import FaceEncoder

logger = logging.getLogger(__name__)

# Increased when the same photos and settings give another identity.
RECIPE = 3
EMBEDDING_FILE = "identity_embedding.pt"
# Characters that some file system or archive cannot hold.
UNSAFE_IN_NAMES = frozenset('/\\<>:"|?*')


def embeddings_sha256(embeddings: Sequence[torch.Tensor]) -> str:
    """A hash of embeddings [D] in this order; empty for none."""
    return sha256_json([one.tolist() for one in embeddings]) if embeddings else ""


@dataclass(frozen=True)
class Identity:
    """One person, as the adapter sees them."""

    name: str
    embedding: torch.Tensor
    """[D], float32, unit length."""
    encoder: str
    """clip, dinov3, dinov2, onnx, or unknown for a bare tensor."""
    encoder_fingerprint: str
    """Embeddings with equal fingerprints are comparable. Empty when unknown."""
    photo_embeddings: dict[str, torch.Tensor] = field(default_factory=dict)
    """Photo file name to [D], float32, unit length. Kept photos only."""
    photo_weights: dict[str, float] = field(default_factory=dict)
    """Photo file name to its share. The shares sum to 1."""
    photo_boxes: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """Photo file name to its face box (x0, y0, x1, y1) in pixels of the upright photo."""
    photo_sha256: dict[str, str] = field(default_factory=dict)
    """Photo file name to the hash of its file."""
    references: tuple[Path, ...] = ()
    """Pictures of the best photos for the base to look at, best first. Empty for an identity of an older version."""

    @property
    def sha256(self) -> str:
        """A hash of the embedding. The same photos and settings give the same one."""
        return embeddings_sha256([self.embedding])


@dataclass(frozen=True)
class _Photo:
    """The fields of a photo in metadata.pt that are read back."""

    file: str
    kept: bool
    weight: float
    box_xyxy: list[int]
    sha256: str | None = None


@dataclass(frozen=True)
class _Metadata:
    """The fields of metadata.pt that are read back."""

    name: str
    encoder: str
    encoder_fingerprint: str
    photos: list[_Photo]


def check_photos(photos_dir: Path, allow_few: bool) -> list[Path]:
    """The photos of a folder, if their number is legal. Call it before anything is loaded.

    Raises: DataError when the folder is missing, or holds no photo, fewer than 3 (unless `allow_few`) or over 20.
    """
    paths = images.list_photos(photos_dir)
    if not paths:
        raise DataError(f"{photos_dir}: holds no photos (jpg, png, webp, ...); put 10 to 15 photos of the face there")
    if len(paths) > MOST_PHOTOS:
        raise DataError(f"{photos_dir}: {len(paths)} photos, at most {MOST_PHOTOS}; choose the best {MOST_PHOTOS}")
    if len(paths) < FEWEST_PHOTOS and not allow_few:
        raise DataError(
            f"{photos_dir}: {len(paths)} photos, at least {FEWEST_PHOTOS} are needed; add photos (10 to 15 are best), "
            "or use --allow_few to go on with a weaker likeness"
        )
    return paths


def prepare_identity(
    photos_dir: Path,
    output_dir: Path,
    name: str,
    encoder: FaceEncoder,
    settings: FaceSettings,
) -> Identity:
    """Turn 3 to 20 photos of one face into an identity folder. The same photos give the same embedding bytes.

    Raises: DataError when too few photos are usable, they look like two people, or `output_dir` holds something else.
    Refused photos leave their report beside `output_dir` (`refused_report_path`). An identity that is there already
    stays unchanged.
    """
    paths = check_photos(photos_dir, settings.allow_few)
    check_output_folder(output_dir, photos_dir)
    output_dir = output_dir.resolve()
    if not name.strip():
        raise DataError(f"identity_name={name!r}: is empty; name the person")
    detector = load_detector(settings.detector, settings.detector_path)
    photos = [examine_photo(path, detector, settings.face_margin) for path in progress(paths, "photos", unit="photo")]
    # These appear only in the report. Nothing in them can be read or counted.
    no_photos = [
        Photo(photos_dir / name, dropped=f"is no file: {what}")
        for name, what in images.list_no_photos(photos_dir).items()
    ]
    _embed_faces(photos, encoder)
    try:
        alike = settings.aggregation == "mean"
        _select(photos, photos_dir, settings.allow_few, settings.check_one_person, alike)
    except DataError as error:
        refused = refused_report_path(output_dir)
        _write_refused(refused, error, name, encoder, [*photos, *no_photos], settings)
        raise DataError(f"{error}; every photo, with its faces and what became of it: {refused}") from error
    kept = usable(photos)
    embeddings = torch.stack([photo.embedding for photo in kept])
    weights = torch.tensor([photo.weight for photo in kept], dtype=torch.float64)
    identity = Identity(
        name=name,
        embedding=aggregate(embeddings, weights, settings.aggregation),
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        photo_embeddings={photo.name: photo.embedding.clone() for photo in kept},
        photo_weights={photo.name: photo.weight for photo in kept},
        photo_boxes={photo.name: photo.chosen.face.box_xyxy for photo in kept if photo.chosen},
        photo_sha256={photo.name: photo.sha256 for photo in kept},
    )
    summary = {
        **_choices(settings),
        "concentration": concentration(embeddings, weights),
        "effective_photos": effective_number(weights),
    }
    _write(output_dir, identity, photos, no_photos, summary, not settings.shared)
    logger.info("identity %r from %d of %d photos in %s", name, len(kept), len(photos), output_dir)
    return replace(identity, references=tuple(references_in(output_dir)))


def refused_report_path(output_dir: Path) -> Path:
    """Where the report of refused photos goes: beside the identity's folder, which stays unchanged."""
    return output_dir.with_name(f"{output_dir.name}_refused.html")


def check_folder_name(name: str, source: str) -> None:
    """Raises: DataError unless a person's name can name a folder on any system. source: its key and folder."""
    is_safe = name.isprintable() and not UNSAFE_IN_NAMES & set(name) and name == name.strip(" .")
    if not is_safe or not name or name.startswith("-"):
        raise DataError(
            f"{source}: {name!r} cannot name a folder everywhere; rename it (no control characters, none of "
            f"{' '.join(sorted(UNSAFE_IN_NAMES))}, no dash first, no dot or space first or last)"
        )


def load_identity(path: str | Path) -> Identity:
    """Read an identity folder, or its identity_embedding.pt, or any file that holds one bare [D] tensor.

    A bare tensor gives an identity named after the file, of encoder `unknown`.
    Raises: DataError when the file is missing, changed since it was written, or not a finite unit vector.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    file = path / EMBEDDING_FILE if path.is_dir() else path
    if (reason := why_no_file(file)) is not None:
        raise DataError(f"{file}: {reason}; make an identity with tools/prepare_face_embeddings.py")
    embedding = _check_embedding(file, _load_plain(file))
    if path.is_file() and not (file.name == EMBEDDING_FILE and (folder / "metadata.pt").is_file()):
        return Identity(name=file.stem, embedding=embedding, encoder="unknown", encoder_fingerprint="")
    check_manifest(folder)
    metadata = _read_metadata(folder)
    kept = {photo.file: photo for photo in metadata.photos if photo.kept}
    photo_files = {name: folder / "embeddings" / f"{name}.pt" for name in kept}
    photo_embeddings = {name: _check_embedding(file, _load_plain(file)) for name, file in photo_files.items()}
    other = next((name for name, found in photo_embeddings.items() if found.shape != embedding.shape), None)
    if other is not None:
        raise DataError(f"{photo_files[other]}: of another size than {EMBEDDING_FILE}; make the identity again")
    return Identity(
        name=metadata.name,
        embedding=embedding,
        encoder=metadata.encoder,
        encoder_fingerprint=metadata.encoder_fingerprint,
        photo_embeddings=photo_embeddings,
        photo_weights={name: photo.weight for name, photo in kept.items()},
        photo_boxes={name: _four(photo.box_xyxy, folder) for name, photo in kept.items()},
        photo_sha256={name: str(photo.sha256) for name, photo in kept.items()},
        references=tuple(references_in(folder)),
    )


def identity_is_current(folder: Path, photos_dir: Path, encoder: FaceEncoder, settings: FaceSettings) -> bool:
    """Whether `folder` already holds the identity of exactly these photos, by this encoder and these settings."""
    if not (folder / "metadata.pt").is_file():
        return False
    content = _load_plain(folder / "metadata.pt")
    metadata = _parse_metadata(content, folder)
    photos = {path.name: sha256_file(path) for path in images.list_photos(photos_dir)}
    expected = {**_choices(settings), "encoder_fingerprint": encoder.fingerprint}
    return (
        photos == {photo.file: photo.sha256 for photo in metadata.photos}
        # Older versions kept no references.
        and references_in(folder) != []
        and {name: content.get(name) for name in expected} == expected
    )


def _embed_faces(photos: list[Photo], encoder: FaceEncoder) -> None:
    candidates = [candidate for photo in photos for candidate in photo.candidates]
    for candidate, embedding in zip(candidates, encoder.embed([c.crop for c in candidates]), strict=True):
        candidate.embedding = embedding


def _select(photos: list[Photo], photos_dir: Path, allow_few: bool, check_one_person: bool, alike: bool) -> None:
    try:
        photo_selection.choose_faces(photos)
        _require_enough(photos, photos_dir, allow_few)
        photo_selection.score_quality(photos)
        photo_selection.drop_duplicates(photos)
        _require_enough(photos, photos_dir, allow_few)
        if check_one_person:
            photo_selection.refuse_two_people(photos)
        photo_selection.drop_poor(photos)
        photo_selection.set_weights(photos, alike=alike)
    finally:
        # The report is also written when the photos are refused. The user needs the reasons to improve the set.
        for photo in photos:
            if photo.dropped is not None:
                logger.warning("%s dropped: %s", photo.name, photo.dropped)
            for note in photo.notes:
                logger.warning("%s: %s", photo.name, note)


def _require_enough(photos: list[Photo], photos_dir: Path, allow_few: bool) -> None:
    kept = usable(photos)
    needed = 1 if allow_few else FEWEST_PHOTOS
    if len(kept) >= needed:
        return
    reasons = "; ".join(f"{photo.name}: {photo.dropped}" for photo in photos if photo.dropped is not None)
    go_on = ", or use --allow_few to go on with a weaker likeness" if kept else ""
    raise DataError(
        f"{photos_dir}: {len(kept)} of {len(photos)} photos are usable, {needed} are needed ({reasons}); "
        f"add photos of the face from the front{go_on}"
    )


def _write(
    output_dir: Path,
    identity: Identity,
    photos: list[Photo],
    no_photos: list[Photo],
    summary: dict[str, Any],
    private: bool,
) -> None:
    about = {
        "name": identity.name,
        "encoder": identity.encoder,
        "encoder_fingerprint": identity.encoder_fingerprint,
        "dim": len(identity.embedding),
        **summary,
    }
    with staged_folder(output_dir, IDENTITY, private) as staged:
        save_plain(staged / EMBEDDING_FILE, identity.embedding)
        (staged / "embeddings").mkdir()
        for photo_name, embedding in identity.photo_embeddings.items():
            save_plain(staged / "embeddings" / f"{photo_name}.pt", embedding)
        save_plain(staged / "metadata.pt", {**about, "photos": [_describe(photo) for photo in photos]})
        photos_dir = photos[0].path.parent
        write_references(staged / REFERENCES_FOLDER, photos_dir, identity.photo_weights, identity.photo_boxes)
        write_atomic(staged / "report.html", render_identity_report(about, [*photos, *no_photos]))
        inputs = {photo.name: photo.sha256 for photo in photos}
        write_provenance(staged, {"photos_sha256": inputs, "encoder_fingerprint": identity.encoder_fingerprint})
        write_manifest(staged, {**about, "num_photos": len(photos), "num_kept": len(identity.photo_weights)})


def _write_refused(
    path: Path, error: DataError, name: str, encoder: FaceEncoder, photos: list[Photo], settings: FaceSettings
) -> None:
    """Write the report of refused photos. It shows faces, so only its owner can read it."""
    about = {"name": name, "encoder": encoder.name, "encoder_fingerprint": encoder.fingerprint, **_choices(settings)}
    write_output(path, render_identity_report({**about, "refused": str(error)}, photos), private=not settings.shared)


def _describe(photo: Photo) -> dict[str, Any]:
    """A photo's entry in metadata.pt, in plain types only."""
    return {
        "file": photo.name,
        "sha256": photo.sha256,
        "kept": photo.dropped is None,
        "reason": photo.dropped or "",
        "notes": list(photo.notes),
        "weight": photo.weight,
        "box_xyxy": list(photo.chosen.face.box_xyxy) if photo.chosen else [],
        "detection_score": photo.chosen.face.score if photo.chosen else None,
        "face_px": photo.chosen.size_px if photo.chosen else None,
        "sharpness": photo.chosen.sharpness if photo.chosen else None,
        "cosine": photo.cosine,
        "quality": dict(photo.quality),
    }


def _choices(settings: FaceSettings) -> dict[str, Any]:
    """The settings that shape an identity, besides its photos and its encoder."""
    return {
        "recipe": RECIPE,
        "aggregation": settings.aggregation,
        "detector": settings.detector,
        "face_margin": settings.face_margin,
    }


def _load_plain(file: Path) -> Any:
    try:
        return load_plain(file)
    except (TensorFileError, OSError) as error:
        raise DataError(f"{file}: cannot be read as tensors and plain types ({error}); make it again") from error


def _read_metadata(folder: Path) -> _Metadata:
    metadata = _parse_metadata(_load_plain(folder / "metadata.pt"), folder)
    if any(photo.sha256 is None for photo in metadata.photos):
        raise DataError(f"{folder}: written by an older version, without the photos' hashes; make the identity again")
    for photo in metadata.photos:
        # The name refers to a file here, and may come from anybody.
        if photo.file != Path(photo.file).name or "\0" in photo.file:
            raise DataError(f"{folder}: metadata.pt: {photo.file!r} is no photo's name; make the identity again")
        if not math.isfinite(photo.weight):
            raise DataError(f"{folder}: metadata.pt: {photo.file} weighs {photo.weight}; make the identity again")
    return metadata


def _parse_metadata(content: Any, folder: Path) -> _Metadata:
    try:
        return fitted(_Metadata, content)
    except DocumentError as error:
        raise DataError(f"{folder}: metadata.pt: {error}; make the identity again") from error


def _four(box: list[int], folder: Path) -> tuple[int, int, int, int]:
    if len(box) != 4:
        raise DataError(f"{folder}: metadata.pt: a face box of {len(box)} numbers; make the identity again")
    return box[0], box[1], box[2], box[3]


def _check_embedding(file: Path, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.ndim != 1 or not value.is_floating_point():
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise DataError(f"{file}: holds {found}; a face embedding is one float tensor [D]")
    embedding = value.detach().float()
    length = float(embedding.norm())
    if not bool(torch.isfinite(embedding).all()) or abs(length - 1) > 1e-3:
        raise DataError(f"{file}: embedding of length {length:.4g}, must be finite and of length 1; normalise it")
    return embedding


def check_same_photos(photos_dir: Path, identity: Identity) -> None:
    """Raises: DataError when the folder lacks a photo of the identity, or cannot be read."""
    if (reason := why_no_folder(photos_dir)) is not None:
        raise DataError(f"face_images_dir={photos_dir}: {reason}")
    for name in identity.photo_sha256:
        if (photos_dir / name).exists() and (reason := why_no_file(photos_dir / name)) is not None:
            raise DataError(f"face_images_dir={photos_dir}: {name}: {reason}")
    # Compared by content, because another person's photos often have the same names.
    other = [name for name, sha256 in identity.photo_sha256.items() if _sha256_or_none(photos_dir / name) != sha256]
    if other or not identity.photo_sha256:
        raise DataError(
            f"face_images_dir={photos_dir}: {other[0] if other else 'every photo'} of the identity is missing or "
            "another picture; give the folder the identity was made from, or an identity of these photos"
        )


def _sha256_or_none(file: Path) -> str | None:
    return sha256_file(file) if file.is_file() else None
