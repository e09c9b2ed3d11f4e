"""A toy dataset has the product's own formats, the same bytes for the same seed, and never overwrites others' files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launching import run_command
from PIL import Image

from faceid.data.clips.pairs import find_pairs
from faceid.data.dancers import read_dancers
from faceid.errors import ConfigError, DataError
from faceid.media.video import read_video
from faceid.toy.dataset import TARGET, plan_clips, write_toy_dataset
from faceid.toy.people import draw_person
from faceid.toy.toy_settings import ToyClipSettings, ToySettings

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"num_people": 2, "photos_per_person": 4, "photo_size": 96, "bad_photos": 2}
TWO_EACH = ToyClipSettings(clips_per_person=2, height=64, width=64, framings=["whole"])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "world"
    write_toy_dataset(ToySettings(output_dir=folder, **SMALL), TWO_EACH)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_clip_has_an_aist_name_a_pose_and_head_boxes(world):
    clips = sorted((world / "videos").glob("*.mp4"))
    assert len(clips) == 4
    for clip in clips:
        assert re.fullmatch(r"g[A-Z]{2}_sBM_c01_d0[12]_m[A-Z]{2}\d_ch\d\d", clip.stem)
        video, pose = read_video(clip), read_video(world / "poses" / f"{clip.stem}_pose.mp4")
        assert video.frames.shape == pose.frames.shape == (9, 64, 64, 3)
        assert video.fps == pose.fps == 16
        heads = json.loads((world / "videos" / f"{clip.stem}.heads.json").read_text())
        assert len(heads["boxes"]) == 9 and all(len(box) == 4 for box in heads["boxes"])
        assert heads["size_hw"] == [64, 64]


def test_everyone_has_photos_and_the_target_is_in_no_clip(world):
    assert sorted(folder.name for folder in (world / "photos").iterdir()) == ["d01", "d02", TARGET]
    for folder in (world / "photos").iterdir():
        photos = sorted(folder.iterdir())
        assert [photo.name for photo in photos] == [f"photo_0{n}.jpg" for n in (1, 2, 3, 4)]
        assert {Image.open(photo).size for photo in photos} == {(96, 96)}
    truth = json.loads((world / "world.json").read_text())
    assert TARGET not in {clip["dancer"] for clip in truth["clips"]}


def test_a_pose_video_has_its_joints_beside_it(world):
    for file in sorted((world / "poses").glob("*.joints.json")):
        truth = json.loads(file.read_text())
        joints = np.array(truth["joints"])
        assert joints.shape == (9, 17, 2) and truth["size_hw"] == [64, 64]
        pose = read_video(file.with_name(file.name.replace(".joints.json", "_pose.mp4"))).frames
        for frame, places in zip(pose, joints, strict=True):
            x, y = np.round(places[9] - 0.5).astype(int)
            assert frame[y, x].max() > 60, "a wrist is drawn where the file says"
    assert len(list((world / "poses").glob("*.joints.json"))) == 4


def test_references_are_other_photos_of_the_same_people(tmp_path):
    write_toy_dataset(ToySettings(output_dir=tmp_path / "toy", **SMALL, reference_photos=2), TWO_EACH)
    folder = tmp_path / "toy"
    assert sorted(p.name for p in (folder / "references").iterdir()) == ["d01", "d02", TARGET]
    photos, references = (
        {file.read_bytes() for file in (folder / kind).rglob("*.jpg")} for kind in ("photos", "references")
    )
    assert len(references) == 6 and not photos & references


@pytest.mark.slow
def test_clips_of_the_target_are_kept_apart_and_a_csv_says_who_dances(world, tmp_path):
    with_clips = replace(TWO_EACH, target_clips=2)
    made = write_toy_dataset(ToySettings(output_dir=tmp_path / "world", **SMALL), with_clips)
    names = [clip["stem"] for clip in made["target_clips"]]
    folder = tmp_path / "world"
    assert sorted(file.name for file in (folder / "target_videos").glob("*.mp4")) == sorted(f"{n}.mp4" for n in names)
    assert read_dancers(folder / "target_videos/dancers.csv", "drivers_csv") == dict.fromkeys(names, TARGET)
    for name in names:
        assert (folder / f"target_videos/{name}.heads.json").is_file()
        assert (folder / f"target_poses/{name}_pose.mp4").is_file()
        assert (folder / f"target_poses/{name}.joints.json").is_file()
    # Nobody else's clips are touched.
    assert not {clip["stem"] for clip in made["clips"]} & set(names)
    ours, before = contents(folder), contents(world)
    shared = [name for name in before if not name.startswith((".faceid", "world.json"))]
    assert len(shared) > 20 and all(ours[name] == before[name] for name in shared)


def test_clips_of_a_target_who_is_not_drawn_are_refused(tmp_path):
    nobody = ToySettings(output_dir=tmp_path / "w", with_target=False)
    with pytest.raises(ConfigError, match=r"^target_clips=1: with_target is false; use 0$"):
        write_toy_dataset(nobody, ToyClipSettings(target_clips=1))


@pytest.mark.slow
def test_over_99_dancers_are_told_apart_by_a_csv(tmp_path):
    tiny = ToyClipSettings(clips_per_person=1, num_frames=1, height=32, width=32)
    write_toy_dataset(ToySettings(output_dir=tmp_path / "toy", num_people=101, photos_per_person=0), tiny)
    found = find_pairs(tmp_path / "toy/videos", tmp_path / "toy/poses")
    assert not found.left_out and len({pair.dancer for pair in found.pairs}) == 101
    assert {pair.dancer for pair in found.pairs} >= {"d01", "d101"}


def test_world_json_tells_who_is_who_and_which_photos_are_bad(world):
    truth = json.loads((world / "world.json").read_text())
    target = dict(truth["people"][TARGET])
    assert draw_person(target.pop("seed")).__dict__ == target
    assert truth["bad_photos"] == {
        f"{name}/photo_0{n}.jpg": kind
        for name in (TARGET, "d01", "d02")
        for n, kind in ((3, "blurred"), (4, "second_person"))
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(world, tmp_path):
    write_toy_dataset(ToySettings(output_dir=tmp_path / "again", **SMALL), TWO_EACH)
    assert contents(tmp_path / "again") == contents(world)
    write_toy_dataset(ToySettings(output_dir=tmp_path / "other", seed=1, **SMALL), TWO_EACH)
    assert contents(tmp_path / "other")["photos/d01/photo_01.jpg"] != contents(world)["photos/d01/photo_01.jpg"]


def test_a_larger_world_keeps_the_smaller_ones_people_and_clips():
    small = plan_clips(ToySettings(output_dir=Path("x"), num_people=2), ToyClipSettings())
    large = plan_clips(ToySettings(output_dir=Path("x"), num_people=20), ToyClipSettings())
    assert large[: len(small)] == small
    assert len({clip.stem for clip in large}) == len(large)


def test_a_world_can_begin_with_a_later_dancer():
    whole = plan_clips(ToySettings(output_dir=Path("x"), num_people=103), ToyClipSettings())
    later = plan_clips(ToySettings(output_dir=Path("x"), num_people=4, first_person=99), ToyClipSettings())
    assert later == [clip for clip in whole if clip.dancer in ("d99", "d100", "d101", "d102")]


def test_genres_are_mixed_unless_asked_for_one_per_dancer():
    one_dancer = ToySettings(output_dir=Path("x"), num_people=1)
    mixed, single = (
        [clip.genre for clip in plan_clips(one_dancer, ToyClipSettings(one_genre_per_dancer=one))]
        for one in (False, True)
    )
    assert len(set(mixed)) == 4 and len(set(single)) == 1


def test_an_older_toy_dataset_is_replaced_and_a_foreign_folder_is_refused(tmp_path):
    tiny, one = {"num_people": 1, "photos_per_person": 1, "photo_size": 96}, ToyClipSettings(clips_per_person=1)
    for seed in (0, 1):
        write_toy_dataset(ToySettings(output_dir=tmp_path / "toy", seed=seed, **tiny), one)
    assert json.loads((tmp_path / "toy" / "world.json").read_text())["settings"]["seed"] == 1
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"^output_dir=.*home: holds thesis\.txt, not as this command wrote it"):
        write_toy_dataset(ToySettings(output_dir=tmp_path / "home", **tiny), one)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match=r"^output_dir=.*thesis\.txt: is a file; name a folder"):
        write_toy_dataset(ToySettings(output_dir=tmp_path / "home" / "thesis.txt", **tiny), one)


def run_tool(*argv: str) -> subprocess.CompletedProcess:
    return run_command([sys.executable, "tools/make_toy_dataset.py", *argv], expect=None)


@pytest.mark.starts_process
def test_the_tool_writes_and_says_what(tmp_path):
    few = {"num_people": 1, "clips_per_person": 1, "photos_per_person": 1, "photo_size": 96, "num_frames": 5}
    done = run_tool(f"--output_dir={tmp_path / 'toy'}", *(f"--{name}={value}" for name, value in few.items()))
    assert done.returncode == 0, done.stderr
    assert "1 clips of 5 frames, 96x96" in done.stdout and "photos/target" in done.stdout
    assert (tmp_path / "toy" / "world.json").is_file()


@pytest.mark.starts_process
@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--num_peple", "3"], "error: --num_peple: unknown key; did you mean --num_people?"),
        (["--height", "65"], "error: height=65: H.264 needs an even size; use 64 or 66"),
        (["--bad_photos", "13"], "error: bad_photos=13: more than photos_per_person=12; use 12 or fewer"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(tmp_path, argv, line):
    done = run_tool("--output_dir", str(tmp_path / "toy"), *argv)
    assert (done.returncode, done.stderr.strip()) == (2, line)
    assert not (tmp_path / "toy").exists()
