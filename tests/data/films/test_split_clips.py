"""Films to clips: the right frames, the right box, joints and heads with them, and nothing silently."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tracemalloc
import weakref
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_films import FILM_HW, add_aist_keypoints, add_film, add_keypoints, draw_film, frame_numbers
from frame_motion import pairing_correlation
from killed_workers import kill_at_work
from launching import start
from warm_process import WarmProcess

from faceid.claims import CLAIMS_NAME, Claims
from faceid.data.body.keypoints import Keypoints, read_keypoints
from faceid.data.body.sidecars import write_joints
from faceid.data.clips.pairs import find_pairs
from faceid.data.films import render_poses as render_poses_module
from faceid.data.films import split_clips
from faceid.data.films.render_poses import PoseSource, render_poses
from faceid.data.films.split_clips import split_films
from faceid.data.films.split_settings import SplitSettings
from faceid.errors import ConfigError, DataError
from faceid.media.video import read_video, video_writer, write_video

AIST, SEQUENCE = "gHO_sBM_c01_d19_mHO0_ch01", "gHO_sBM_cAll_d19_mHO0_ch01"
SMALL = {"num_frames": 17, "height": 48, "width": 32}
REPOSITORY = Path(__file__).resolve().parents[3]


def content(folder: Path) -> dict[str, bytes]:
    """Every file that counts; provenance has times in it."""
    files = [
        f
        for f in folder.rglob("*")
        if f.is_file() and not {".claims", ".faceid"} & {*f.parts} and f.name != "provenance.json"
    ]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def skipped(folder: Path) -> list[dict[str, str]]:
    with (folder / "skipped.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_frame_k_is_the_film_frame_nearest_to_start_plus_k_times_60_over_16(tmp_path):
    add_film(tmp_path / "films", "film", num_frames=320)
    settings = SplitSettings(num_frames=17, fps=16, stride_s=1.1, crop="none", height=FILM_HW[0], width=FILM_HW[1])
    split_films(tmp_path / "films", tmp_path / "clips", settings)
    for number in range(4):
        video = read_video(tmp_path / f"clips/film_clip_{number:03d}.mp4")
        assert video.fps == 16
        assert frame_numbers(video.frames) == [66 * number + int(3.75 * k + 0.5) for k in range(17)]
    # 66 * 4 + 60 frames would be needed for a fifth: 324 of 320.
    assert not (tmp_path / "clips/film_clip_004.mp4").exists()


@pytest.fixture(scope="module")
def aist(tmp_path_factory):
    """A film with AIST++ keypoints, split, and its poses drawn."""
    root = tmp_path_factory.mktemp("aist")
    joints = add_film(root / "films", AIST)
    add_aist_keypoints(root / "keypoints", SEQUENCE, joints)
    settings = SplitSettings(**SMALL)
    split_films(root / "films", root / "clips", settings, root / "keypoints")
    render_poses(PoseSource(root / "clips", None, 60, "c01"), root / "poses")
    return root, joints


def test_clips_and_poses_are_pairs_of_one_dancer_ready_for_shards(aist):
    root, _ = aist
    found = find_pairs(root / "clips", root / "poses")
    assert [pair.video.stem for pair in found.pairs] == [f"{AIST}_clip_{n:03d}" for n in range(3)]
    assert {(pair.dancer, pair.genre, pair.camera) for pair in found.pairs} == {("d19", "gHO", "c01")}
    correlations = []
    for pair in found.pairs:
        clip, pose = read_video(pair.video), read_video(pair.pose)
        assert clip.frames.shape == pose.frames.shape == (17, 48, 32, 3) and clip.fps == pose.fps == 16
        correlations.append(pairing_correlation(clip.frames, pose.frames))
    # On the mean: the last of these short clips moves evenly, and has little to compare.
    assert np.mean(correlations) > 0.5 and min(correlations) > 0


def test_joints_and_heads_are_carried_into_the_crop(aist):
    root, joints = aist
    record = json.loads((root / f"clips/films/{AIST}.json").read_text())
    for number, clip in enumerate(record["clips"]):
        left, top, width, height = clip["box"]
        assert width / height == pytest.approx(32 / 48, rel=0.05)
        carried = read_keypoints(root / f"clips/{clip['name']}.joints.json")
        of_film = joints[[150 * number + int(3.75 * k + 0.5) for k in range(17)]]
        expected = (of_film - (left, top)) * (32 / width, 48 / height)
        known = np.isfinite(carried.body)
        np.testing.assert_allclose(carried.body[known], expected[known], atol=0.02)
        # All of the dancer is in the box.
        assert known.all()
        heads = json.loads((root / f"clips/{clip['name']}.heads.json").read_text())
        assert heads["size_hw"] == [48, 32]
        for box, body in zip(heads["boxes"], carried.body, strict=True):
            assert box[0] <= body[:5, 0].min() and body[:5, 0].max() <= box[2]
            assert box[1] <= body[:5, 1].min() and body[:5, 1].max() <= box[3]


@pytest.mark.slow
def test_the_box_is_one_for_the_whole_clip_and_an_upper_body_is_larger_in_it(tmp_path):
    joints = add_film(tmp_path / "films", "film")
    add_keypoints(tmp_path / "keypoints", "film", joints)
    heads = {}
    for crop in ("landscape", "portrait", "upper_body"):
        settings = SplitSettings(**{**SMALL, "crop": crop, "height": 32, "width": 32})
        split_films(tmp_path / "films", tmp_path / crop, settings, tmp_path / "keypoints")
        boxes = json.loads((tmp_path / crop / "film_clip_000.heads.json").read_text())["boxes"]
        heads[crop] = np.mean([box[3] - box[1] for box in boxes])
    # The toy's head is a third of its height: not as much as with a real one.
    assert heads["upper_body"] > 1.15 * heads["portrait"]


@pytest.mark.slow
def test_pixels_are_not_enlarged_where_the_film_has_room(tmp_path):
    joints = add_film(tmp_path / "films", "film")
    small = (joints - joints.mean((0, 1))) * 0.2 + joints.mean((0, 1))
    add_keypoints(tmp_path / "keypoints", "film", small)
    split_films(tmp_path / "films", tmp_path / "clips", SplitSettings(**SMALL), tmp_path / "keypoints")
    record = json.loads((tmp_path / "clips/films/film.json").read_text())
    assert all(clip["box"][2:] == [32, 48] for clip in record["clips"])


@pytest.mark.starts_process
@pytest.mark.slow
def test_bad_stretches_are_left_out_with_their_reasons(tmp_path):
    films, keypoints = tmp_path / "films", tmp_path / "keypoints"
    for number, name in enumerate(("nobody", "unknown", "fine")):
        joints = add_film(films, name, seed=number)
        if name == "nobody":
            joints[100:130] = np.nan
        if name == "unknown":
            joints[150:, 5:11] = np.nan
        add_keypoints(keypoints, name, joints)
    cut = np.concatenate([draw_film(seed, 200)[0] for seed in (5, 9)])
    write_video(films / "cut.mp4", cut, 60)
    add_keypoints(keypoints, "cut", np.concatenate([draw_film(seed, 200)[1] for seed in (5, 9)]))
    add_film(films, "short", num_frames=50)
    add_keypoints(keypoints, "short", draw_film(1, 50)[1])
    (films / "broken.mp4").write_bytes(b"not a film")
    add_keypoints(keypoints, "broken", draw_film(1, 50)[1])
    add_film(films, "lonely", num_frames=70)
    (films / "gHO_sGR_c01_d19_d20_mHO0_ch01.mp4").write_bytes(b"")
    summary = split_films(films, tmp_path / "clips", SplitSettings(**SMALL, stride_s=1.0), keypoints)
    by_film = {}
    for row in skipped(tmp_path / "clips"):
        by_film.setdefault(row["film"], []).append((row["start_s"], row["reason"]))
    # Frames 100 to 129 of the film: film frames 101, 105, ... 120, and 120, 124, 128.
    assert by_film["nobody.mp4"] == [("1.0", "no person in 6 of 17 frames"), ("2.0", "no person in 3 of 17 frames")]
    # The stride is a second; the clip spans a second too.
    assert [start for start, _ in by_film["unknown.mp4"]] == ["2.0", "3.0", "4.0", "5.0"]
    assert all("joints are not known" in reason for _, reason in by_film["unknown.mp4"])
    assert by_film["cut.mp4"] == [("3.0", "a cut at film frame 200")]
    assert "fine.mp4" not in by_film
    assert by_film["short.mp4"] == [("0.0", "50 frames at 60 fps; a clip needs 61")]
    assert "not a readable video" in by_film["broken.mp4"][0][1]
    assert by_film["lonely.mp4"] == [("", "no keypoints in keypoints")]
    assert "several people" in by_film["gHO_sGR_c01_d19_d20_mHO0_ch01.mp4"][0][1]
    assert summary["left_out"] == {"with several people": 1, "without keypoints": 1}
    assert summary["skipped"]["stretches with a cut"] == 1 and summary["skipped"]["films that cannot be read"] == 1


@pytest.mark.slow
def test_other_people_in_the_picture_leave_a_stretch_out(tmp_path):
    joints = add_film(tmp_path / "films", "film")
    (tmp_path / "keypoints").mkdir()
    rows = []
    for frame, body in enumerate(joints):
        people = [body] if frame < 200 else [body, body * 0.5]
        rows += [
            {"image_id": frame, "keypoints": np.concatenate([p, np.ones((17, 1))], 1).ravel().tolist()} for p in people
        ]
    (tmp_path / "keypoints/film.json").write_text(json.dumps(rows))
    split_films(tmp_path / "films", tmp_path / "clips", SplitSettings(**SMALL), tmp_path / "keypoints")
    assert [(row["start_s"], row["reason"]) for row in skipped(tmp_path / "clips")] == [
        ("2.5", "several people in 3 of 17 frames"),
        ("5.0", "several people in 17 of 17 frames"),
    ]


@pytest.mark.slow
def test_clips_of_one_film_without_an_aist_name_are_one_dancer(tmp_path):
    for name in ("ann", "bob"):
        add_film(tmp_path / "films", name, num_frames=300)
    (tmp_path / "films/dancers.csv").write_text("clip,dancer\nbob,robert\n")
    split_films(tmp_path / "films", tmp_path / "clips", SplitSettings(**{**SMALL, "crop": "none"}, stride_s=1.0))
    dancers = (tmp_path / "clips/dancers.csv").read_text().splitlines()
    assert dancers[:2] == ["clip,dancer", "ann_clip_000,ann"] and "bob_clip_002,robert" in dancers


@pytest.mark.slow
def test_a_second_run_keeps_what_fits_and_other_settings_leave_no_old_clips(tmp_path):
    for name in ("a", "b"):
        add_film(tmp_path / "films", name, num_frames=300)
    clips = tmp_path / "clips"
    first = SplitSettings(**{**SMALL, "crop": "none"}, stride_s=1.0)
    split_films(tmp_path / "films", clips, first)
    times = {f.name: f.stat().st_mtime_ns for f in clips.glob("*.mp4")}
    split_films(tmp_path / "films", clips, first)
    assert {f.name: f.stat().st_mtime_ns for f in clips.glob("*.mp4")} == times and len(times) == 8
    (clips / "a_clip_001.mp4").unlink()
    split_films(tmp_path / "films", clips, first)
    assert (clips / "a_clip_001.mp4").exists()
    other = SplitSettings(**{**SMALL, "crop": "none"}, stride_s=4.0)
    with pytest.raises(
        DataError, match=r"^stride_s=4\.0: output_dir=.* holds clips made with stride_s=1\.0, and would"
    ):
        split_films(tmp_path / "films", clips, other)
    assert {f.name: f.stat().st_mtime_ns for f in clips.glob("*.mp4")}.keys() == times.keys()
    split_films(tmp_path / "films", clips, other, replace=True)
    assert sorted(f.name for f in clips.glob("*.mp4")) == ["a_clip_000.mp4", "b_clip_000.mp4"]


@pytest.mark.fault("L2")
@pytest.mark.fault("L3")
@pytest.mark.slow
def test_clips_of_other_films_go_only_when_it_is_asked_for_and_the_users_own_never(tmp_path):
    for name in ("a", "b"):
        add_film(tmp_path / "films", name, num_frames=70)
    clips, films = tmp_path / "clips", tmp_path / "films"
    settings = SplitSettings(**{**SMALL, "crop": "none"})
    split_films(films, clips, settings)
    (clips / "holiday_clip_001.mp4").write_text("the user's own")
    (films / "b.mp4").unlink()
    before = {file: file.read_bytes() for file in clips.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="holds clips of 1 films that do not take part in this run, such as b"):
        split_films(films, clips, settings)
    assert {file: file.read_bytes() for file in clips.rglob("*") if file.is_file()} == before
    split_films(films, clips, settings, replace=True)
    assert {f.name for f in clips.glob("*.mp4")} == {"a_clip_000.mp4", "holiday_clip_001.mp4"}
    assert not (clips / "films/b.json").exists()
    with pytest.raises(DataError, match="is read from by the same command"):
        split_films(films, films, settings)


def test_crops_need_keypoints(tmp_path):
    add_film(tmp_path / "films", "film", num_frames=70)
    with pytest.raises(ConfigError, match="crop=portrait: needs --keypoints_dir"):
        split_films(tmp_path / "films", tmp_path / "clips", SplitSettings())


@pytest.mark.slow
def test_keypoints_of_another_film_are_refused(tmp_path):
    add_film(tmp_path / "films", "film", num_frames=200)
    add_keypoints(tmp_path / "keypoints", "film", draw_film(1, 100)[1])
    with pytest.raises(DataError, match="100 frames, the film has 200"):
        split_films(tmp_path / "films", tmp_path / "clips", SplitSettings(**SMALL), tmp_path / "keypoints")


@pytest.mark.starts_process
@pytest.mark.slow
def test_four_processes_killed_at_random_leave_the_bytes_of_a_single_run(tmp_path):
    for number in range(6):
        joints = add_film(tmp_path / "films", f"film_{number}", seed=number, num_frames=200)
        add_keypoints(tmp_path / "keypoints", f"film_{number}", joints)
    split_films(tmp_path / "films", tmp_path / "alone", SplitSettings(**SMALL, stride_s=0.7), tmp_path / "keypoints")

    def begin() -> WarmProcess | subprocess.Popen:
        words = f"tools/split_clips.py --videos_dir {tmp_path}/films --keypoints_dir {tmp_path}/keypoints "
        words += f"--output_dir {tmp_path}/shared --num_frames 17 --height 48 --width 32 --stride_s 0.7"
        return start([sys.executable, *words.split()], stderr=subprocess.DEVNULL)

    kill_at_work(begin, tmp_path / "shared" / CLAIMS_NAME, num_workers=3, num_kills=4, within_s=0.3)
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


def test_poses_may_be_estimated_from_the_pictures(aist, tmp_path):
    root, _ = aist
    clips = tmp_path / "clips"
    clips.mkdir()
    name = f"{AIST}_clip_000"
    (clips / f"{name}.mp4").write_bytes((root / f"clips/{name}.mp4").read_bytes())
    carried = read_keypoints(root / f"clips/{name}.joints.json").body

    def model(frames: np.ndarray) -> np.ndarray:
        assert frames.shape == (17, 48, 32, 3)
        return np.concatenate([carried, np.ones((17, 17, 1))], -1)

    render_poses(PoseSource(clips, None, 60, "c01", model, "model.onnx"), tmp_path / "poses")
    ours, theirs = (read_video(folder / f"{name}_pose.mp4").frames for folder in (tmp_path / "poses", root / "poses"))
    assert np.array_equal(ours, theirs)
    np.testing.assert_allclose(read_keypoints(clips / f"{name}.joints.json").body, carried, atol=0.006)


def test_keypoints_are_drawn_as_they_are_without_clips(tmp_path):
    joints = draw_film(1, 20)[1]
    add_keypoints(tmp_path / "keypoints", "dance", joints)
    render_poses(PoseSource(None, tmp_path / "keypoints", 30, "c01"), tmp_path / "poses")
    pose = read_video(tmp_path / "poses/dance_pose.mp4")
    assert pose.frames.shape == (20, *FILM_HW, 3) and pose.fps == 30 and pose.frames.max() > 100


def test_a_clip_without_joints_has_no_pose_and_a_reason(aist, tmp_path, caplog):
    root, _ = aist
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in (f"{AIST}_clip_000", f"{AIST}_clip_001"):
        (clips / f"{name}.mp4").write_bytes((root / f"clips/{name}.mp4").read_bytes())
    joints = root / f"clips/{AIST}_clip_000.joints.json"
    (clips / joints.name).write_bytes(joints.read_bytes())
    claims = Claims(tmp_path / "poses/.claims")
    summary = render_poses(PoseSource(clips, None, 60, "c01"), tmp_path / "poses", claims)
    assert summary["made"] == 1 and "no keypoints in" in summary["failed"][f"{AIST}_clip_001"]


LARGE = (160, 288)


@pytest.fixture(scope="module")
def large_film(tmp_path_factory):
    """60 frames of 0.14 MB, of which no run may hold more than a few, with joints beside them."""
    folder = tmp_path_factory.mktemp("large")
    picture = np.zeros((*LARGE, 3), np.uint8)
    write_video(folder / "film.mp4", (np.roll(picture + 40, k, 1) + np.uint8(k) for k in range(60)), 30, crf=40)
    joints = np.random.default_rng(0).uniform(20, 140, (60, 17, 2)).astype(np.float32)
    write_joints(folder / "film.mp4", Keypoints(joints, None, np.ones(60, int), None, LARGE))
    return folder


def peak_bytes(work) -> int:
    """The most that Python and numpy held at once while working."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def pictures_alive(module):
    """Of the pictures that a module reads, how many were alive together: a list of one number, the most so far.

    A decoder hands out memory of its own, which tracemalloc does not see.
    """
    read, alive, most = module.stream_frames, set(), [0]

    def watched(*given, **more):
        for number, picture in enumerate(read(*given, **more)):
            alive.add(number)
            weakref.finalize(picture, alive.discard, number)
            most[0] = max(most[0], len(alive))
            yield picture
            del picture

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stream_frames", watched)
        yield most


@pytest.mark.fault("M13")
@pytest.mark.slow
def test_no_film_is_held_whole_while_its_poses_are_drawn(large_film, tmp_path):
    def model(frames: np.ndarray) -> np.ndarray:
        return np.full((len(frames), 17, 3), 50.0)

    whole = 60 * LARGE[0] * LARGE[1] * 3
    source = PoseSource(large_film, None, 60, "c01")
    assert peak_bytes(lambda: render_poses(source, tmp_path / "poses")) < whole / 3  # a canvas is 16 frames large
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/film.mp4").write_bytes((large_film / "film.mp4").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_poses_module, "MOST_FRAMES", 4)
        estimated = PoseSource(tmp_path / "clips", None, 60, "c01", model, "model.onnx")
        with pictures_alive(render_poses_module) as most:
            assert peak_bytes(lambda: render_poses(estimated, tmp_path / "estimated")) < whole / 3
    assert 0 < most[0] <= 2 * 4
    assert len(read_keypoints(tmp_path / "clips/film.joints.json")) == 60


@pytest.mark.fault("M13")
def test_no_clip_is_held_whole_while_a_film_is_split_and_few_are_open_at_once(large_film, tmp_path, monkeypatch):
    settings = SplitSettings(num_frames=17, crop="none", height=LARGE[0], width=LARGE[1], stride_s=0.3)
    whole_clip = 17 * LARGE[0] * LARGE[1] * 3
    with pictures_alive(split_clips) as most_read:
        assert peak_bytes(lambda: split_films(large_film, tmp_path / "a", settings)) < whole_clip / 3
    assert 0 < most_read[0] <= 4
    opened, most = [], []

    @contextmanager
    def counted(path, fps):
        with video_writer(path, fps) as add:
            opened.append(path)
            most.append(len(opened))
            yield add
            opened.remove(path)

    monkeypatch.setattr(split_clips, "video_writer", counted)
    monkeypatch.setattr(split_clips, "OPEN_CLIPS_BYTES", 2 * split_clips.FRAMES_HELD * LARGE[0] * LARGE[1] * 3 // 2)
    split_films(large_film, tmp_path / "b", settings)
    assert max(most) == 2 and len(most) == 4
    clips = sorted(file.name for file in (tmp_path / "a").glob("*.mp4"))
    assert len(clips) == 4
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in clips)


@pytest.mark.slow
def test_a_film_of_varying_rate_is_cut_by_its_time_stamps(tmp_path, caplog):
    (tmp_path / "films").mkdir()
    frames, _ = draw_film(1, 200)
    # 60 frames a second, and from frame 100 on 20.
    stamps = [1500 * k if k < 100 else 1500 * 100 + 4500 * (k - 100) for k in range(200)]
    write_at(tmp_path / "films/film.mkv", frames, stamps)
    height, width = FILM_HW
    settings = SplitSettings(num_frames=17, stride_s=2.0, crop="none", height=height, width=width)
    split_films(tmp_path / "films", tmp_path / "clips", settings)
    assert "film.mkv: its time stamps leave a constant rate" in caplog.text
    for number in range(3):
        clip = frame_numbers(read_video(tmp_path / f"clips/film_clip_{number:03d}.mp4").frames)
        times = [stamps[n] / 90_000 for n in clip]
        assert abs(times[0] - 2.0 * number) <= 0.05
        # The frame that is on the screen: begun, but for half a frame, and not over.
        assert all(-0.051 < t - (times[0] + k / 16) < 0.026 for k, t in enumerate(times)), times


def write_at(path, frames, stamps):
    """Frames with time stamps of their own, in ticks of 1/90000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for frame, stamp in zip(frames, stamps, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = stamp, Fraction(1, 90_000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def test_what_has_a_films_name_and_is_no_file_is_named_and_in_the_table(tmp_path, caplog):
    films = tmp_path / "films"
    add_film(films, "a", num_frames=100)
    (films / "dangling.mp4").symlink_to(films / "gone.mp4")
    (films / "folder.mp4").mkdir()
    os.mkfifo(films / "pipe.mp4")
    (films / "loop.mp4").symlink_to(films / "loop.mp4")
    (films / "zero.mp4").symlink_to("/dev/zero")
    split_films(films, tmp_path / "clips", SplitSettings(num_frames=5, height=48, width=64, crop="none"))
    said = "5 left out that are no files: dangling.mp4 (a link to nothing), folder.mp4 (a folder), loop.mp4 (a link to"
    assert said in caplog.text and "and 2 more" in caplog.text
    rows = (tmp_path / "clips" / "skipped.csv").read_text().splitlines()
    what = {row.split(",")[0]: row.split(": ")[-1] for row in rows if "is no file" in row}
    assert what == {
        "dangling.mp4": "a link to nothing",
        "folder.mp4": "a folder",
        "loop.mp4": "a link to nothing",
        "pipe.mp4": "a pipe",
        "zero.mp4": "a device or a socket",
    }
