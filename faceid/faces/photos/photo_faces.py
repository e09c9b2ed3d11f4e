"""Examine one photo: its faces, their crops, and all that can be measured of them without an encoder.

A `Photo` is filled in step by step, here and then in photo_selection.py. It ends in the report, kept or dropped with a
reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch

from faceid.errors import DataError
from faceid.faces.photos.copies import ComparedPhoto, compared
from faceid.faces.photos.detect import DetectedFace, FaceDetector, crop_face
from faceid.files.provenance import sha256_file
from faceid.media.images import read_photo
from faceid.media.pixels.fit import shrink

# A detection with a lower score is doubtful; see the Haar scores in detect.py.
DOUBTFUL_SCORE = 0.65
# Larger crops than any encoder's input would only cost memory.
LARGEST_CROP_PX = 512
SHARPNESS_SIDE_PX = 112
THUMBNAIL_PX = 192


def miniature(picture: np.ndarray) -> np.ndarray:
    """32x32 grey values without mean and of unit length, to compare pictures by correlation: uint8 RGB to [1024]."""
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    values = grey.astype(np.float64).ravel() - grey.mean()
    return values / max(float(np.linalg.norm(values)), 1e-9)


@dataclass
class Candidate:
    """One face of a photo."""

    face: DetectedFace
    crop: np.ndarray
    """Square with margin, the encoder's input: RGB uint8 [S, S, 3]."""
    sharpness: float
    """Variance of the Laplacian of the grey face at 112 px. Portraits have 30 to 700; under 10 is visibly blurred."""
    size_px: float
    """Square root of the box area, px."""
    embedding: torch.Tensor | None = None
    """Unit length, [D]; set by the caller."""

    @property
    def unit_embedding(self) -> torch.Tensor:
        """The embedding, once it is set."""
        assert self.embedding is not None, "not embedded yet"
        return self.embedding

    @property
    def miniature(self) -> np.ndarray:
        """`miniature` of the crop."""
        return miniature(self.crop)


@dataclass
class Photo:
    """One file of the user's folder, and the result for it."""

    path: Path
    thumbnail: np.ndarray | None = None
    """The whole photo, small: RGB uint8; None when it cannot be read."""
    thumbnail_scale: float = 1.0
    compared: ComparedPhoto | None = None
    """The whole photo prepared for the search for copies; None when it cannot be read."""
    candidates: list[Candidate] = field(default_factory=list)
    chosen: Candidate | None = None
    dropped: str | None = None
    """Why the photo does not count; None while it counts."""
    notes: list[str] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)
    """Scores 0..1 by name: sharpness, size, detection, agreement."""
    cosine: float | None = None
    """Cosine to the centre of all usable photos."""
    weight: float = 0.0
    """Share in the identity. The kept photos' weights sum to 1."""

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def sha256(self) -> str:
        """The hash of the file, read only once."""
        return sha256_file(self.path)

    @property
    def face(self) -> Candidate:
        assert self.chosen is not None, f"{self.name}: no face has been chosen yet"
        return self.chosen

    @property
    def embedding(self) -> torch.Tensor:
        return self.face.unit_embedding


def examine_photo(path: Path, detector: FaceDetector, margin: float) -> Photo:
    """Read one photo and cut out its faces. An unreadable photo or one without a face comes back dropped, with why."""
    photo = Photo(path)
    try:
        image = read_photo(path)
    except DataError as error:
        # The reason is shown beside the photo's own name, so the path is left out.
        photo.dropped = str(error).removeprefix(f"{path}: ")
        return photo
    photo.thumbnail, photo.thumbnail_scale = shrink(image, THUMBNAIL_PX)
    photo.compared = compared(image)
    faces = detector.detect(image)
    sure = [face for face in faces if face.score >= DOUBTFUL_SCORE]
    # Beside a sure face, a doubtful box is a tie or a hand far more often than a second face.
    photo.candidates = [measure_face(image, face, margin) for face in (sure or faces)]
    if not photo.candidates:
        photo.dropped = "no face found; use a photo that shows the face from the front, unobstructed"
    return photo


def measure_face(image: np.ndarray, face: DetectedFace, margin: float) -> Candidate:
    """Cut one face out and measure it. margin: as in `crop_face`."""
    tight = cv2.cvtColor(crop_face(image, face.box_xyxy, 0.0), cv2.COLOR_RGB2GRAY)
    shrinks = tight.shape[0] > SHARPNESS_SIDE_PX
    side = (SHARPNESS_SIDE_PX, SHARPNESS_SIDE_PX)
    grey = cv2.resize(tight, side, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return Candidate(
        face=face,
        crop=shrink(crop_face(image, face.box_xyxy, margin), LARGEST_CROP_PX)[0],
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        size_px=math.sqrt(face.area_px),
    )
