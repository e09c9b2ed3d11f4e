"""The contact sheet shows the same frames of pose, clip and render, row by row."""

import numpy as np
import pytest
from calling import call
from launching import REPOSITORY, run_command
from PIL import Image

from faceid.media.video import read_video, write_video

pytestmark = pytest.mark.starts_process


@pytest.fixture
def folders(tmp_path):
    """One clip whose pose, clip and render are plain red, green and blue, brighter from frame to frame."""
    for channel, name in enumerate(("poses/a_pose.mp4", "videos/a.mp4", "rendered/a_pose.mp4")):
        frames = np.zeros((9, 32, 48, 3), np.uint8)
        frames[..., channel] = np.linspace(40, 240, 9).astype(np.uint8)[:, None, None]
        (tmp_path / name).parent.mkdir()
        write_video(tmp_path / name, frames, 16)
    return tmp_path


def sheet(folders, *flags, expect=0):
    import sys

    return run_command(
        [
            *(sys.executable, str(REPOSITORY / "tools/make_contact_sheet.py")),
            *("--dance_videos_dir", str(folders / "videos"), "--pose_videos_dir", str(folders / "poses")),
            *("--rendered_dir", str(folders / "rendered"), "--output", str(folders / "sheet.png"), *flags),
        ],
        expect,
    )


def test_rows_are_pose_clip_render_and_columns_are_frames(folders):
    sheet(folders, "--num_columns", "3", "--frame_height", "32")
    picture = np.asarray(Image.open(folders / "sheet.png")).astype(int)
    label = picture.shape[1] - 3 * 48
    for row, name in enumerate(("poses/a_pose.mp4", "videos/a.mp4", "rendered/a_pose.mp4")):
        frames = read_video(folders / name).frames.astype(int)
        for column, frame in enumerate((0, 4, 8)):
            shown = picture[row * 32 + 16, label + column * 48 + 24]
            assert np.abs(shown - frames[frame, 16, 24]).max() <= 2


def test_nothing_rendered_is_one_line(folders):
    (folders / "rendered" / "a_pose.mp4").unlink()
    done = sheet(folders, expect=2)
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {folders / 'rendered'}: no a_pose.mp4")


@pytest.mark.fault("M4")
def test_of_a_sampled_pose_the_frames_that_were_followed_are_shown(folders):
    render = read_video(folders / "rendered/a_pose.mp4").frames[::2]
    write_video(folders / "rendered/a_pose.mp4", render, 8)
    (folders / "rendered/a_pose.json").write_text('{"video": {"pose_frames": [0, 2, 4, 6, 8]}}')
    sheet(folders, "--num_columns", "5", "--frame_height", "32")
    picture = np.asarray(Image.open(folders / "sheet.png")).astype(int)
    label = picture.shape[1] - 5 * 48
    for row, name in enumerate(("poses/a_pose.mp4", "videos/a.mp4")):
        frames = read_video(folders / name).frames.astype(int)
        for column in range(5):
            shown = picture[row * 32 + 16, label + column * 48 + 24]
            assert np.abs(shown - frames[2 * column, 16, 24]).max() <= 2


def arms(folders, *flags, expect=0):
    words = ["--dance_videos_dir", folders / "videos", "--pose_videos_dir", folders / "poses"]
    done = call("tools/make_contact_sheet.py", *words, "--output", folders / "sheet.png", *flags)
    assert done.code == expect, done
    return done


@pytest.fixture
def two_arms(folders):
    """The render, and one that is grey."""
    grey = np.full((9, 32, 48, 3), 128, np.uint8)
    (folders / "grey").mkdir()
    write_video(folders / "grey/a_pose.mp4", grey, 16)
    return f"[grey={folders / 'grey'}, blue={folders / 'rendered'}]"


def test_arms_are_rows_in_their_order_below_the_photos(folders, two_arms):
    (folders / "photos").mkdir()
    Image.new("RGB", (20, 20), (250, 120, 10)).save(folders / "photos/a.png")
    how = ("--num_columns", "3", "--frame_height", "32", "--face_images_dir", folders / "photos")
    arms(folders, "--arms", two_arms, *how)
    picture = np.asarray(Image.open(folders / "sheet.png")).astype(int)
    label = picture.shape[1] - 3 * 48
    assert np.abs(picture[16, label + 16] - (250, 120, 10)).max() <= 2
    first_row = 32 + 8
    grey, blue = (picture[first_row + row * 32 + 16, label + 24] for row in (2, 3))
    assert np.abs(grey - 128).max() <= 3 and blue[2] > blue[0] + 20


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--arms", "[grey]"), "arms: 'grey' is not NAME=FOLDER"),
        ((), "rendered_dir, arms: give one of them"),
        (("--arms", "[a=nowhere]"), "nowhere: no a_pose.mp4"),
    ],
)
def test_arms_that_cannot_be_compared_are_one_line(folders, flags, said):
    assert said in arms(folders, *flags, expect=2).error


def test_arms_of_two_lengths_are_refused(folders, two_arms):
    write_video(folders / "grey/a_pose.mp4", np.full((5, 32, 48, 3), 128, np.uint8), 16)
    assert "arms: blue: a_pose.mp4 has another size or length" in arms(folders, "--arms", two_arms, expect=2).error
