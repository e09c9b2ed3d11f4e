"""Names to pairs, dancers and keys."""

import re

import pytest
from drawn_clips import add_clip

from faceid.data.clips.pairs import find_pairs
from faceid.data.video_files import list_videos
from faceid.errors import DataError


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


def test_both_ways_to_name_a_pose(folders):
    videos, poses, _ = folders
    touch(videos, "dance_001.mp4", "dance_002.mov")
    touch(poses, "dance_001_pose.mp4", "dance_002.mp4")
    found = find_pairs(videos, poses)
    pairs, missing = found.pairs, found.left_out
    assert [(p.video.name, p.pose.name) for p in pairs] == [
        ("dance_001.mp4", "dance_001_pose.mp4"),
        ("dance_002.mov", "dance_002.mp4"),
    ]
    assert not missing


def test_one_folder_may_hold_both(folders):
    videos, _, _ = folders
    touch(videos, "a.mp4", "a_pose.mp4", "b.mp4")
    found = find_pairs(videos, videos)
    pairs, missing = found.pairs, found.left_out
    assert [p.key for p in pairs] == ["a"] and [m.name for m in missing] == ["b.mp4"]


def test_no_pose_at_all_is_an_error_that_names_the_wanted_file(folders):
    videos, poses, _ = folders
    touch(videos, "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4 needs a_pose\.mp4"):
        find_pairs(videos, poses)


def test_an_empty_or_missing_folder_is_an_error(folders):
    videos, poses, _ = folders
    with pytest.raises(DataError, match="no video in it"):
        find_pairs(videos, poses)
    with pytest.raises(DataError, match="no such folder"):
        find_pairs(videos / "nope", poses)


def test_keys_are_plain_and_unique_whatever_the_names(folders):
    videos, poses, _ = folders
    names = [
        "A b.mp4",
        "a-b.mp4",
        "A_B.mp4",
        "舞蹈.mp4",
        "-x.mp4",
        "x.mp4",
        "x.mov",
        "y" * 200 + ".mp4",
        "line\nbreak.mp4",
    ]
    touch(videos, *names)
    touch(poses, *(name.rpartition(".")[0] + "_pose.mp4" for name in names))
    keys = [p.key for p in find_pairs(videos, poses).pairs]
    assert len(keys) == len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,80}", key) for key in keys)
    assert keys == sorted(keys) == [p.key for p in find_pairs(videos, poses).pairs]


def test_aist_names_give_dancer_genre_and_camera(folders):
    videos, poses, _ = folders
    stem = "gBR_sBM_c01_d04_mBR0_ch01"
    touch(videos, f"{stem}.mp4", f"{stem}_clip_002.mp4")
    touch(poses, f"{stem}_pose.mp4", f"{stem}_clip_002_pose.mp4")
    for pair in find_pairs(videos, poses).pairs:
        assert (pair.dancer, pair.genre, pair.camera) == ("d04", "gBR", "c01")


def test_clips_with_several_dancers_are_left_out(folders, caplog):
    videos, poses, _ = folders
    touch(videos, "gLO_sGR_c01_d13_d14_d15_mLO1_ch08.mp4", "solo.mp4")
    touch(poses, "gLO_sGR_c01_d13_d14_d15_mLO1_ch08_pose.mp4", "solo_pose.mp4")
    assert [p.key for p in find_pairs(videos, poses).pairs] == ["solo"]


def test_the_csv_overrides_and_the_rest_are_dancers_of_their_own(folders):
    videos, poses, _ = folders
    stem = "gBR_sBM_c01_d04_mBR0_ch01"
    touch(videos, "a.mp4", "b.mp4", "c.mp4", f"{stem}.mp4")
    touch(poses, *(f"{name}_pose.mp4" for name in ("a", "b", "c", stem)))
    (videos / "dancers.csv").write_text(f"clip,dancer\na,anna\nb.mp4,anna\n{stem},ben\n")
    dancers = {p.video.stem: p.dancer for p in find_pairs(videos, poses).pairs}
    assert dancers == {"a": "anna", "b": "anna", "c": "c", stem: "ben"}


def test_a_csv_without_the_columns_is_an_error(folders):
    videos, poses, _ = folders
    touch(videos, "a.mp4")
    touch(poses, "a_pose.mp4")
    (videos / "dancers.csv").write_text("a,anna\n b,anna\n")
    with pytest.raises(DataError, match="the first line must be `clip,dancer`"):
        find_pairs(videos, poses)


def test_a_broken_link_and_a_folder_named_like_a_video_are_said(tmp_path, caplog):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "c.mp4").mkdir()
    assert [video.name for video in list_videos(tmp_path)] == ["a.mp4"]
    assert "2 left out that are no files: b.mp4 (a link to nothing), c.mp4 (a folder)" in caplog.text


def test_what_is_no_file_is_among_what_is_left_out(folders):
    videos, poses, _ = folders
    touch(videos, "a.mp4")
    touch(poses, "a_pose.mp4")
    (videos / "b.mp4").symlink_to(videos / "b.mp4")
    left_out = find_pairs(videos, poses).left_out
    assert [(entry.name, entry.reason) for entry in left_out] == [("b.mp4", "is no file: a link to nothing")]


@pytest.mark.fault("M14")
def test_files_that_are_no_videos_are_named_but_for_what_belongs_to_them(folders, caplog):
    videos, poses, _ = folders
    add_clip(videos, poses, "a", seed=1)
    names = ("a.heads.json", "a.txt", "a.jpg", "dancers.csv", "split.json", "b.mts", "notes.txt", ".hidden")
    for name in names:
        (videos / name).write_text("clip,dancer\na,ann\n" if name == "dancers.csv" else "{}")
    find_pairs(videos, poses)
    said = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert said == [f"{videos}: 2 passed over, whose endings are not videos': b.mts, notes.txt"]
