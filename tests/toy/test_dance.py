"""Dances are repeatable, stay in the picture, and differ between genres and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.errors import ConfigError
from faceid.toy.dance import GENRES, dance_joints

BONES = [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 6), (3, 4)]


@pytest.mark.parametrize("genre", GENRES)
def test_a_dance_moves_within_the_picture(genre):
    for seed in range(20):
        joints = dance_joints(genre, seed, 33, (64, 64))
        assert joints.shape == (33, 17, 2) and joints.dtype == np.float32
        assert (joints > 0).all() and (joints < 64).all()
        assert np.ptp(joints[:, 9:11], axis=0).max() > 3, "hands must move"


def test_a_dance_is_the_same_for_the_same_seed_and_longer_when_asked():
    short, long = (dance_joints("BR", 3, frames, (64, 64)) for frames in (9, 33))
    assert np.array_equal(short, long[:9])
    assert not np.array_equal(short, dance_joints("BR", 4, 9, (64, 64)))


def test_the_body_keeps_its_proportions_so_joints_tell_nothing_of_the_dancer():
    for seed, genre in enumerate(GENRES):
        joints = dance_joints(genre, seed, 17, (64, 64)).astype(np.float64)
        lengths = np.stack([np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in BONES], -1)
        ratios = lengths / lengths[:, -1:]
        assert np.allclose(ratios, ratios[0], rtol=1e-3)
        if seed == 0:
            first = ratios[0]
        assert np.allclose(ratios[0], first, rtol=1e-3)


def test_a_dance_scales_with_the_picture():
    small, large = (dance_joints("JB", 1, 9, size) for size in ((64, 64), (480, 832)))
    assert np.allclose((small - 32) * 7.5, large - (416, 240), atol=0.01)


def test_genres_differ_in_how_they_move():
    def energy(genre: str) -> float:
        dances = [dance_joints(genre, seed, 33, (64, 64)) for seed in range(10)]
        return float(np.mean([np.abs(np.diff(joints, axis=0)).mean() for joints in dances]))

    assert energy("KR") > 1.5 * energy("PO")


def test_an_unknown_genre_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"genre=XX: .* BR, PO"):
        dance_joints("XX", 0, 9, (64, 64))
