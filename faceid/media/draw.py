"""Anti-aliased shapes on RGB canvases, and the skeleton drawing that VACE takes as pose control.

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

# Limbs of OpenPose's body-18 (controlnet_aux, DWPose; the drawing VACE was trained on) between COCO-17 joints;
# 17 stands for the neck, the middle of the shoulders. Eyes and ears are left out: they carry the driver's face.
NECK = 17
LIMBS: tuple[tuple[int, int, Colour], ...] = (
    (NECK, 6, (255, 0, 0)),
    (NECK, 5, (255, 85, 0)),
    (6, 8, (255, 170, 0)),
    (8, 10, (255, 255, 0)),
    (5, 7, (170, 255, 0)),
    (7, 9, (85, 255, 0)),
    (NECK, 12, (0, 255, 0)),
    (12, 14, (0, 255, 85)),
    (14, 16, (0, 255, 170)),
    (NECK, 11, (0, 255, 255)),
    (11, 13, (0, 170, 255)),
    (13, 15, (0, 85, 255)),
    (NECK, 0, (0, 0, 255)),
)
# Joint colours of the same drawing, in the order nose, neck, right arm, left arm, right leg, left leg.
JOINTS: tuple[tuple[int, Colour], ...] = (
    (0, (255, 0, 0)),
    (NECK, (255, 85, 0)),
    (6, (255, 170, 0)),
    (8, (255, 255, 0)),
    (10, (170, 255, 0)),
    (5, (85, 255, 0)),
    (7, (0, 255, 0)),
    (9, (0, 255, 85)),
    (12, (0, 255, 170)),
    (14, (0, 255, 255)),
    (16, (0, 170, 255)),
    (11, (0, 85, 255)),
    (13, (0, 0, 255)),
    (15, (85, 0, 255)),
)
# OpenPose draws sticks at 60 % brightness under joints at full brightness, 4 px of radius on 512 px.
STICK_BRIGHTNESS = 0.6
STICK_RADIUS_PER_PX = 4 / 512


class Canvas:
    """A picture under construction: shapes go on in order, `picture()` averages it down."""

    def __init__(self, background: np.ndarray) -> None:
        """background: uint8 [H, W, 3], copied."""
        self.size_hw = background.shape[:2]
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
        fixed = _fixed(points)
        if opacity >= 1.0:
            cv2.fillPoly(self._pixels, [fixed], colour, cv2.LINE_8, FRACTION_BITS)
            return
        layer = self._pixels.copy()
        cv2.fillPoly(layer, [fixed], colour, cv2.LINE_8, FRACTION_BITS)
        cv2.addWeighted(layer, opacity, self._pixels, 1 - opacity, 0, dst=self._pixels)

    def stroke(self, points: np.ndarray | Sequence[Point], radius: float, colour: Colour, closed: bool = False) -> None:
        """Draw a line of round ends and joints along `points`, [N, 2]. radius: half its width, pixels."""
        thickness = max(1, round(2 * radius * SUPERSAMPLING))
        cv2.polylines(self._pixels, [_fixed(points)], closed, colour, thickness, cv2.LINE_8, FRACTION_BITS)

    def capsule(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """Draw a straight limb with round ends."""
        self.stroke([start, end], radius, colour)

    def picture(self) -> np.ndarray:
        """The finished picture, uint8 [H, W, 3]."""
        height, width = self.size_hw
        return cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)


def blur(picture: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur a picture by a Gaussian. picture: uint8 [H, W, 3]."""
    return cv2.GaussianBlur(picture, (0, 0), sigma_px)


def draw_skeleton(joints: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw one body as OpenPose does, without face landmarks: coloured limbs on black, uint8 [H, W, 3].

    joints: COCO-17, [17, 2], x and y in pixels; a joint that is not known is nan and its limbs are left out.
    """
    canvas = Canvas(np.zeros((*size_hw, 3), np.uint8))
    # Below one pixel of radius a video codec turns limb colours to grey.
    radius = max(1.0, STICK_RADIUS_PER_PX * min(size_hw))
    points = np.concatenate([joints, joints[5:7].mean(axis=0, keepdims=True)])
    known = np.isfinite(points).all(axis=1)
    for start, end, (red, green, blue) in LIMBS:
        if known[start] and known[end]:
            dimmed = (red * STICK_BRIGHTNESS, green * STICK_BRIGHTNESS, blue * STICK_BRIGHTNESS)
            canvas.stroke(points[[start, end]], radius, dimmed)
    for joint, colour in JOINTS:
        if known[joint]:
            canvas.ellipse((points[joint, 0], points[joint, 1]), (radius, radius), colour)
    return canvas.picture()


def _fixed(points: np.ndarray | Sequence[Point]) -> np.ndarray:
    # Pixel centres lie at half coordinates in the small picture; cv2 counts from the centre of pixel 0.
    large = np.asarray(points, np.float64) * SUPERSAMPLING - 0.5
    # Joints far outside the picture would overflow cv2's 32-bit fixed point.
    return np.round(np.clip(large, -32768, 32767) * (1 << FRACTION_BITS)).astype(np.int32)
