"""Films drawn by code, as hard to decode as filmed ones: a still studio, a textured figure that moves, sensor noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceid.media.pixels.fit import resize_frames
from faceid.media.video import write_video

# Standard deviation of the noise, of 255. With it a film of 1080p60 at crf 23 has AIST's 10 Mbit/s.
NOISE = 1.5
# AIST's basic dances are 7.4 to 12 s long, at 10 Mbit/s.
FILM_HW, FILM_FPS, FILM_FRAMES, FILM_CRF = (1080, 1920), 60, 600, 23
# Frames of a sway.
PERIOD = 48


def draw_film(num_frames: int, size_hw: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    """Frames of a film, uint8 RGB [H, W, 3] one by one; they come again after a period, the noise too."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    studio = _texture(rng, height, width, smooth_px=height / 8, contrast=25) + 150
    body_hw = (height * 3 // 4, width // 8)
    body = _texture(rng, *body_hw, smooth_px=2, contrast=40) + rng.integers(60, 200, 3)
    drawn: list[np.ndarray] = []
    for number in range(num_frames):
        # An encoder looks back a few frames, never a period, so a repeated one costs it as much as a new one.
        if number < PERIOD:
            picture = studio.copy()
            top, left = _place(number, size_hw)
            picture[top : top + body_hw[0], left : left + body_hw[1]] = body
            picture += rng.standard_normal((height, width, 1), dtype=np.float32) * NOISE
            drawn.append(picture.clip(0, 255).astype(np.uint8))
        yield drawn[number % PERIOD]


def write_film(path: Path) -> float:
    """A film of AIST's size, length and rate; its 10^6 bits a second."""
    write_video(path, draw_film(FILM_FRAMES, FILM_HW, seed=0), FILM_FPS, FILM_CRF)
    return path.stat().st_size * 8 / 1e6 / (FILM_FRAMES / FILM_FPS)


def draw_pose(num_frames: int, size_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """The stick that goes with `draw_film`'s figure."""
    height, width = size_hw
    for number in range(num_frames):
        picture = np.zeros((height, width, 3), np.uint8)
        top, left = _place(number, size_hw)
        middle = left + width // 16
        picture[top : top + height * 3 // 4, middle : middle + max(width // 100, 2)] = (255, 80, 0)
        yield picture


def _place(number: int, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the figure in a frame, pixels."""
    height, width = size_hw
    turn = 2 * math.pi * number / PERIOD
    return height // 8 + round(height / 16 * math.sin(2 * turn)), round(width * (0.45 + 0.2 * math.sin(turn)))


def _texture(rng: np.random.Generator, height: int, width: int, smooth_px: float, contrast: float) -> np.ndarray:
    """Smooth coloured random pattern around 0, float32 [H, W, 3]. contrast: its standard deviation."""
    grain = rng.normal(size=(max(round(height / smooth_px), 2), max(round(width / smooth_px), 2), 3))
    (pattern,) = resize_frames(grain[None].astype(np.float32), height, width, "stretch")
    return pattern * (contrast / pattern.std())
