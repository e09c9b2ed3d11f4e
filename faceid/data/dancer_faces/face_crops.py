"""Cut faces from one film or clip: choose frames worth a look, cut the faces, and score each.

A frame is chosen by facts that need no pixels: how large the face is, and how much it looks at the camera. One frame is
taken in each stretch of the film, so that expressions and light differ. The sharpness of the pixels goes into the
score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from faceid.data.order import spread
from faceid.faces.photos.detect import DetectedFace, FaceDetector
from faceid.faces.photos.photo_faces import Candidate, measure_face
from faceid.faces.photos.photo_selection import USUAL_SHARPNESS

# In smaller faces an encoder sees a smear. Recognisers are unreliable under about 32 px and useless under 12.
SMALLEST_FACE_PX = 12
# From this size, sqrt(area), on a face is as good as any.
LARGE_FACE_PX = 96.0
# The measure is 1 for a nose midway between the ears. A face seen half from behind is no face.
LEAST_FRONTAL = 0.2
# Frames searched in each stretch where a detector must find the face.
LOOKS_PER_STRETCH = 3


@dataclass(frozen=True)
class FilmOverview:
    """What is known of a film before its frames are examined.

    num_frames: number of decoded frames. boxes: the face per frame, (x0, y0, x1, y1) in pixels or None. boxes is None
    when nothing says where faces are. frontal: 0 to 1 per frame, nan where unknown.
    """

    num_frames: int
    boxes: Sequence[Sequence[float] | None] | None = None
    frontal: np.ndarray | None = None


class FaceSource(Protocol):
    """A film or a clip from which faces are cut."""

    @property
    def key(self) -> str: ...
    @property
    def labels(self) -> dict[str, Any]:
        """dancer, genre and camera."""
        ...

    def seen(self) -> Any:
        """A cheap summary of what decides its faces: names, sizes and times, or hashes."""
        ...

    def look(self) -> FilmOverview: ...

    def frames(self, indices: Sequence[int]) -> Iterable[np.ndarray]:
        """Frames at these ascending indices, uint8 RGB [H, W, 3] at the source's own resolution."""
        ...


@dataclass(frozen=True)
class FaceCut:
    """One face. frame: number in the source. frontal: None where unknown. score: 0 to 1, its weight in a mean."""

    frame: int
    candidate: Candidate
    frontal: float | None
    score: float


def cut_faces(source: FaceSource, count: int, margin: float, detector: FaceDetector) -> list[FaceCut]:
    """At most `count` faces of a source, in the order of its frames. margin: as for photos. Raises: DataError."""
    looked = source.look()
    stretches = [s for s in np.array_split(np.arange(looked.num_frames), count) if len(s)]
    if looked.boxes is None:
        found = _detected(source, stretches, margin, detector)
    else:
        found = _boxed(source, looked, stretches, margin)
    return [cut for cut in found if cut.candidate.size_px >= SMALLEST_FACE_PX]


def _boxed(source: FaceSource, looked: FilmOverview, stretches: list[np.ndarray], margin: float) -> Iterator[FaceCut]:
    """The best frame of each stretch by its box and its pose."""
    assert looked.boxes is not None
    merit = np.array([_size_px(box) if box else 0.0 for box in looked.boxes])
    merit = np.where(merit >= SMALLEST_FACE_PX, np.minimum(merit / LARGE_FACE_PX, 1), 0.0)
    frontal = looked.frontal if looked.frontal is not None else np.full(looked.num_frames, np.nan)
    merit = merit * np.where(frontal < LEAST_FRONTAL, 0, np.nan_to_num(frontal, nan=1.0))
    best = [int(stretch[merit[stretch].argmax()]) for stretch in stretches if merit[stretch].max() > 0]
    for frame, picture in zip(best, source.frames(best), strict=True):
        box = looked.boxes[frame]
        assert box is not None
        x0, y0, x1, y1 = (round(edge) for edge in box)
        known = None if math.isnan(frontal[frame]) else float(frontal[frame])
        yield _scored(frame, measure_face(picture, DetectedFace((x0, y0, x1, y1), 1.0), margin), known)


def _detected(
    source: FaceSource, stretches: list[np.ndarray], margin: float, detector: FaceDetector
) -> Iterator[FaceCut]:
    """The best of a few frames of each stretch, by a detector. A picture with several faces is skipped."""
    of_frame = {int(s[at]): number for number, s in enumerate(stretches) for at in spread(len(s), LOOKS_PER_STRETCH)}
    best: dict[int, FaceCut] = {}
    for frame, picture in zip(sorted(of_frame), source.frames(sorted(of_frame)), strict=True):
        faces = detector.detect(picture)
        if len(faces) != 1:
            continue
        cut = _scored(frame, measure_face(picture, faces[0], margin), None)
        before = best.get(of_frame[frame])
        if before is None or cut.score > before.score:
            best[of_frame[frame]] = cut
    return iter([best[number] for number in sorted(best)])


def _scored(frame: int, candidate: Candidate, frontal: float | None) -> FaceCut:
    """Score a face as photos are scored (`photo_selection`). Looking at the camera replaces a detector's score."""
    low, high = (math.log(value) for value in USUAL_SHARPNESS)
    sharp = float(np.clip((math.log(max(candidate.sharpness, 1e-3)) - low) / (high - low), 0.05, 1))
    size = float(np.clip(candidate.size_px / LARGE_FACE_PX, 0.1, 1))
    sure = candidate.face.score if frontal is None else frontal
    return FaceCut(frame, candidate, frontal, math.sqrt(sharp * size) * max(sure, 0.05))


def _size_px(box: Sequence[float]) -> float:
    return math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
