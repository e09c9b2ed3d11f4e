"""Find the head from the body's joints alone, without a face detector and its licence.

The size comes from all visible parts of the body. A projected distance is at most the true one, so the largest of
several estimates is taken. The neck then gives the size of a head seen from the side, and the ears of a bent one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Numbers of COCO-17's joints.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, LEFT_SHOULDER, RIGHT_SHOULDER = range(7)
LEFT_HIP, RIGHT_HIP = 11, 12

# Chin to crown in units of each distance, by the usual proportions of adults (Drillis and Contini 1966). In parts of
# the
# height: crown 1.00, eyes 0.936, chin 0.870, shoulders 0.818, hips 0.530. Ears are 0.09 apart, eyes 0.036.
HEAD_PER_EARS, HEAD_PER_EYES, HEAD_PER_NECK_TO_NOSE, HEAD_PER_TORSO = 1.45, 3.6, 1.2, 0.45
# Side of a detected face, and how far its middle lies below the head's, in heights of the head box. In the boxes of
# OpenCV's frontal face cascade on 32 portraits, eyes are 0.356 sides apart and 0.393 down from the upper edge.
FACE_PER_HEAD, FACE_BELOW_HEAD = 0.68, 0.073
# Width to height of the box, for a head with hair.
ASPECT = 0.85
# Height of the box in parts of chin to crown. It has room for hair above the crown and below the chin.
ROOM = 1.15


def head_boxes(body: np.ndarray, size_hw: tuple[int, int]) -> list[list[float] | None]:
    """A box (x0, y0, x1, y1) in pixels per frame, cut at the picture's edges; None where no part of a face is known.

    body: COCO-17, [T, 17, 2], nan where unknown. From behind, where only the ears are known, there is no face.
    """
    height, width = size_hw
    boxes: list[list[float] | None] = []
    for points in np.asarray(body, np.float64):
        box = _head_box(points)
        if box is not None:
            x0, y0, x1, y1 = box
            x0, x1 = np.clip((x0, x1), 0, width)
            y0, y1 = np.clip((y0, y1), 0, height)
            box = (x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None
        boxes.append([round(float(edge), 2) for edge in box] if box is not None else None)
    return boxes


def face_boxes(body: np.ndarray) -> list[list[float] | None]:
    """A square per frame as a face detector draws it, in pixels, not cut at any edge; None as in `head_boxes`.

    An encoder must see a dancer's face framed like the faces in photos, and the detector frames those.
    """
    boxes: list[list[float] | None] = []
    for points in np.asarray(body, np.float64):
        head = _head_box(points)
        if head is None:
            boxes.append(None)
            continue
        x, height = (head[0] + head[2]) / 2, head[3] - head[1]
        y = (head[1] + head[3]) / 2 + FACE_BELOW_HEAD * height
        half = FACE_PER_HEAD * height / 2
        boxes.append([round(edge, 2) for edge in (x - half, y - half, x + half, y + half)])
    return boxes


def head_around(face: Sequence[float]) -> list[float]:
    """The head with its hair around a detected face, as `head_boxes` draws it: (x0, y0, x1, y1) in pixels, not cut.

    It undoes `face_boxes`. face: (x0, y0, x1, y1); of a box that is no square, the longer side counts.
    """
    x0, y0, x1, y1 = face
    height = max(x1 - x0, y1 - y0) / FACE_PER_HEAD
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 - FACE_BELOW_HEAD * height
    return [x - ASPECT * height / 2, y - height / 2, x + ASPECT * height / 2, y + height / 2]


def frontalness(body: np.ndarray) -> np.ndarray:
    """How much a face looks at the camera, [T] in 0 to 1: 1 where the nose is midway between the ears, 0 in profile.

    It is also 0 where nose, an eye or both ears are unknown.
    """
    points = np.asarray(body, np.float64)
    to_left, to_right = (np.linalg.norm(points[:, ear] - points[:, NOSE], axis=1) for ear in (LEFT_EAR, RIGHT_EAR))
    eyes = np.isfinite(points[:, [LEFT_EYE, RIGHT_EYE]]).all((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.minimum(to_left, to_right) / np.maximum(to_left, to_right)
    return np.where(np.isfinite(ratio) & eyes, ratio, 0.0)


def _head_box(points: np.ndarray) -> tuple[float, float, float, float] | None:
    known = np.isfinite(points).all(1)
    if not known[[NOSE, LEFT_EYE, RIGHT_EYE]].any():
        return None
    middle = points[:5][known[:5]]
    # Eyes and ears are at eye level, the nose a little below.
    centre = middle.mean(0)
    neck, hips = points[[LEFT_SHOULDER, RIGHT_SHOULDER]].mean(0), points[[LEFT_HIP, RIGHT_HIP]].mean(0)
    estimates = [
        HEAD_PER_EARS * _distance(points[LEFT_EAR], points[RIGHT_EAR]),
        HEAD_PER_EYES * _distance(points[LEFT_EYE], points[RIGHT_EYE]),
        HEAD_PER_NECK_TO_NOSE * _distance(neck, points[NOSE]),
        HEAD_PER_TORSO * _distance(neck, hips),
    ]
    head = max((e for e in estimates if np.isfinite(e)), default=0.0) * ROOM
    if head <= 0:
        return None
    half_width, half_height = ASPECT * head / 2, head / 2
    return centre[0] - half_width, centre[1] - half_height, centre[0] + half_width, centre[1] + half_height


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))
