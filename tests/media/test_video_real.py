"""Real files: pictures stand upright, and true pairs are told from swapped ones.

What comes of every bad file: tests/data/test_bad_files_real.py.
"""

import itertools

import av
import numpy as np
import pytest
from frame_motion import pairing_correlation

from faceid.media.pixels.fit import fit_sizes
from faceid.media.video import read_frames, read_video

pytestmark = pytest.mark.real_data


def test_rotation_is_a_clockwise_quarter_turn_of_the_stored_picture(real_data):
    path = real_data / "video_bad" / "decord_rot_90.mov"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    upright = read_video(path).frames[0]
    assert upright.shape == (568, 320, 3)
    # FilmOverview at: the letters of the keyboard stand upright this way.
    assert np.abs(np.rot90(stored, -1) - upright).mean() < 2 < np.abs(np.rot90(stored, 1) - upright).mean()


PAIRS = {
    "ready steadydancer": ("dance/ready/steadydancer_00002_480x832/video.mp4", "pose.mp4"),
    "ready scail": ("dance/ready/scail_001_832x480/video.mp4", "pose.mp4"),
    "raw steadydancer": ("dance/raw/steadydancer_00002/video.mp4", "pose.mp4"),
    "raw scail": ("dance/raw/scail_001/driving.mp4", "rendered.mp4"),
}


@pytest.fixture(scope="module")
def first_frames(real_data):
    """64 frames of each file, small; by index, whatever rate the file claims."""

    def read(path):
        height, width = read_frames(path, [0]).shape[1:3]
        return read_frames(path, range(64), fit_sizes((height, width), height // 4, width // 4))

    paths = {name: real_data / video for name, (video, _) in PAIRS.items()}
    return {name: (read(path), read(path.with_name(PAIRS[name][1]))) for name, path in paths.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_true_pairs_correlate_by_frame_index(first_frames, name):
    assert pairing_correlation(*first_frames[name]) > 0.5


def test_swapped_pairs_do_not(first_frames):
    groups = [(a, b) for a, b in itertools.permutations(first_frames, 2) if a.split()[1] != b.split()[1]]
    assert len(groups) == 8
    for a, b in groups:
        assert pairing_correlation(first_frames[a][0], first_frames[b][1]) < 0.5, (a, b)
