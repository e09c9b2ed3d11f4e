"""What sample.py --batch wrote is read whole, or refused in one line."""

from __future__ import annotations

import pytest
from drawn_renders import write_jobs

from faceid.errors import DataError
from faceid.evaluation.videos.renders import clip_stem, read_arm, read_real_clips
from faceid.files.provenance import sha256_file


def row(folder, output="a/x_pose.mp4", content=b"video", **changes):
    path = folder / output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    made = {"pose": "x_pose.mp4", "output": output, "identity": "a", "face_scale": 1.0, "seed": 3}
    return {**made, "sha256": sha256_file(path), "error": "", **changes}


def test_a_row_becomes_a_render_named_after_its_clip(tmp_path):
    write_jobs(tmp_path, [row(tmp_path)])
    (render,) = read_arm("ours", [tmp_path]).renders
    assert (render.clip, render.identity, render.face_scale, render.seed) == ("x", "a", 1.0, 3)
    assert render.path == tmp_path / "a/x_pose.mp4"


@pytest.mark.parametrize(("pose", "clip"), [("x_pose.mp4", "x"), ("x.mov", "x"), ("x_pose_pose.mp4", "x_pose")])
def test_the_clip_is_the_pose_without_its_ending(pose, clip):
    assert clip_stem(pose) == clip


@pytest.mark.parametrize("field", ["identity", "face_scale", "seed"])
def test_rows_of_an_older_version_say_to_render_again(tmp_path, field):
    made = row(tmp_path)
    del made[field]
    write_jobs(tmp_path, [made])
    with pytest.raises(DataError, match=f"line 1 has no {field}.*render again with sample.py --batch"):
        read_arm("ours", [tmp_path])


def test_a_failed_render_is_counted_and_said(tmp_path, caplog):
    write_jobs(tmp_path, [row(tmp_path), row(tmp_path, "a/y.mp4", sha256="", error="too short")])
    arm = read_arm("ours", [tmp_path])
    assert (len(arm.renders), arm.num_failed) == (1, 1)
    assert "1 of 2 renders failed and are not scored" in caplog.text


def test_a_video_changed_since_is_refused(tmp_path):
    write_jobs(tmp_path, [row(tmp_path)])
    (tmp_path / "a/x_pose.mp4").write_bytes(b"another")
    with pytest.raises(DataError, match="is not the file that was rendered"):
        read_arm("ours", [tmp_path])


def test_a_missing_video_is_refused(tmp_path):
    write_jobs(tmp_path, [row(tmp_path)])
    (tmp_path / "a/x_pose.mp4").unlink()
    with pytest.raises(DataError, match="missing"):
        read_arm("ours", [tmp_path])


def test_two_strengths_in_one_arm_are_refused(tmp_path):
    write_jobs(tmp_path, [row(tmp_path), row(tmp_path, "b/x_pose.mp4", face_scale=0.5)])
    with pytest.raises(DataError, match=r"x_pose\.mp4 is another render of x, identity a, seed 3"):
        read_arm("ours", [tmp_path])


def test_the_base_rendered_once_per_person_is_one_video(tmp_path):
    rows = [row(tmp_path, f"{name}/x_pose.mp4", identity="", face_scale=0.0) for name in "ab"]
    write_jobs(tmp_path, rows)
    assert len(read_arm("base", [tmp_path]).renders) == 1


def test_renders_without_a_person_that_differ_are_refused(tmp_path):
    rows = [row(tmp_path, f"{name}/x_pose.mp4", name.encode(), identity="", face_scale=0.0) for name in "ab"]
    write_jobs(tmp_path, rows)
    with pytest.raises(DataError, match="identity none"):
        read_arm("base", [tmp_path])


def test_a_folder_without_jobs_says_how_to_render(tmp_path):
    with pytest.raises(DataError, match=r"no jobs\.jsonl in it; render with sample\.py --batch"):
        read_arm("ours", [tmp_path])


def test_an_arm_of_failures_alone_is_refused(tmp_path):
    write_jobs(tmp_path, [row(tmp_path, sha256="", error="too short")])
    with pytest.raises(DataError, match="holds no rendered video"):
        read_arm("ours", [tmp_path])


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"pose"')
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_arm("ours", [tmp_path])


def test_folders_of_two_seeds_are_one_arm(tmp_path):
    for seed in (3, 4):
        write_jobs(tmp_path / str(seed), [row(tmp_path / str(seed), seed=seed)])
    assert [render.seed for render in read_arm("ours", [tmp_path / "3", tmp_path / "4"]).renders] == [3, 4]


def test_folders_of_the_same_seed_are_not_one_arm(tmp_path):
    for name in "ab":
        write_jobs(tmp_path / name, [row(tmp_path / name)])
    with pytest.raises(DataError, match="another render of x"):
        read_arm("ours", [tmp_path / "a", tmp_path / "b"])


def test_real_clips_show_who_dances_in_them(tmp_path):
    for name in ("gBR_sBM_c01_d04_mBR0_ch01.mp4", "mine.mp4", "mine_pose.mp4", "mine.heads.json"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(DataError, match=r"mine.mp4: nobody knows who dances in it.*--drivers_csv"):
        read_real_clips("real", [tmp_path], None)
    table = tmp_path / "who.csv"
    table.write_text("clip,dancer\nmine,anna\n")
    arm = read_real_clips("real", [tmp_path], table)
    assert [(r.identity, r.clip) for r in arm.renders] == [("anna", "mine"), ("d04", "gBR_sBM_c01_d04_mBR0_ch01")]


def test_an_arm_of_real_clips_needs_some(tmp_path):
    with pytest.raises(DataError, match=r"renders: real=.*: no clips in it"):
        read_real_clips("real", [tmp_path / "nothing"], None)


@pytest.mark.fault("M4")
def test_a_row_says_which_frames_of_the_clip_its_render_followed(tmp_path):
    write_jobs(tmp_path, [row(tmp_path, pose_frames=[0, 2, 4])])
    (render,) = read_arm("ours", [tmp_path]).renders
    assert list(render.clip_frames(3)) == [0, 2, 4]
    with pytest.raises(DataError, match=r"x_pose\.mp4: 4 frames, its jobs\.jsonl says pose_frames for 3"):
        render.clip_frames(4)
    write_jobs(tmp_path, [row(tmp_path)])
    assert list(read_arm("ours", [tmp_path]).renders[0].clip_frames(3)) == [0, 1, 2]


@pytest.mark.parametrize("places", [7, [], [0, -1], [2, 1], [0, 1.5], [True], ["0"], [1 << 40]])
def test_what_is_no_list_of_frames_is_refused(tmp_path, places):
    write_jobs(tmp_path, [row(tmp_path, pose_frames=places)])
    with pytest.raises(DataError, match="line 1: pose_frames is no list of places in a video"):
        read_arm("ours", [tmp_path])
