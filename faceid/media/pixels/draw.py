"""Anti-aliased shapes on RGB canvases.

Everything is drawn at four times the size and averaged down, so an edge at a fraction of a pixel is a fraction of a
colour. Coordinates are pixels of the final picture, x right and y down; colours are RGB, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Colour = tuple[float, float, float]
Point = tuple[float, float]

# Four samples a side: an edge has 17 levels, which 8-bit video cannot tell from exact coverage.
SUPERSAMPLING = 4
# cv2 takes fixed-point coordinates with this many fractional bits.
FRACTION_BITS = 8


class Canvas:
    """A picture under construction: shapes go on in order, `picture()` averages it down."""

    def __init__(self, background: np.ndarray, corner_xy: tuple[int, int] = (0, 0)) -> None:
        """background: uint8 [H, W, 3], copied. corner_xy: where its upper left pixel lies in a larger picture, whose
        pixels are drawn in."""
        self.size_hw, self._corner_xy = background.shape[:2], corner_xy
        height, width = self.size_hw
        size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
        self._pixels = cv2.resize(background, size, interpolation=cv2.INTER_LINEAR)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, angle_deg: float = 0.0, opacity: float = 1.0
    ) -> None:
        """Fill an ellipse; `angle_deg` turns it clockwise on the screen."""
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
        cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
        self.polygon(np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], -1), colour, opacity)

    def polygon(self, points: np.ndarray | Sequence[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Fill a polygon. points: [N, 2], x and y."""
        fixed = self._fixed(points)
        if opacity >= 1.0:
            cv2.fillPoly(self._pixels, [fixed], colour, cv2.LINE_8, FRACTION_BITS)
            return
        # Only the part under the shape: blending whole pictures would take most of the time of a drawing.
        height, width = self._pixels.shape[:2]
        x, y, w, h = cv2.boundingRect((fixed >> FRACTION_BITS).reshape(-1, 1, 2))
        left, top, right, bottom = max(x - 1, 0), max(y - 1, 0), min(x + w + 2, width), min(y + h + 2, height)
        if left >= right or top >= bottom:
            return
        part = self._pixels[top:bottom, left:right]
        layer = part.copy()
        shifted = fixed - np.array((left, top), np.int32) * (1 << FRACTION_BITS)
        cv2.fillPoly(layer, [shifted], colour, cv2.LINE_8, FRACTION_BITS)
        self._pixels[top:bottom, left:right] = cv2.addWeighted(layer, opacity, part, 1 - opacity, 0)

    def stroke(self, points: np.ndarray | Sequence[Point], radius: float, colour: Colour, closed: bool = False) -> None:
        """Draw a line of round ends and joints along `points`, [N, 2]. radius: half its width, pixels."""
        thickness = max(1, round(2 * radius * SUPERSAMPLING))
        cv2.polylines(self._pixels, [self._fixed(points)], closed, colour, thickness, cv2.LINE_8, FRACTION_BITS)

    def capsule(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """Draw a straight limb with round ends."""
        self.stroke([start, end], radius, colour)

    def picture(self) -> np.ndarray:
        """The finished picture, uint8 [H, W, 3]."""
        height, width = self.size_hw
        return cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)

    def _fixed(self, points: np.ndarray | Sequence[Point]) -> np.ndarray:
        # Pixel centres lie at half coordinates in the small picture; cv2 counts from the centre of pixel 0.
        large = np.asarray(points, np.float64) * SUPERSAMPLING - 0.5
        # Joints far outside the picture would overflow cv2's 32-bit fixed point.
        fixed = np.round(np.clip(large, -32768, 32767) * (1 << FRACTION_BITS)).astype(np.int32)
        return fixed - np.array(self._corner_xy, np.int32) * (SUPERSAMPLING << FRACTION_BITS)


def blur(picture: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur a picture by a Gaussian. picture: uint8 [H, W, 3]."""
    return cv2.GaussianBlur(picture, (0, 0), sigma_px)
