"""Find the faces in a photo with OpenCV's Haar cascade (inside the wheel) or YuNet (a file of the user's).

Haar finds frontal faces only, and needs no file. YuNet also finds turned and small faces. Boxes are in pixels of the
given photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import cv2.data
import numpy as np

from faceid.errors import ConfigError, ModelError
from faceid.faces.identity_settings import DetectorKind
from faceid.files.given_paths import why_no_file
from faceid.media.pixels.fit import shrink

# Detection runs on a copy no longer than this. A 12 megapixel photo then takes 0.2 s, and a face of 1/40 of the long
# side is still found.
DETECTION_SIDE_PX = 1024
SMALLEST_FACE_PX = 24

# Last-stage sums of haarcascade_frontalface_alt2. On 50 portraits and 10 group and news photos, faces reach 55.4 to 58.
# Ties, hands and collars stay under 55.
HAAR_SURE, HAAR_DOUBTFUL = 56.0, 54.0

YUNET_SCORE_THRESHOLD, YUNET_NMS_THRESHOLD = 0.5, 0.3


@dataclass(frozen=True)
class DetectedFace:
    """One face in a photo."""

    box_xyxy: tuple[int, int, int, int]
    """Left, top, right, bottom, px. Right and bottom are exclusive, and all lie inside the photo."""
    score: float
    """How sure the detector is, 0..1. Under 0.65 is doubtful."""

    @property
    def area_px(self) -> int:
        left, top, right, bottom = self.box_xyxy
        return (right - left) * (bottom - top)


class FaceDetector(Protocol):
    """Finds faces in a photo."""

    def detect(self, image_rgb: np.ndarray) -> list[DetectedFace]:
        """Faces in `image_rgb` (uint8 [H, W, 3]), largest first; empty when there is none."""
        ...


def load_detector(kind: DetectorKind, path: Path | str | None = None) -> FaceDetector:
    """Make a detector.

    Raises: ConfigError when `yunet` has no model file; ModelError when the file is no such model.
    """
    if kind == "haar":
        return _HaarDetector()
    if kind == "none":
        return _WholePhoto()
    reason = why_no_file(path or "")
    if path is None or reason is not None:
        given = f"detector_path={str(path)!r}: {reason}" if path else "detector=yunet: needs --detector_path"
        raise ConfigError(f"{given}; give a face_detection_yunet_*.onnx of OpenCV's model zoo, or use --detector haar")
    return _YunetDetector(Path(path))


def crop_face(image: np.ndarray, box: tuple[int, int, int, int], margin: float) -> np.ndarray:
    """Cut a square around `box`, wider by `margin` of its longer side on each side: uint8 [S, S, 3].

    Where the square leaves the photo, the photo's edge is repeated. So the face is never squeezed.
    """
    return cut_window(image, window_around(box, margin))


def window_around(box: Sequence[float], margin: float, aspect: float = 1.0) -> tuple[int, int, int, int]:
    """Left, top, width and height of the window that `crop_face` cuts, px. It may leave the picture.

    aspect: width by height; the shorter side is the square's.
    """
    left, top, right, bottom = box
    side = max(right - left, bottom - top) * (1 + 2 * margin)
    width, height = max(1, round(side * max(aspect, 1.0))), max(1, round(side * max(1 / aspect, 1.0)))
    return round((left + right - width) / 2), round((top + bottom - height) / 2), width, height


def cut_window(image: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Cut a window (left, top, width, height) out of a picture [H, W, C]. Outside it, its edge is repeated."""
    left, top, width, height = window
    columns = np.clip(np.arange(left, left + width), 0, image.shape[1] - 1)
    rows = np.clip(np.arange(top, top + height), 0, image.shape[0] - 1)
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


class _WholePhoto:
    def detect(self, image_rgb: np.ndarray) -> list[DetectedFace]:
        height, width = image_rgb.shape[:2]
        return [DetectedFace((0, 0, width, height), 1.0)]


class _HaarDetector:
    def __init__(self) -> None:
        file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"
        self.cascade = cv2.CascadeClassifier(str(file))
        assert not self.cascade.empty(), f"{file} is missing from the OpenCV wheel"

    def detect(self, image_rgb: np.ndarray) -> list[DetectedFace]:
        small, scale = shrink(image_rgb, DETECTION_SIDE_PX)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        boxes, _, sums = self.cascade.detectMultiScale3(
            grey,
            scaleFactor=1.1,
            minNeighbors=4,
            minSize=(SMALLEST_FACE_PX, SMALLEST_FACE_PX),
            outputRejectLevels=True,
        )
        faces = [
            DetectedFace(
                _inside(box, scale, image_rgb), float(np.clip((s - HAAR_DOUBTFUL) / (HAAR_SURE - HAAR_DOUBTFUL), 0, 1))
            )
            for box, s in zip(boxes, sums, strict=True)
        ]
        return _largest_first(faces)


class _YunetDetector:
    def __init__(self, path: Path) -> None:
        try:
            self.network = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), YUNET_SCORE_THRESHOLD, YUNET_NMS_THRESHOLD
            )
            self.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(f"{path}: OpenCV cannot use it as a YuNet face detector; see --detector_path") from error

    def detect(self, image_rgb: np.ndarray) -> list[DetectedFace]:
        small, scale = shrink(image_rgb, DETECTION_SIDE_PX)
        self.network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self.network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        # A row holds x, y, width, height, five landmarks (x, y) and the score.
        found = rows if rows is not None else []
        return _largest_first([DetectedFace(_inside(row[:4], scale, image_rgb), float(row[14])) for row in found])


def _inside(box: np.ndarray, scale: float, image: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width, height in the shrunk copy to left, top, right, bottom inside the photo."""
    height, width = image.shape[:2]
    x, y, w, h = (float(value) / scale for value in box)
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = min(max(round(x + w), left + 1), width), min(max(round(y + h), top + 1), height)
    return left, top, right, bottom


def _largest_first(faces: list[DetectedFace]) -> list[DetectedFace]:
    # The box breaks ties, so that the order never depends on the detector's.
    return sorted(faces, key=lambda face: (-face.area_px, face.box_xyxy))
