"""Motion energy tells a pair from a mix-up."""

import math

import numpy as np
from frame_motion import motion_energy, pairing_correlation

from faceid.media.pixels.motion import ENERGY_WIDTH_PX
from faceid.media.video import measure_video, write_video


def swinging(speed: float, width: int = 120, height: int = 80, grey: int = 255) -> np.ndarray:
    """A bar that swings; its speed changes over time, so its energy has a shape."""
    frames = np.zeros((40, height, width, 3), np.uint8)
    for k in range(40):
        x = int((0.5 + 0.4 * math.sin(speed * k + 0.02 * k * k)) * (width - 10))
        frames[k, 10:-10, x : x + 10] = grey
    return frames


def test_energy_of_a_known_change():
    frames = np.zeros((3, 96, 96, 3), np.uint8)
    frames[1] = 10
    assert motion_energy(frames).tolist() == [10.0, 10.0]


def test_the_same_motion_correlates_at_another_size_and_brightness():
    assert pairing_correlation(swinging(0.3), swinging(0.3, width=200, height=120, grey=128)) > 0.8


def test_another_motion_does_not():
    assert pairing_correlation(swinging(0.3), swinging(0.55)) < 0.5


def test_a_decode_pass_says_the_same_and_keeps_no_frame(tmp_path):
    write_video(tmp_path / "a.mp4", swinging(0.3), 16)
    seen = []
    measured = measure_video(tmp_path / "a.mp4", ENERGY_WIDTH_PX, seen.append)
    assert {small.shape for small in seen} == {(64, 96)} and len(seen) == 40
    assert np.array_equal(measured.energy, motion_energy(np.stack(seen)))
    assert np.corrcoef(measured.energy, motion_energy(swinging(0.3)))[0, 1] > 0.99


def test_a_still_video_is_told_apart_from_a_bad_pair():
    assert math.isnan(pairing_correlation(swinging(0.3), np.zeros((40, 80, 120, 3), np.uint8)))


def test_too_few_frames_say_nothing():
    # Toy clips have nine: of a true pair chance makes one of another clip.
    for frames, is_too_few in ((9, True), (13, True), (14, False)):
        assert math.isnan(pairing_correlation(swinging(0.3)[:frames], swinging(0.3)[:frames])) == is_too_few
