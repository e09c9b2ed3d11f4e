"""Draw a head the same way in portraits and in clips, so that a photo and a dance show the same person.

Local coordinates: the origin is the middle of the face, and one unit is half the face's height. x points right and y
down on the screen before the head is tilted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceid.media.pixels.draw import Canvas, Colour
from faceid.toy.people import CLOTH, HAIR, IRIS, SKIN, Nuisance, Person, palette, shaded

# A head with its hair, in units: left, top, right, bottom. It is the same for everyone, so the box reveals no identity.
HEAD_BOX = (-1.2, -1.4, 1.2, 1.15)
# Proportions, in units, and shades, as factors of the skin's. A search (coordinate descent over 80 portraits) found
# values that OpenCV's frontal cascade takes for a face. They are the same for everyone.
EYE_Y, EYE_SIZE, EYE_SIZE_RANGE, LID_RADIUS, EYE_WHITE = -0.1, 0.15, 0.05, 0.035, 165.0
SOCKET_OPACITY, BAND_OPACITY, CHEEK_OPACITY = 0.6, 0.35, 0.15
BROW_Y, BROW_RADIUS, BROW_RADIUS_RANGE = -0.36, 0.014, 0.032
HAIRLINE_Y, HAT_Y = -0.68, -0.75
HIGHLIGHT, NOSE_OPACITY = 0.35, 0.5
NOSE_Y, NOSE_SHADE, MOUTH_Y, MOUTH_RADIUS, MOUTH_SHADE = 0.3, 72.0, 0.6, 0.05, 74.0


@dataclass(frozen=True)
class HeadPose:
    """Where a head is and how it is turned."""

    centre: tuple[float, float]
    """Middle of the face, x and y in pixels."""
    unit_px: float
    """Half the face's height, pixels."""
    roll_deg: float = 0.0
    """Tilt, clockwise on the screen."""
    yaw: float = 0.0
    """Turn to the screen's right, in [-1, 1]."""
    pitch: float = 0.0
    """Turn downwards, in [-1, 1]."""

    def place(self, points: np.ndarray) -> np.ndarray:
        """Local points [..., 2] to pixels [..., 2]."""
        angle = np.radians(self.roll_deg)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return np.asarray(self.centre) + self.unit_px * np.asarray(points, np.float64) @ turn


def draw_head(canvas: Canvas, person: Person, pose: HeadPose, nuisance: Nuisance) -> None:
    """Draw hair behind, face, features, hair or hat in front, and glasses."""
    pen = _Pen(canvas, pose)
    skin = palette(SKIN, person.skin)
    hair = palette(HAIR, person.hair_colour)
    half_width = 0.76 + 0.24 * person.face_width
    _draw_back_hair(pen, person, hair, half_width)
    for side in (-1, 1):
        pen.ellipse((side * half_width * 0.98, 0.08), (0.14, 0.22), shaded(skin, 0.86))
    pen.ellipse((0, 0), (half_width, 1.0), skin)
    # Features shift with the turn of the head. The outline of the head stays.
    features = _Pen(canvas, pose, shift=(0.22 * pose.yaw, 0.12 * pose.pitch))
    _draw_relief(features, skin, half_width)
    _draw_nose(features, skin)
    for side in (-1, 1):
        _draw_eye(features, person, side, nuisance.eye_openness)
    _draw_mouth(features, person, skin, nuisance)
    _draw_top(pen, person, hair, half_width)
    # Brows lie above the fringe. They are an identity parameter and must be visible.
    _draw_brows(features, person, skin, hair)
    _draw_glasses(features, person)


@dataclass(frozen=True)
class _Pen:
    """A canvas in local coordinates."""

    canvas: Canvas
    pose: HeadPose
    shift: tuple[float, float] = (0.0, 0.0)

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour, opacity: float = 1.0
    ) -> None:
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        self.polygon(np.asarray(centre) + np.stack([np.cos(turn), np.sin(turn)], -1) * radii, colour, opacity)

    def polygon(self, points: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
        self.canvas.polygon(self.pose.place(points + np.asarray(self.shift)), colour, opacity)

    def stroke(self, points: np.ndarray, radius: float, colour: Colour, closed: bool = False) -> None:
        placed = self.pose.place(np.asarray(points) + np.asarray(self.shift))
        self.canvas.stroke(placed, radius * self.pose.unit_px, colour, closed)


def _eye_x(person: Person) -> float:
    return 0.29 + 0.14 * person.eye_spacing


def _draw_back_hair(pen: _Pen, person: Person, hair: Colour, half_width: float) -> None:
    behind = shaded(hair, 0.8)
    if person.headwear == "long":
        pen.ellipse((0, -0.1), (half_width + 0.18, 1.12), behind)
        corner = half_width + 0.2
        pen.polygon(np.array([(-corner, -0.1), (corner, -0.1), (corner, 1.15), (-corner, 1.15)]), behind)
    elif person.headwear == "afro":
        pen.ellipse((0, -0.25), (half_width + 0.36, 1.15), behind)
    elif person.headwear == "bun":
        pen.ellipse((0, -1.12), (0.38, 0.3), behind)


def _draw_relief(pen: _Pen, skin: Colour, half_width: float) -> None:
    """Draw a bright forehead and cheeks around a darker band of eyes, by which a cascade detector knows a face."""
    bright, dark = _towards_white(skin, HIGHLIGHT), _darker(skin, 80)
    pen.ellipse((0, -0.6), (half_width * 0.6, 0.2), bright, opacity=CHEEK_OPACITY)
    for side in (-1, 1):
        pen.ellipse((side * half_width * 0.52, 0.36), (0.24, 0.18), bright, opacity=CHEEK_OPACITY)
        pen.ellipse((side * half_width * 0.47, EYE_Y - 0.06), (half_width * 0.42, 0.22), dark, opacity=BAND_OPACITY)


def _draw_eye(pen: _Pen, person: Person, side: int, openness: float) -> None:
    x, y = side * _eye_x(person), EYE_Y
    size = EYE_SIZE + EYE_SIZE_RANGE * person.eye_size
    iris = palette(IRIS, person.eye_colour)
    socket = _darker(palette(SKIN, person.skin), 80)
    pen.ellipse((x, y - 0.02), (size * 1.35, size * 1.1), socket, opacity=SOCKET_OPACITY)
    pen.ellipse((x, y), (size * 1.12, size * 0.82 * openness), (EYE_WHITE, EYE_WHITE, EYE_WHITE))
    pen.ellipse((x, y), (size * 0.75, size * min(0.8, openness)), iris)
    pen.ellipse((x, y), (size * 0.34, size * 0.34), (16, 14, 18))
    lid = np.array([(x - size * 1.15, y - 0.02), (x, y - size * 0.86 * openness), (x + size * 1.15, y - 0.02)])
    pen.stroke(lid, LID_RADIUS, (30, 22, 24))


def _draw_brows(pen: _Pen, person: Person, skin: Colour, hair: Colour) -> None:
    red, green, blue = (max(8.0, min(0.5 * h, s - 85)) for h, s in zip(hair, skin, strict=True))
    for side in (-1, 1):
        x = side * _eye_x(person)
        arc = np.array([(x - side * 0.2, BROW_Y + 0.06), (x, BROW_Y), (x + side * 0.21, BROW_Y + 0.08)])
        pen.stroke(arc, BROW_RADIUS + BROW_RADIUS_RANGE * person.brow, (red, green, blue))


def _towards_white(colour: Colour, share: float) -> Colour:
    red, green, blue = (channel + share * (255 - channel) for channel in colour)
    return red, green, blue


def _draw_nose(pen: _Pen, skin: Colour) -> None:
    pen.ellipse((0, NOSE_Y - 0.26), (0.07, 0.3), _towards_white(skin, HIGHLIGHT), opacity=NOSE_OPACITY)
    pen.ellipse((0, NOSE_Y + 0.02), (0.17, 0.09), _darker(skin, NOSE_SHADE))
    pen.ellipse((0, NOSE_Y - 0.04), (0.1, 0.07), _towards_white(skin, 0.1))


def _darker(colour: Colour, levels: float) -> Colour:
    # Levels are subtracted. A cascade compares brightness, and a factor would flatten dark faces.
    red, green, blue = (max(12.0, channel - levels) for channel in colour)
    return red, green, blue


def _draw_mouth(pen: _Pen, person: Person, skin: Colour, nuisance: Nuisance) -> None:
    half = 0.17 + 0.23 * person.mouth_width
    red, green, blue = _darker(skin, MOUTH_SHADE)
    lips = (min(255.0, red + 45), green * 0.75, blue * 0.8)
    x = np.linspace(-1, 1, 9)
    sag = 0.12 * nuisance.smile * (1 - x**2)
    middle = np.stack([x * half, MOUTH_Y + sag], -1)
    if nuisance.mouth_open > 0:
        gap = 0.14 * nuisance.mouth_open * (1 - x**2)
        lower = middle + np.stack([np.zeros(9), gap * 1.6], -1)
        pen.polygon(np.concatenate([middle, lower[::-1]]), (70, 20, 26))
        pen.stroke(lower, MOUTH_RADIUS * 0.9, lips)
    pen.stroke(middle, MOUTH_RADIUS, lips)


def _dome(half_width: float, top: float, bottom: float, brow_sag: float) -> np.ndarray:
    """The part of a head above `bottom`. Its lower edge sags by `brow_sag` at the sides."""
    turn = np.linspace(np.pi, 2 * np.pi, 25)
    outer = np.stack([half_width * np.cos(turn), bottom + (bottom - top) * np.sin(turn)], -1)
    x = np.linspace(1, -1, 13)
    edge = np.stack([half_width * 0.97 * x, bottom + brow_sag * x**2], -1)
    return np.concatenate([outer, edge])


def _draw_top(pen: _Pen, person: Person, hair: Colour, half_width: float) -> None:
    hat = palette(CLOTH, person.hat_colour)
    if person.headwear == "short":
        pen.polygon(_dome(half_width + 0.04, -1.12, HAIRLINE_Y - 0.06, 0.42), hair)
    elif person.headwear == "fringe":
        pen.polygon(_dome(half_width + 0.06, -1.14, HAIRLINE_Y + 0.08, 0.5), hair)
    elif person.headwear in ("long", "afro", "bun"):
        pen.polygon(_dome(half_width + 0.05, -1.12, HAIRLINE_Y, 0.6), hair)
    elif person.headwear == "cap":
        pen.polygon(_dome(half_width + 0.06, -1.35, HAT_Y, 0.06), hat)
        brim = np.array([(-half_width - 0.1, HAT_Y + 0.04), (0, HAT_Y - 0.02), (half_width + 0.1, HAT_Y + 0.04)])
        pen.stroke(brim, 0.09, shaded(hat, 0.7))
        _draw_side_hair(pen, hair, half_width)
    elif person.headwear == "beanie":
        pen.polygon(_dome(half_width + 0.08, -1.38, HAT_Y, 0.06), hat)
        pen.stroke(np.array([(-half_width, HAT_Y - 0.06), (half_width, HAT_Y - 0.06)]), 0.12, shaded(hat, 0.78))
        pen.ellipse((0, -1.3), (0.2, 0.16), shaded(hat, 1.25))
        _draw_side_hair(pen, hair, half_width)


def _draw_side_hair(pen: _Pen, hair: Colour, half_width: float) -> None:
    for side in (-1, 1):
        pen.stroke(np.array([(side * half_width * 0.9, -0.5), (side * half_width * 0.97, -0.15)]), 0.09, hair)


def _draw_glasses(pen: _Pen, person: Person) -> None:
    if person.glasses == "none":
        return
    frame = shaded(palette(CLOTH, person.glasses_colour), 0.55)
    x, half = _eye_x(person), 0.25
    for side in (-1, 1):
        if person.glasses == "round":
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            rim = np.stack([side * x + half * np.cos(turn), -0.07 + half * np.sin(turn)], -1)
        else:
            left, right = side * x - half, side * x + half
            rim = np.array([(left, -0.27), (right, -0.27), (right, 0.13), (left, 0.13)])
        pen.stroke(rim, 0.045, frame, closed=True)
    pen.stroke(np.array([(-x + half, -0.12), (x - half, -0.12)]), 0.045, frame)
