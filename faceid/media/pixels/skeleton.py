"""Draw the skeleton that VACE takes as pose control: OpenPose's body-18, from COCO-17 joints.

There are two styles of one body. `vace` is what VACE's own annotator writes (ali-vilab/VACE, vace/annotators/pose.py
and dwpose/util.py at 48eb44f): thin tapered sticks, eyes and ears, and hands. Its **red and blue are exchanged**
against OpenPose, because that annotator turns the channels around before saving. Pose videos made with it for VACE show
the same. `toy` is what the embedded base was trained on: thick sticks that survive 64 pixels, without eyes and ears.
Neither style draws face landmarks, because they carry the driver's identity.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from faceid.media.pixels.draw import Canvas, Colour

Style = Literal["vace", "toy"]

# OpenPose's colours go around the colour wheel in steps of 20 degrees, from red on.
WHEEL: tuple[Colour, ...] = tuple(
    (round(255 * red), round(255 * green), round(255 * blue))
    for red, green, blue in (colorsys.hsv_to_rgb(step / 18, 1, 1) for step in range(18))
)
# Limbs of OpenPose's body-18 between COCO-17 joints. 17 stands for the neck, the middle of the shoulders. After the
# body's come those from nose to eyes to ears, which show where the head looks. Each has the next colour of the wheel.
NECK = 17
BODY_LIMBS = (
    *((NECK, 6), (NECK, 5), (6, 8), (8, 10), (5, 7), (7, 9)),
    *((NECK, 12), (12, 14), (14, 16), (NECK, 11), (11, 13), (13, 15), (NECK, 0)),
)
LIMBS = (*BODY_LIMBS, (0, 2), (2, 4), (0, 1), (1, 3))
# Joints, coloured likewise: nose, neck, right arm, left arm, right leg, left leg, and then eyes and ears.
BODY_JOINTS = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15)
JOINTS = (*BODY_JOINTS, 2, 1, 4, 3)
# OpenPose draws sticks at 60 % brightness under joints at full brightness.
STICK_BRIGHTNESS = 0.6
# Half a stick's width in parts of the picture's shorter side. VACE: 4 px where that side is 1,024. A hand's lines are
# 2 px across.
RADIUS: dict[Style, float] = {"vace": 4 / 1024, "toy": 4 / 512}
HAND_LINE_RADIUS = 1 / 1024
# With a radius below one pixel, a video codec turns limb colours grey.
SMALLEST_RADIUS_PX: dict[Style, float] = {"vace": 0.5, "toy": 1.0}

NUM_BODY, NUM_HAND = 17, 21
# Lines from wrist to fingertip, five times (in COCO-WholeBody's order, which is OpenPose's).
HAND_LINES = tuple(
    (0 if step == 0 else 4 * finger + step, 4 * finger + step + 1) for finger in range(5) for step in range(4)
)
HAND_JOINT: Colour = (0, 0, 255)
# The part of a picture that is drawn on grows by this much, pixels.
STEP_PX = 256


def draw_skeleton(
    joints: np.ndarray, size_hw: tuple[int, int], style: Style = "toy", hands: np.ndarray | None = None
) -> np.ndarray:
    """Draw one body on black, uint8 RGB [H, W, 3].

    joints: COCO-17, [17, 2], x and y in pixels. An unknown joint is nan, and its limbs are left out.
    hands: [42, 2], the left one's 21 joints and then the right one's. Only `vace` draws them.
    """
    radius = max(SMALLEST_RADIUS_PX[style], RADIUS[style] * min(size_hw))
    hands = hands if style == "vace" else None
    picture = np.zeros((*size_hw, 3), np.uint8)
    # Only where the body is: all of a 1080p picture would be a canvas of 100 MB. The pixels are the same to the bit.
    (left, top), (right, bottom) = _box([joints] if hands is None else [joints, hands], radius, size_hw)
    if left < right and top < bottom:
        canvas = Canvas(picture[top:bottom, left:right], (left, top))
        _draw_body(canvas, joints, radius, style)
        for hand in (hands[:NUM_HAND], hands[NUM_HAND:]) if hands is not None else ():
            _draw_hand(canvas, hand, radius, max(0.5, HAND_LINE_RADIUS * min(size_hw)))
        picture[top:bottom, left:right] = canvas.picture()
    return picture


def _box(points: Sequence[np.ndarray], radius: float, size_hw: tuple[int, int]) -> np.ndarray:
    """The pixels that shapes of this radius around points can touch: upper left corner and, outside, the lower right.

    points: [N, 2] each; nan where one is not known. Empty where none is.
    """
    known = np.concatenate(points)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        return np.zeros((2, 2), int)
    margin, size_xy = np.ceil(radius) + 2, np.array(size_hw[::-1])
    # In steps: canvases of another size in each frame would leave holes in the heap, more than a whole canvas takes.
    low, high = known.min(axis=0) - margin, known.max(axis=0) + margin
    corners = np.stack([np.floor(low / STEP_PX), np.ceil(high / STEP_PX)])
    return np.clip(corners * STEP_PX, 0, size_xy).astype(int)


def _draw_body(canvas: Canvas, joints: np.ndarray, radius: float, style: Style) -> None:
    points = np.concatenate([joints, joints[5:7].mean(axis=0, keepdims=True)])
    known = np.isfinite(points).all(axis=1)
    for (start, end), colour in zip(LIMBS if style == "vace" else BODY_LIMBS, WHEEL, strict=False):
        if known[start] and known[end]:
            dimmed = _of(style, colour, STICK_BRIGHTNESS)
            if style == "vace":
                _tapered(canvas, points[start], points[end], radius, dimmed)
            else:
                canvas.stroke(points[[start, end]], radius, dimmed)
    for joint, colour in zip(JOINTS if style == "vace" else BODY_JOINTS, WHEEL, strict=False):
        if known[joint]:
            canvas.ellipse((points[joint, 0], points[joint, 1]), (radius, radius), _of(style, colour))


def draw_skeletons(
    joints: np.ndarray, size_hw: tuple[int, int], style: Style, hands: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield the frames of a pose video, uint8 RGB [H, W, 3]. All frames of a film would not fit in memory.

    joints: [T, 17, 2]. hands: [T, 42, 2].
    """
    for place, body in enumerate(joints):
        yield draw_skeleton(body, size_hw, style, hands[place] if hands is not None else None)


def _tapered(canvas: Canvas, start: np.ndarray, end: np.ndarray, radius: float, colour: Colour) -> None:
    """OpenPose's limb: an ellipse whose ends are the joints."""
    (x0, y0), (x1, y1) = start, end
    length, angle = float(np.hypot(x1 - x0, y1 - y0)), float(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
    canvas.ellipse(((x0 + x1) / 2, (y0 + y1) / 2), (length / 2, radius), colour, angle)


def _draw_hand(canvas: Canvas, hand: np.ndarray, radius: float, line_radius: float) -> None:
    known = np.isfinite(hand).all(axis=1)
    for number, (start, end) in enumerate(HAND_LINES):
        if known[start] and known[end]:
            red, green, blue = colorsys.hsv_to_rgb(number / len(HAND_LINES), 1.0, 1.0)
            colour = _of("vace", (red * 255, green * 255, blue * 255))
            canvas.capsule(tuple(hand[start]), tuple(hand[end]), line_radius, colour)
    for x, y in hand[known]:
        canvas.ellipse((x, y), (radius, radius), _of("vace", HAND_JOINT))


def _of(style: Style, colour: Colour, brightness: float = 1.0) -> Colour:
    red, green, blue = (value * brightness for value in colour)
    return (blue, green, red) if style == "vace" else (red, green, blue)
