"""Shapes have smooth edges."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.media.pixels.draw import Canvas, blur

BLACK = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize("radius", [1.0, 3.3, 9.6])
def test_an_ellipse_covers_its_area(radius):
    canvas = Canvas(BLACK)
    canvas.ellipse((16.3, 15.2), (radius, radius * 0.7), (255, 255, 255))
    # cv2 fills the outline too, which makes every shape an eighth of a pixel larger all round.
    covered = canvas.picture()[..., 0].sum() / 255
    assert covered == pytest.approx(np.pi * radius * radius * 0.7, rel=0.12, abs=0.8)


def test_a_shape_moves_by_a_fraction_of_a_pixel():
    def centre(x: float) -> float:
        canvas = Canvas(BLACK)
        canvas.ellipse((x, 16), (4, 4), (255, 255, 255))
        weight = canvas.picture()[..., 0].astype(float)
        return float((weight * (np.arange(32) + 0.5)).sum() / weight.sum())

    for x in (15.0, 15.25, 15.5, 15.9):
        assert centre(x) == pytest.approx(x, abs=0.12)


def test_an_opaque_shape_hides_and_a_half_transparent_one_mixes():
    canvas = Canvas(BLACK)
    canvas.polygon([(0, 0), (32, 0), (32, 32), (0, 32)], (200, 100, 0))
    canvas.polygon([(0, 0), (32, 0), (32, 32), (0, 32)], (0, 100, 200), opacity=0.5)
    assert canvas.picture()[16, 16].tolist() == pytest.approx([100, 100, 100], abs=1)


def test_a_shape_far_outside_is_harmless():
    canvas = Canvas(BLACK)
    canvas.capsule((-1e7, 16), (1e7, 16), 2, (255, 255, 255))
    assert canvas.picture()[16, 16, 0] == 255


def test_blur_keeps_brightness_and_removes_edges():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 200
    soft = blur(picture, 3).astype(int)
    assert abs(soft.mean() - picture.mean()) < 2
    assert np.abs(np.diff(soft, axis=1)).max() < 40
