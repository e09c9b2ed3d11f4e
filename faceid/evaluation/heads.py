"""Where the head is in every frame of a render: known from the keypoints, or found by the detector.

A head that is partly outside the picture is cut at the edge; one that is outside altogether is a frame without a face.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.evaluation.temporal import Box
from faceid.faces.detect import FaceDetector, crop_face
from faceid.faces.photos import DOUBTFUL_SCORE

HEADS_ENDING = ".heads.json"


def known_heads(heads_dir: Path, clip: str, num_frames: int, size_hw: tuple[int, int]) -> list[Box | None]:
    """Head boxes of a clip's first frames inside a picture of this size, (x0, y0, x1, y1) px.

    Raises: DataError when the file is missing, not as said, or shorter than the video.
    """
    path = heads_dir / f"{clip}{HEADS_ENDING}"
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))["boxes"]
        listed = [None if box is None else [float(value) for value in box] for box in boxes]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path}: cannot be read as {{"boxes": [[x0, y0, x1, y1] or null, ...]}}: {error}') from error
    if len(listed) < num_frames:
        raise DataError(f"{path}: {len(listed)} boxes, the render has {num_frames} frames; one box a frame is needed")
    if any(box is not None and len(box) != 4 for box in listed):
        raise DataError(f"{path}: a box has not four numbers; write [x0, y0, x1, y1] or null")
    return [_inside(box, size_hw) if box is not None else None for box in listed[:num_frames]]


def found_heads(frames: np.ndarray, detector: FaceDetector) -> list[Box | None]:
    """The largest sure face of every frame (a doubtful one where none is sure). frames: uint8 [T, H, W, 3]."""
    boxes: list[Box | None] = []
    for frame in frames:
        faces = detector.detect(frame)
        sure = [face for face in faces if face.score >= DOUBTFUL_SCORE] or faces
        boxes.append(_inside(sure[0].box_xyxy, (frame.shape[0], frame.shape[1])) if sure else None)
    return boxes


def cut_head(frame: np.ndarray, box: Box, face_margin: float) -> np.ndarray:
    """Cut a square around a head, as for photos: uint8 [S, S, 3]; where it leaves the picture the edge is repeated."""
    left, top = round(box[0]), round(box[1])
    # A head of less than a pixel is still one.
    right, bottom = max(round(box[2]), left + 1), max(round(box[3]), top + 1)
    return crop_face(frame, (left, top, right, bottom), face_margin)


def _inside(box: Sequence[float], size_hw: tuple[int, int]) -> Box | None:
    height, width = size_hw
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
