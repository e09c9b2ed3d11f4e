"""Turn and mirror a stored picture to stand as it should be seen, by the container's display matrix.

A camera held upright stores its pictures lying, and a front camera stores them mirrored. The file says how to undo it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from faceid.errors import DataError

# In parts of the largest entry. A turn this far off a quarter turn is a broken matrix, not a tripod that stood askew.
_LARGEST_SKEW = 0.1


@dataclass(frozen=True)
class Orientation:
    """Steps in order: exchange rows and columns, mirror left to right, mirror upside down.

    They cover all eight cases.
    """

    is_transposed: bool = False
    is_mirrored: bool = False
    is_upside_down: bool = False

    @property
    def is_stored_upright(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.is_transposed or self.is_mirrored or self.is_upside_down)

    def upright_hw(self, stored_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width after turning upright."""
        return (stored_hw[1], stored_hw[0]) if self.is_transposed else stored_hw

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """Turn a stored picture [H, W, C] upright."""
        if self.is_stored_upright:
            return picture
        turned = picture.transpose(1, 0, 2) if self.is_transposed else picture
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in (self.is_upside_down, self.is_mirrored))
        return np.ascontiguousarray(turned[rows, columns])


def orientation_of(frame: av.VideoFrame, path: Path | None = None) -> Orientation:
    """What a decoded frame's display matrix asks for. path: the name to use in messages.

    Raises: DataError for a matrix that is neither a quarter turn nor a mirror.
    """
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            return _of_matrix(np.frombuffer(bytes(side), np.int32).reshape(3, 3), path)
    return Orientation()


def _of_matrix(matrix: np.ndarray, path: Path | None) -> Orientation:
    """Read FFmpeg's rows (a, b, u), (c, d, v), (x, y, w). A stored pixel (p, q) is shown at (a p + c q, b p + d q)."""
    (a, b), (c, d) = matrix[:2, :2].astype(float)
    along, across = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(along, across) > _LARGEST_SKEW * max(along, across) or not max(along, across):
        raise DataError(f"{path}: its display matrix is no quarter turn and no mirror; encode it again, upright")
    if along > across:
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
