"""Embed the dancers' own faces with the same encoder as the target, and store them by dancer and by film.

The embedding given in training must be of the person in the pixels, and dance clips show other people than the target.
A bank is a folder of shards like any other: made by many processes, verified by sha256, the same bytes whoever made it.
An entry is a film or a clip. It holds the faces' embeddings and scores, the faces as pictures to look at, and their
places.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from faceid.data.aist import performance_of
from faceid.data.dancer_faces.face_bank_settings import FaceBankSettings
from faceid.data.dancer_faces.face_crops import FaceCut, FaceSource, cut_faces
from faceid.data.shards.index import DamagedError, ShardIndex
from faceid.data.shards.shard_work import ShardUnit, make_shards_together, one_plan, plan_units
from faceid.data.shards.shard_writer import (
    Dropped,
    Entry,
    claim_shards,
    refuse_losing,
    write_index,
)
from faceid.data.waiting import discard_waiting
from faceid.errors import DataError
from faceid.faces.aggregate import aggregate
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import FaceDetector, load_detector
from faceid.files.provenance import sha256_file
from faceid.logs import progress
from faceid.media.pixels.fit import resize_frames

log = logging.getLogger(__name__)

# Increased when the faces of a film change for the same film and settings.
RECIPE = 3
FILMS_PER_SHARD = 32
# Size and quality of the pictures that are kept for people to look at.
PICTURE_SIDE_PX, JPEG_QUALITY = 112, 90


@dataclass(frozen=True)
class BankedFaces:
    """The faces of one film or clip. embeddings: [M, D], unit length. scores: [M], 0 to 1."""

    key: str
    dancer: str
    embeddings: Tensor
    scores: Tensor

    @property
    def performance(self) -> str:
        """The performance. A film shares it with the clips cut from it, and with other cameras' films of the dance."""
        return performance_of(self.key)


class FacePool(NamedTuple):
    """Some faces of one dancer.

    embeddings, scores: of all that dancer's faces, [R, D] and [R]. rows: the chosen ones.
    """

    embeddings: Tensor
    scores: Tensor
    rows: np.ndarray

    def mean(self, chosen: np.ndarray | None = None) -> Tensor:
        """One embedding [D], weighted by score. chosen: places among the rows; None for all."""
        rows = torch.from_numpy(self.rows if chosen is None else self.rows[chosen])
        return aggregate(self.embeddings[rows], self.scores[rows], "weighted_mean")


class FaceBank:
    """Faces by dancer and by performance.

    A dancer's faces lie in one tensor. So drawing a few of thousands costs no copy of them all.
    """

    def __init__(self, entries: Iterable[BankedFaces] = ()) -> None:
        of_dancer: dict[str, list[BankedFaces]] = {}
        for entry in entries:
            of_dancer.setdefault(entry.dancer, []).append(entry)
        self._of_dancer: dict[str, FacePool] = {}
        # A number for each performance. Otherwise thousands of names would be compared at every draw.
        self._number_of: dict[str, int] = {}
        self._numbers: dict[str, np.ndarray] = {}
        self._of_performance: dict[str, FacePool] = {}
        for dancer, found in of_dancer.items():
            embeddings, scores = (torch.cat([getattr(e, name) for e in found]) for name in ("embeddings", "scores"))
            each = [self._number_of.setdefault(entry.performance, len(self._number_of)) for entry in found]
            numbers = np.repeat(each, [len(entry.scores) for entry in found])
            self._of_dancer[dancer] = FacePool(embeddings, scores, np.arange(len(scores)))
            self._numbers[dancer] = numbers
            for performance in {entry.performance for entry in found}:
                rows = np.flatnonzero(numbers == self._number_of[performance])
                self._of_performance[performance] = FacePool(embeddings, scores, rows)

    @classmethod
    def of_clips(cls, faces: Mapping[str, Tensor], dancer_of: Mapping[str, str]) -> FaceBank:
        """A bank of clips' faces, all with the same score. faces: clip key to [M, D]."""
        return cls(BankedFaces(key, dancer_of[key], faces[key], torch.ones(len(faces[key]))) for key in sorted(faces))

    def __len__(self) -> int:
        """The number of all faces."""
        return sum(len(pool.rows) for pool in self._of_dancer.values())

    def of_dancer(self, dancer: str) -> FacePool | None:
        """All faces of a dancer."""
        return self._of_dancer.get(dancer)

    def knows(self, clip: str, dancer: str) -> bool:
        """Whether the bank has a face for a clip."""
        return dancer in self._of_dancer or performance_of(clip) in self._of_performance

    def faces_for(self, clip: str, dancer: str) -> tuple[FacePool | None, FacePool | None]:
        """(faces of the clip's performance, other faces of the dancer), by the clip's key. Each may be None."""
        performance = performance_of(clip)
        own, all_of_dancer = self._of_performance.get(performance), self._of_dancer.get(dancer)
        if all_of_dancer is None:
            return own, None
        rows = np.flatnonzero(self._numbers[dancer] != self._number_of.get(performance, -1))
        return own, all_of_dancer._replace(rows=rows) if len(rows) else None


def write_face_bank(
    sources: Sequence[FaceSource],
    output_dir: Path,
    encoder: FaceEncoder,
    faces: FaceSettings,
    settings: FaceBankSettings | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Cut, score and embed the faces of every source. Returns the index. Any number of processes share the work.

    faces: the detector, for sources that do not say where the face is, and the margin, as for the photos. A source
    without a usable face is left out with its reason. If run again, a finished bank costs a look at sizes.
    replace: whether faces of an earlier run may be removed whose films take no part in this one, or that were made with
    other settings.
    Raises: DataError when the folder holds something else, faces would be lost, or there is no face.
    """
    settings = settings or FaceBankSettings()
    claim_shards(output_dir, "faces", [], private=not faces.shared)
    sources = sorted(sources, key=lambda source: source.key)
    detector = load_detector(faces.detector, faces.detector_path)
    detected_by = [faces.detector, sha256_file(Path(faces.detector_path)) if faces.detector_path else None]
    made_of = [RECIPE, asdict(settings), faces.face_margin, detected_by, encoder.name, encoder.fingerprint]
    units = plan_units(
        output_dir, "faces", sources, FILMS_PER_SHARD, lambda group: [made_of, [source.seen() for source in group]]
    )

    def entries_of(unit: ShardUnit) -> Iterator[Entry | Dropped]:
        for source in progress(unit.parts, unit.path.stem, unit="film", leave=False):
            yield _try_source(source, settings.faces_per_film, faces.face_margin, detector, encoder)

    # Everything that decides a face, by flags, except the recipe.
    chosen = {
        **asdict(settings),
        "face_margin": faces.face_margin,
        "detector": faces.detector,
        "encoder": f"{encoder.name} {encoder.fingerprint[:12]}",
    }

    keys = {source.key for source in sources}
    with one_plan(output_dir, units, lambda: refuse_losing(output_dir, "faces", keys, replace, chosen)):
        records = make_shards_together(output_dir, units, entries_of, chosen)
        if not any(record.shard for record in records):
            discard_waiting(output_dir)
            first = records[0].dropped[0]
            raise DataError(
                f"{output_dir}: none of {len(sources)} films or clips shows a face that can be used; {first['key']}: "
                f"{first['reason']}"
            )
        header = {
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "face_margin": faces.face_margin,
            "settings": asdict(settings),
        }
        index = write_index(output_dir, "faces", header, records)
    log.info("%s: faces of %d of %d films or clips", output_dir, len(index["samples"]), len(sources))
    for drop in index["dropped"]:
        log.warning("%s: no face of it: %s", drop["key"], drop["reason"])
    return index


def open_face_bank(folder: Path, encoder_fingerprint: str) -> ShardIndex:
    """A bank's index. No face is read. Raises: DataError when it is missing, or made by another encoder."""
    index = ShardIndex.load(folder, "faces")
    found = index.header.get("encoder_fingerprint")
    if not isinstance(found, str):
        raise DataError(f"{folder}: does not say which encoder made it; make the bank again")
    if found != encoder_fingerprint:
        raise DataError(
            f"{folder}: made by encoder {found[:12]}, the identity by {encoder_fingerprint[:12]}; use one encoder for "
            "both"
        )
    return index


def read_face_bank(folder: Path, encoder_fingerprint: str) -> FaceBank:
    """Read a bank and verify it. Raises: DataError as `open_face_bank`, and when it is damaged."""
    index = open_face_bank(folder, encoder_fingerprint)
    entries: list[BankedFaces] = []
    for number, sample in enumerate(index.samples):
        try:
            tensors = load(index.read(number, "safetensors"))
            embeddings, scores = tensors["embeddings"], tensors["scores"]
        except (SafetensorError, KeyError) as error:
            raise DamagedError(
                f"{folder}: {sample.key}: no embeddings and scores ({error}); make the bank again"
            ) from error
        size = entries[0].embeddings.shape[1] if entries else embeddings.shape[-1]
        if scores.dim() != 1 or embeddings.shape != (len(scores), size) or not torch.isfinite(embeddings).all():
            raise DamagedError(
                f"{folder}: {sample.key}: embeddings {list(embeddings.shape)} and scores {list(scores.shape)} do not "
                "belong together, or are not finite; make the bank again"
            )
        entries.append(BankedFaces(sample.key, sample.dancer, embeddings, scores))
    return FaceBank(entries)


def _try_source(
    source: FaceSource, count: int, margin: float, detector: FaceDetector, encoder: FaceEncoder
) -> Entry | Dropped:
    try:
        cuts = cut_faces(source, count, margin, detector)
    except DataError as error:
        return {"key": source.key, "reason": str(error)}
    if not cuts:
        return {"key": source.key, "reason": "no face that looks at the camera and is large enough"}
    crops = [cut.candidate.crop for cut in cuts]
    tensors = {"embeddings": encoder.embed(crops).cpu().contiguous(), "scores": torch.tensor([c.score for c in cuts])}
    details = {"key": source.key, **source.labels, "faces": [_describe(cut) for cut in cuts]}
    members = {
        "safetensors": save(tensors),
        "json": json.dumps(details, sort_keys=True).encode(),
        "jpg": _picture(crops),
    }
    return Entry(source.key, members, {**source.labels, "frames": len(cuts)})


def _describe(cut: FaceCut) -> dict[str, Any]:
    return {
        "frame": cut.frame,
        "box": list(cut.candidate.face.box_xyxy),
        "size_px": round(cut.candidate.size_px, 1),
        "sharpness": round(cut.candidate.sharpness, 1),
        "frontal": None if cut.frontal is None else round(cut.frontal, 3),
        "score": round(cut.score, 4),
    }


def _picture(crops: Sequence[np.ndarray]) -> bytes:
    """The faces side by side, as a JPEG."""
    side = PICTURE_SIDE_PX
    strip = np.concatenate([resize_frames(crop[None], side, side)[0] for crop in crops], axis=1)
    data = io.BytesIO()
    Image.fromarray(strip).save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()
