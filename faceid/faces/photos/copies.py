"""Decide whether two photos are one picture.

A copy may be saved again, resized, cropped, brightened, turned a little, mirrored or grey. Such a copy says nothing new
of a face. If it counted as a photo of its own, one picture would pass for many. Points of both pictures are matched
(ORB), and the move between them is found (RANSAC). Then the face itself is compared through that move, because two
photos in front of one wall match in the wall, not in the face. The rest of what both show is compared too, because two
drawings of one face match in the face, not around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from faceid.media.pixels.fit import shrink

# The pictures are compared at this size. It gives enough points, and 20 photos take seconds.
COMPARED_SIDE_PX = 512
NUM_POINTS = 600
# No point is looked for nearer to an edge. A smaller picture has no points, and OpenCV fails on the smallest.
EDGE_PX = 15
SMALLEST_PX = 2 * EDGE_PX + 1
# A match must be this much better than the second best match (Lowe's ratio test).
MATCH_RATIO = 0.8
FEWEST_MATCHES, RANSAC_PX = 10, 4.0
# How alike the face, and all that both pictures show, must be once one lies on the other. The measure is rank
# correlation, which ignores brightening. Copies of real photos, made in eight ways, reach 0.98 and 0.966. No other real
# photos pass both. Of two drawings of one person about one pair in a thousand does (2 of 1,792 in the demo's worlds).
LOWEST_FACE, LOWEST_WHOLE = 0.97, 0.962
# The blur removes noise and JPEG's blocks, which are no part of the picture.
BLUR_PX = 2.0
FACE_PX = 48
# At least this share of the face's box must be in the other picture too.
LEAST_SEEN = 0.6


@dataclass(frozen=True)
class ComparedPhoto:
    """A photo prepared for comparison. grey: small, uint8 [h, w]. scale: its pixels per pixel of the photo."""

    grey: np.ndarray
    scale: float
    points: tuple[np.ndarray, np.ndarray | None]
    """Places [N, 2] in the small picture, and their descriptions."""
    mirrored_points: tuple[np.ndarray, np.ndarray | None]


Box = tuple[int, int, int, int]


def compared(image: np.ndarray) -> ComparedPhoto:
    """Prepare a photo, uint8 RGB [H, W, 3], for `are_copies`."""
    grey, scale = shrink(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), COMPARED_SIDE_PX)
    return ComparedPhoto(grey, scale, _points(grey), _points(np.ascontiguousarray(grey[:, ::-1])))


def are_copies(photo: ComparedPhoto, box: Box, other: ComparedPhoto) -> str | None:
    """How `other` shows the same picture as `photo`: "" or "mirrored"; None when it shows another picture.

    box: the face in `photo`, in pixels of the photo itself.
    """
    for points, grey, word in (
        (other.points, other.grey, ""),
        (other.mirrored_points, np.ascontiguousarray(other.grey[:, ::-1]), "mirrored"),
    ):
        move = _move(points, photo.points)
        if move is not None and _is_same(photo, box, grey, move):
            return word
    return None


def _points(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    if min(grey.shape) < SMALLEST_PX:
        return np.zeros((0, 2), np.float32), None
    # Small pictures have few corners that are sharp enough for the usual threshold.
    finder = cv2.ORB.create(NUM_POINTS, fastThreshold=8, edgeThreshold=EDGE_PX, patchSize=31)
    found, descriptions = finder.detectAndCompute(cv2.equalizeHist(grey), None)
    return np.array([point.pt for point in found], np.float32).reshape(-1, 2), descriptions


def _move(
    source: tuple[np.ndarray, np.ndarray | None], target: tuple[np.ndarray, np.ndarray | None]
) -> np.ndarray | None:
    """Turn, scale and shift [2, 3] that brings points of one picture onto the other's; None when there is none."""
    if source[1] is None or target[1] is None or min(len(source[0]), len(target[0])) < FEWEST_MATCHES:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(source[1], target[1], k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < MATCH_RATIO * pair[1].distance]
    if len(good) < FEWEST_MATCHES:
        return None
    places, others = source[0][[m.queryIdx for m in good]], target[0][[m.trainIdx for m in good]]
    # The same seed each time: chance must not decide which photo is dropped.
    cv2.setRNGSeed(0)
    move, kept = cv2.estimateAffinePartial2D(places, others, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX)
    return move if move is not None and int(kept.sum()) >= FEWEST_MATCHES else None


def _is_same(photo: ComparedPhoto, box: Box, other: np.ndarray, move: np.ndarray) -> bool:
    """Whether the other picture, moved onto the photo, shows the same face and the same surroundings."""
    height, width = photo.grey.shape
    laid = cv2.warpAffine(other, move, (width, height), flags=cv2.INTER_AREA)
    seen = cv2.erode(cv2.warpAffine(np.full_like(other, 255), move, (width, height)), np.ones((5, 5), np.uint8)) > 250
    left, top, right, bottom = (max(round(edge * photo.scale), 0) for edge in box)
    area = (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))
    if seen[area].mean() < LEAST_SEEN:
        return False
    first, second = (cv2.GaussianBlur(picture, (0, 0), BLUR_PX) for picture in (photo.grey, laid))
    face = [
        cv2.resize(picture[area], (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
        for picture in (photo.grey, laid, seen.astype(np.uint8))
    ]
    is_in_both = face[2] > 0
    if _rank_correlation(face[0][is_in_both], face[1][is_in_both]) <= LOWEST_FACE:
        return False
    return _rank_correlation(first[seen], second[seen]) > LOWEST_WHOLE


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's r of grey values, uint8 [N] each; 0 where all values of one are equal."""
    ranks, others = _ranks(first), _ranks(second)
    if min(ranks.std(), others.std()) == 0:
        return 0.0
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    counts = np.bincount(values, minlength=256)
    return (np.cumsum(counts) - counts / 2)[values]
