"""Real odd and damaged files: each one is read as it should be seen, or refused with its reason."""

import itertools

import av
import numpy as np
import pytest

from faceid.errors import DataError
from faceid.media.motion import pairing_correlation
from faceid.media.video import measure_video, read_frames, read_video

pytestmark = pytest.mark.real_data

READ = {
    "-video-with-dash-.mp4": (5, 1, 1),
    "mp4parse_one_frame.mp4": (1, 144, 256),  # 176 wide, pixels 16:11
    "mp4parser_count-video.mp4": (245, 480, 640),
    "moviepy_no_duration.webm": (74, 720, 1280),
    "decord_rot_0.mov": (3, 320, 568),
    "decord_rot_90.mov": (3, 568, 320),
    "autoeditor_SAR-2by3.mp4": (60, 360, 427),
    "autoeditor_h264-attached-mjpeg.mp4": (60, 360, 640),
    "torchcodec_h264_10bits.mp4": (30, 200, 200),
    "torchcodec_av1_video.mkv": (125, 360, 640),
    "imageio_realshort.mp4": (36, 240, 320),
}
REFUSED = {
    "decord_corrupted.mp4": "28 of 50 promised frames decode",
    "mp4parse_invalid_userdata.mp4": "0 of 5544 promised frames decode",
    "mp4parse_cenc_init_only.mp4": "0 frames decode",
    "mp4parse_chunk_out_of_range.mp4": "not a readable video",
    "moviepy_zero_bytes.webm": "not a readable video",
    "mp4parser_audio_only.mp4": "no video stream",
}


def test_every_bad_file_has_a_stated_outcome(real_data):
    assert {f.name for f in (real_data / "video_bad").iterdir()} == set(READ) | set(REFUSED)


@pytest.mark.parametrize("name", READ)
def test_odd_but_readable(real_data, name):
    path = real_data / "video_bad" / name
    count, height, width = READ[name]
    measured = measure_video(path)
    assert (measured.frames, *measured.size_hw) == (count, height, width)
    assert read_video(path, max_frames=3).frames.shape == (min(count, 3), height, width, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(real_data, name):
    for read in (read_video, measure_video):
        with pytest.raises(DataError, match=REFUSED[name]) as caught:
            read(real_data / "video_bad" / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_rotation_is_a_clockwise_quarter_turn_of_the_stored_picture(real_data):
    path = real_data / "video_bad" / "decord_rot_90.mov"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    upright = read_video(path).frames[0]
    assert upright.shape == (568, 320, 3)
    # Looked at: the letters of the keyboard stand upright this way.
    assert np.abs(np.rot90(stored, -1) - upright).mean() < 2 < np.abs(np.rot90(stored, 1) - upright).mean()


def test_a_header_that_promises_one_frame_too_many_is_forgiven(real_data):
    assert measure_video(real_data / "video_odd" / "moore_talkinghead_3.mp4").frames == 141


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
        return read_frames(path, range(64), lambda frame: frame[::4, ::4])

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
