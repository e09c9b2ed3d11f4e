"""Fit frames into another size, and move boxes with them.

One `Fit` per pair of sizes says which part of the source lands where. Frames and head boxes go through the same `Fit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from faceid.errors import DataError

How = Literal["crop", "stretch", "pad"]


@dataclass(frozen=True)
class Fit:
    """Where a source picture lands. source, target: windows (left, top, width, height) in pixels."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    size_hw: tuple[int, int]

    def frame(self, frame: np.ndarray) -> np.ndarray:
        """Fit one picture, uint8 [H, W, C] -> [height, width, C]. Pixels that the source does not cover are black."""
        left, top, width, height = self.source
        _, _, to_width, to_height = self.target
        part = frame[top : top + height, left : left + width]
        if part.shape[:2] != (to_height, to_width):
            shrinks = to_height * to_width < height * width
            # Area averaging does not alias when shrinking. When growing it would be nearest-neighbour.
            how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            part = cv2.resize(np.ascontiguousarray(part), (to_width, to_height), interpolation=how)
        return self.place(part)

    def place(self, part: np.ndarray) -> np.ndarray:
        """Put the source's part, already scaled to its target size, where it belongs."""
        if part.shape[:2] == self.size_hw:
            return part
        to_left, to_top, to_width, to_height = self.target
        fitted = np.zeros((*self.size_hw, part.shape[2]), part.dtype)
        fitted[to_top : to_top + to_height, to_left : to_left + to_width] = part
        return fitted

    @property
    def shrinks(self) -> bool:
        """Whether the source is made smaller both ways."""
        return self.target[2] < self.source[2] and self.target[3] < self.source[3]

    def on_even_pixels(self) -> Fit:
        """The same fit, where it shrinks moved by at most a pixel onto a video's colour grid of half the pixels."""
        if not self.shrinks:
            return self
        left, top, width, height = (edge - edge % 2 for edge in self.source)
        return Fit((left, top, width, height), self.target, self.size_hw)

    def box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float] | None:
        """Move a box (x0, y0, x1, y1) along, cut at the target's edges; None when nothing is left of it."""
        left, top, width, height = self.source
        to_left, to_top, to_width, to_height = self.target
        scale_x, scale_y = to_width / width, to_height / height
        x0, x1 = (min(max((x - left) * scale_x, 0), to_width) + to_left for x in (box[0], box[2]))
        y0, y1 = (min(max((y - top) * scale_y, 0), to_height) + to_top for y in (box[1], box[3]))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def boxes(self, boxes: Iterable[Sequence[float] | None]) -> list[tuple[float, float, float, float] | None]:
        """Move a box per frame along; None stays None."""
        return [self.box((box[0], box[1], box[2], box[3])) if box else None for box in boxes]


def fit_sizes(
    source_hw: tuple[int, int],
    height: int,
    width: int,
    how: How = "crop",
    centre_xy: tuple[float, float] | None = None,
) -> Fit:
    """Plan a fit. crop: a part in the target's aspect. pad: all of the source, centred. stretch: all of it, distorted.

    centre_xy: source pixel on which a crop is centred, as far as the edges allow. Default: the middle.
    """
    source_height, source_width = source_hw
    if min(source_height, source_width, height, width) < 1:
        raise DataError(
            f"{source_width}x{source_height} cannot be fitted into {width}x{height}: sizes must be positive"
        )
    source = (0, 0, source_width, source_height)
    target = (0, 0, width, height)
    if how == "crop":
        part_width = min(source_width, max(round(source_height * width / height), 1))
        part_height = min(source_height, max(round(source_width * height / width), 1))
        x, y = centre_xy or (source_width / 2, source_height / 2)
        left = min(max(int(x - part_width / 2), 0), source_width - part_width)
        top = min(max(int(y - part_height / 2), 0), source_height - part_height)
        source = (left, top, part_width, part_height)
    elif how == "pad":
        part_width = min(width, max(round(height * source_width / source_height), 1))
        part_height = min(height, max(round(width * source_height / source_width), 1))
        target = ((width - part_width) // 2, (height - part_height) // 2, part_width, part_height)
    return Fit(source, target, (height, width))


def shrink(image: np.ndarray, longest_px: int) -> tuple[np.ndarray, float]:
    """A picture [H, W] or [H, W, C] no longer than this on any side, and its pixels per pixel of the given one."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_px / max(height, width))
    if scale == 1.0:
        return image, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def resize_frames(frames: np.ndarray, height: int, width: int, how: How = "crop") -> np.ndarray:
    """Fit uint8 frames [T, H, W, 3] into [T, height, width, 3], without aliasing; see `fit_sizes` for `how`."""
    fit = fit_sizes((frames.shape[1], frames.shape[2]), height, width, how)
    fitted = np.empty((len(frames), height, width, frames.shape[3]), frames.dtype)
    for index, frame in enumerate(frames):
        fitted[index] = fit.frame(frame)
    return fitted
