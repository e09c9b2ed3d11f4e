"""Move toy people: an articulated figure in the plane, whose joints swing as sums of sinusoids.

A genre is a family of motions: tempo, posture and the amplitude of each part. A seed picks one dance of it and the
camera that films it. Camera shift and zoom are part of the joints, so the pose video shows them too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceid.errors import ConfigError
from faceid.toy.people import generator
from faceid.toy.toy_settings import Framing

# Angles swing at a genre's tempo. Clips are written at this rate unless told otherwise.
DANCE_FPS = 16.0
# Lengths in parts of the figure's height. The head is large, so that a face has pixels in a small video.
FIGURE_PX = 0.9
HEAD_UNIT, NECK, TORSO, ARM, FOREARM, THIGH, SHIN = 0.165, 0.19, 0.25, 0.13, 0.13, 0.16, 0.16
HALF_SHOULDER, HALF_HIP = 0.115, 0.07


# Zoom on top of that of a whole figure; from and to.
ZOOM: dict[Framing, tuple[float, float]] = {"whole": (1.0, 1.0), "upper": (1.4, 1.9), "far": (0.3, 0.6)}
# Where the middle of an upper half's face lies, in parts of the picture's height.
UPPER_FACE_Y = (0.34, 0.42)


@dataclass(frozen=True)
class Genre:
    """One motion family. Angles are in degrees. Arms and legs are measured from hanging straight down."""

    tempo_hz: float
    arm_rest_deg: float
    arm_swing_deg: float
    elbow_rest_deg: float
    leg_swing_deg: float
    knee_bend_deg: float
    lean_deg: float
    bounce: float
    """Vertical motion of the hips, in parts of the figure's height."""
    sway: float
    """Sideways motion of the hips, in the same parts."""


# The two letters are those of AIST's genres, so that toy clips have real names.
GENRES: dict[str, Genre] = {
    "BR": Genre(0.4, 50, 50, 40, 30, 40, 16, 0.05, 0.06),
    "PO": Genre(0.3, 60, 35, 80, 8, 10, 6, 0.015, 0.02),
    "LO": Genre(0.45, 80, 55, 60, 12, 15, 5, 0.03, 0.02),
    "MH": Genre(0.35, 35, 40, 50, 18, 25, 9, 0.045, 0.03),
    "LH": Genre(0.375, 30, 55, 30, 22, 30, 12, 0.04, 0.04),
    "HO": Genre(0.5, 30, 25, 60, 30, 35, 5, 0.04, 0.05),
    "WA": Genre(0.425, 120, 60, 50, 8, 8, 8, 0.015, 0.03),
    "KR": Genre(0.475, 70, 65, 70, 18, 30, 14, 0.05, 0.03),
    "JS": Genre(0.275, 70, 45, 25, 20, 18, 12, 0.025, 0.06),
    "JB": Genre(0.225, 100, 40, 15, 28, 12, 8, 0.03, 0.05),
}


def dance_joints(
    genre: str,
    seed: int,
    num_frames: int,
    size_hw: tuple[int, int],
    framing: Framing = "whole",
) -> np.ndarray:
    """Dance for `num_frames`: COCO-17 joints, float32 [T, 17, 2], x and y in pixels.

    Joints may lie outside the picture.
    Raises: ConfigError for a genre that is not one of GENRES.
    """
    if genre not in GENRES:
        raise ConfigError(f"genre={genre}: not a dance this world knows; use one of {', '.join(GENRES)}")
    family = GENRES[genre]
    rng = generator(seed, f"dance {genre}")
    time_s = np.arange(num_frames) / DANCE_FPS
    zoom = rng.uniform(0.92, 1.04)
    shift = rng.uniform(-1, 1, 2) * (0.06, 0.02)
    tempo = family.tempo_hz * rng.uniform(0.85, 1.15)
    angle = _Swing(rng, time_s, tempo)

    lean = angle(0, family.lean_deg)
    hips = np.stack([family.sway * angle(0, 1), 0.16 + family.bounce * angle(0, 1, multiple=2)], -1)
    up = _direction(180 + lean)
    neck = hips + TORSO * up
    across = _direction(90 + lean + angle(0, 5))
    hip_across = _direction(90 + angle(0, 6))
    joints = np.full((num_frames, 17, 2), np.nan)
    head_roll = 0.5 * lean + angle(0, 6)
    joints[:, :5] = _head(neck + NECK * _direction(180 + head_roll), head_roll, yaw=angle(0, 0.5))
    # The figure faces the camera, so its left is right on the screen.
    for side, offset in ((1, 0), (-1, 1)):
        shoulder = neck + side * HALF_SHOULDER * across
        upper = side * (family.arm_rest_deg + angle(0, family.arm_swing_deg))
        elbow = shoulder + ARM * _direction(upper)
        lower = upper + side * (family.elbow_rest_deg + angle(0, 40))
        hip = hips + side * HALF_HIP * hip_across
        thigh = side * (8 + np.abs(angle(0, family.leg_swing_deg)))
        knee = hip + THIGH * _direction(thigh)
        shin = thigh - side * np.abs(angle(0, family.knee_bend_deg))
        for row, place in ((5, shoulder), (7, elbow), (9, elbow + FOREARM * _direction(lower))):
            joints[:, row + offset] = place
        for row, place in ((11, hip), (13, knee), (15, knee + SHIN * _direction(shin))):
            joints[:, row + offset] = place
    height, width = size_hw
    scale = FIGURE_PX * zoom * min(height, width)
    placed = joints * scale + shift * scale + (width / 2, height / 2)
    return _framed(placed, framing, generator(seed, f"framing {genre}"), size_hw).astype(np.float32)


def _framed(joints: np.ndarray, framing: Framing, rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Move the camera of a whole clip, [T, 17, 2] to the same. It stands still while somebody dances."""
    if framing == "whole":
        return joints
    height, width = size_hw
    zoom = rng.uniform(*ZOOM[framing])
    if framing == "upper":
        middle = joints[:, 3:5].mean(axis=(0, 1))
        target = (width * rng.uniform(0.45, 0.55), height * rng.uniform(*UPPER_FACE_Y))
    else:
        middle, free = np.array([width / 2, height / 2]), (1 - zoom) / 2
        target = (width * (0.5 + rng.uniform(-free, free)), height * (0.5 + rng.uniform(-free, free)))
    return (joints - middle) * zoom + target


class _Swing:
    """Sums of two sinusoids at the tempo and its double, with random phases."""

    def __init__(self, rng: np.random.Generator, time_s: np.ndarray, tempo_hz: float) -> None:
        self._rng, self._time_s, self._tempo_hz = rng, time_s, tempo_hz

    def __call__(self, mean: float, amplitude: float, multiple: int = 1) -> np.ndarray:
        phase = self._rng.uniform(0, 2 * np.pi, 2)
        size = amplitude * self._rng.uniform(0.7, 1.0)
        beat = 2 * np.pi * self._tempo_hz * multiple * self._time_s
        return mean + size * (0.75 * np.sin(beat + phase[0]) + 0.25 * np.sin(2 * beat + phase[1]))


def _direction(angle_deg: np.ndarray | float) -> np.ndarray:
    """Unit vectors [..., 2]. 0 hangs straight down, and 90 points to the screen's right."""
    angle = np.radians(angle_deg)
    return np.stack([np.sin(angle), np.cos(angle)], -1)


def _head(centre: np.ndarray, roll_deg: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Nose, eyes and ears [T, 5, 2] of a head. They are the same for everyone, so that joints carry no identity."""
    right = _direction(90 + roll_deg)
    down = _direction(roll_deg)
    turned = centre + 0.22 * HEAD_UNIT * yaw[:, None] * right
    nose = turned + 0.26 * HEAD_UNIT * down
    eye, ear = 0.36 * HEAD_UNIT * right, 0.88 * HEAD_UNIT * right
    lifted = turned - 0.08 * HEAD_UNIT * down
    return np.stack([nose, lifted + eye, lifted - eye, centre + ear, centre - ear], axis=1)
