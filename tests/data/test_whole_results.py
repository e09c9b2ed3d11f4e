"""A folder that is whole stays whole: nothing is removed for what is not known to be good, or by another recipe."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_clips import SETTINGS, add_clips, draw_pair
from drawn_films import add_film, add_keypoints

from faceid.claims import CLAIMS_NAME, PLAN_NAME, Claims, hold_plan
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.clips.pairs import find_pairs
from faceid.data.films import split_clips
from faceid.data.films.render_poses import PoseSource, render_poses
from faceid.data.films.split_clips import split_films
from faceid.data.films.split_settings import SplitSettings
from faceid.data.shards.index import ShardIndex
from faceid.data.shards.shard_writer import read_record
from faceid.data.waiting import discard_waiting, put_in_place, waiting_place
from faceid.errors import DataError, OutputError
from faceid.files.outputs import is_ours, write_output
from faceid.media.video import measure_video, write_video

PLAIN = SplitSettings(num_frames=17, height=48, width=64, crop="none", stride_s=1.0)


def content(folder: Path) -> dict[str, bytes]:
    """What a user sees."""
    found = {f.relative_to(folder): f for f in folder.rglob("*") if f.is_file()}
    return {str(name): f.read_bytes() for name, f in found.items() if not any(p.startswith(".") for p in name.parts)}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate("ab"):
        add_film(folder, name, seed=number, num_frames=200)
    return folder


@pytest.fixture
def clips(films, tmp_path):
    """Of two films, as the first run leaves them."""
    split_films(films, tmp_path / "clips", PLAIN)
    return tmp_path / "clips"


def refused_and_unchanged(kind, match, folder, work):
    before = content(folder)
    with pytest.raises(kind, match=match):
        work()
    assert content(folder) == before


@pytest.mark.slow
def test_clips_of_other_settings_are_refused_before_the_work_and_replaced_when_it_is_said(films, clips):
    refused_and_unchanged(
        DataError,
        r"^num_frames=21: output_dir=.* holds clips made with num_frames=17, and would lose them; name a new folder, "
        r"or give --replace",
        clips,
        lambda: split_films(films, clips, replace(PLAIN, num_frames=21)),
    )
    # Though the user said that they may go, none does before there are others.
    too_long = replace(PLAIN, num_frames=401)
    refused_and_unchanged(
        DataError, "no clip came of 2 films", clips, lambda: split_films(films, clips, too_long, replace=True)
    )
    assert not (clips / ".waiting").exists()
    split_films(films, clips, replace(PLAIN, num_frames=21), replace=True)
    assert {measure_video(clip).frames for clip in clips.glob("*.mp4")} == {21}
    assert not (clips / ".waiting").exists()


@pytest.mark.slow
def test_a_split_that_is_ended_half_way_leaves_the_clips_before_it_and_goes_on(films, clips, monkeypatch):
    before = content(clips)
    real = split_clips.finish_split

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(split_clips, "finish_split", killed)
    with pytest.raises(KeyboardInterrupt):
        split_films(films, clips, replace(PLAIN, num_frames=21), replace=True)
    assert content(clips) == before
    # The earlier run loses nothing to it, and what waits for the other is removed.
    monkeypatch.setattr(split_clips, "finish_split", real)
    split_films(films, clips, PLAIN)
    assert content(clips).keys() == before.keys() and not (clips / ".waiting").exists()


def test_a_file_that_somebody_changed_is_asked_before_the_first_clip_is_replaced(films, clips):
    (clips / "b_clip_001.mp4").write_bytes((clips / "a_clip_000.mp4").read_bytes())
    refused_and_unchanged(
        OutputError,
        r"b_clip_001\.mp4: not as this command wrote it, and its film is cut anew",
        clips,
        lambda: split_films(films, clips, replace(PLAIN, num_frames=21), replace=True),
    )


def run_again_over_replaced(work, file: Path, other: Path, caplog) -> dict:
    """Another film comes to have a file's name, by hand, and the command is run once more."""
    shutil.copyfile(other, file)
    caplog.clear()
    summary = work()
    assert f"1 {'clips' if 'clip' in file.stem and 'pose' not in file.stem else 'pose videos'} not as " in caplog.text
    assert file.name in caplog.text and "give your own files names of their own" in caplog.text
    assert file.read_bytes() == other.read_bytes()
    return summary


@pytest.mark.slow
def test_a_clip_that_was_replaced_by_hand_is_named_and_not_counted(films, clips, caplog):
    count = len(list(clips.glob("*.mp4")))
    summary = run_again_over_replaced(
        lambda: split_films(films, clips, PLAIN), clips / "a_clip_001.mp4", films / "b.mp4", caplog
    )
    assert (summary["clips"], summary["replaced"]) == (count - 1, ["a_clip_001"])
    assert "a_clip_001.mp4,," in (clips / "skipped.csv").read_text()
    # As it says: moved away, the clip is made again.
    (clips / "a_clip_001.mp4").unlink()
    assert split_films(films, clips, PLAIN)["clips"] == count


@pytest.mark.slow
def test_a_pose_video_that_was_replaced_by_hand_is_named_and_not_counted(tmp_path, caplog):
    source, _, poses = clips_with_poses(tmp_path)
    count = len(list(poses.glob("*.mp4")))
    file, other = poses / "a_clip_000_pose.mp4", tmp_path / "one" / "a.mp4"
    summary = run_again_over_replaced(lambda: render_poses(source, poses), file, other, caplog)
    assert (summary["made"], summary["replaced"]) == (count - 1, ["a_clip_000"])


def test_a_pose_that_was_drawn_from_another_clip_of_the_name_is_left_out_with_the_reason(tmp_path):
    """Also when both have as many frames, and nothing else tells it."""
    clips, poses = tmp_path / "clips", tmp_path / "poses"
    clips.mkdir()
    for seed, name in enumerate(("one", "two")):
        write_video(clips / f"{name}.mp4", draw_pair(seed)[0], 8)
    render_poses(estimated(clips), poses)
    for sidecar in clips.glob("*.json"):
        sidecar.unlink()
    shutil.copyfile(clips / "one.mp4", clips / "two.mp4")
    settings = replace(SETTINGS, num_frames=17, fps=8)
    (dropped,) = write_clip_shards(clips, poses, tmp_path / "shards", settings)["dropped"]
    assert dropped["video"] == "two.mp4"
    assert "two_pose.mp4: was drawn from another clip of the name two.mp4" in dropped["reason"]
    assert str(tmp_path) not in dropped["reason"]
    # As it says.
    render_poses(estimated(clips), poses)
    assert not write_clip_shards(clips, poses, tmp_path / "again", settings)["dropped"]


@pytest.mark.slow
def test_a_clip_of_other_length_than_its_pose_is_left_out_and_one_of_the_same_is_named(films, tmp_path, caplog):
    clips, poses = tmp_path / "clips", tmp_path / "poses"
    split_films(films, clips, PLAIN)
    poses.mkdir()
    for clip in clips.glob("*.mp4"):
        shutil.copyfile(clip, poses / f"{clip.stem}_pose.mp4")
    shutil.copyfile(films / "a.mp4", clips / "a_clip_000.mp4")
    shutil.copyfile(clips / "b_clip_000.mp4", clips / "a_clip_001.mp4")
    settings = replace(SETTINGS, num_frames=17, fps=16)
    (dropped,) = write_clip_shards(clips, poses, tmp_path / "shards", settings)["dropped"]
    assert dropped["video"] == "a_clip_000.mp4" and "200 frames, its pose" in dropped["reason"]
    assert "a_clip_001.mp4: not the video that was made here under this name" in caplog.text


def test_a_copy_of_a_folder_of_clips_is_as_it_was_made_and_what_is_not_touched_is_not_read(
    films, clips, tmp_path, caplog, monkeypatch
):
    copy = tmp_path / "copy"
    shutil.copytree(clips, copy, copy_function=shutil.copyfile)
    # Of the same size, and of now: only the sum tells it.
    turned = bytearray((copy / "b_clip_000.mp4").read_bytes())
    turned[len(turned) // 2] ^= 1
    (copy / "b_clip_000.mp4").write_bytes(turned)
    assert split_films(films, copy, PLAIN)["replaced"] == ["b_clip_000"]

    def read(path):
        raise AssertionError(f"{path}: read, though nothing was changed")

    monkeypatch.setattr("faceid.data.made_files.sha256_file", read)
    assert split_films(films, clips, PLAIN)["replaced"] == []


def test_clips_of_before_their_records_said_their_sums_are_known_by_the_folder(films, clips):
    path = clips / "films" / "a.json"
    said = json.loads(path.read_text())
    for clip in said["clips"]:
        del clip["made"]
    path.write_text(json.dumps(said))
    assert split_films(films, clips, PLAIN)["replaced"] == []
    shutil.copyfile(films / "b.mp4", clips / "a_clip_000.mp4")
    assert split_films(films, clips, PLAIN)["replaced"] == ["a_clip_000"]


def test_nothing_is_put_in_place_while_one_file_is_somebodys(tmp_path):
    for name in "ab":
        write_output(tmp_path / name, f"the first {name}")
        write_output(waiting_place(tmp_path) / name, f"the second {name}")
    (tmp_path / "b").write_text("somebody's")
    with pytest.raises(OutputError, match="/b: not as this command wrote it"):
        put_in_place(tmp_path, {"a": None, "b": None})
    assert (tmp_path / "a").read_text() == "the first a"
    (tmp_path / "b").unlink()
    put_in_place(tmp_path, {"a": None, "b": None})
    discard_waiting(tmp_path)
    assert (tmp_path / "b").read_text() == "the second b" and is_ours(tmp_path / "a")
    assert not (tmp_path / ".waiting").exists()


def test_a_users_table_of_dancers_and_an_edited_list_do_not_stop_the_next_run(films, tmp_path, caplog):
    own = tmp_path / "films"
    own.mkdir()
    (own / "a.mp4").write_bytes((films / "a.mp4").read_bytes())
    split_films(own, tmp_path / "clips", PLAIN)
    table = "clip,dancer\na_clip_000,anna\n"
    (tmp_path / "clips/dancers.csv").write_text(table)
    excel = (tmp_path / "clips/skipped.csv").read_text().replace("\n", "\r\n")
    (tmp_path / "clips/skipped.csv").write_text(excel + "mine\r\n")
    (own / "b.mp4").write_bytes((films / "b.mp4").read_bytes())
    for _ in range(2):
        caplog.clear()
        split_films(own, tmp_path / "clips", PLAIN)
        assert (tmp_path / "clips/dancers.csv").read_text() == table
        assert "dancers.csv: not as it was written here, and left as it is; it lacks" in caplog.text
    assert "b_clip_000 (dancer b)" in caplog.text or "a_clip_001 (dancer a)" in caplog.text
    assert "mine" in (tmp_path / "clips/skipped.edited.csv").read_text()


@pytest.mark.slow
def test_what_lies_beside_a_clip_goes_with_it(films, tmp_path):
    joints = add_film(tmp_path / "one", "a", num_frames=200)
    add_keypoints(tmp_path / "keypoints", "a", joints)
    cropped = replace(PLAIN, crop="upper_body")
    clips = tmp_path / "clips"
    split_films(tmp_path / "one", clips, cropped, tmp_path / "keypoints")
    assert (clips / "a_clip_000.joints.json").exists()
    refused_and_unchanged(
        DataError,
        "crop=none, keypoints_dir=none: .* made with crop=upper_body, keypoints_dir=given",
        clips,
        lambda: split_films(tmp_path / "one", clips, PLAIN),
    )
    split_films(tmp_path / "one", clips, PLAIN, replace=True)
    assert not list(clips.glob("*.joints.json")) and not list(clips.glob("*.heads.json"))
    # A user's own is neither removed nor left beside another clip.
    (clips / "a_clip_000.heads.json").write_text('{"boxes": []}')
    refused_and_unchanged(
        OutputError,
        r"a_clip_000\.heads\.json: not as this command wrote it",
        clips,
        lambda: split_films(tmp_path / "one", clips, replace(PLAIN, num_frames=21), replace=True),
    )


def clips_with_poses(folder: Path) -> tuple[PoseSource, Path, Path]:
    """A film with keypoints, cut, and the poses of its clips: where they were drawn from, clips, poses."""
    joints = add_film(folder / "one", "a", num_frames=200)
    add_keypoints(folder / "keypoints", "a", joints)
    clips, poses = folder / "clips", folder / "poses"
    split_films(folder / "one", clips, PLAIN, folder / "keypoints")
    source = PoseSource(clips, None, 60, "c01")
    render_poses(source, poses)
    return source, clips, poses


@pytest.mark.slow
def test_joints_and_heads_of_another_clip_of_the_name_are_not_read(films, tmp_path):
    source, clips, poses = clips_with_poses(tmp_path)
    # Another take under the name, by the user's own hand.
    split_films(films, tmp_path / "others", PLAIN)
    (clips / "a_clip_000.mp4").write_bytes((tmp_path / "others/a_clip_000.mp4").read_bytes())
    index = write_clip_shards(clips, poses, tmp_path / "shards", replace(SETTINGS, num_frames=17, fps=16))
    assert [drop["video"] for drop in index["dropped"]] == ["a_clip_000.mp4"]
    assert "made from another clip of this name" in index["dropped"][0]["reason"]
    summary = render_poses(source, poses)
    assert "made from another clip of this name" in summary["failed"]["a_clip_000"]


def estimated(folder: Path) -> PoseSource:
    def model(frames: np.ndarray) -> np.ndarray:
        # Where the picture is bright: another take has other joints.
        x = float(frames.mean((1, 3)).sum(0).argmax())
        points = np.random.default_rng(0).uniform(8, 40, (17, 2)) + np.array([x / 8, 0])
        return np.broadcast_to(np.pad(points, ((0, 0), (0, 1)), constant_values=1), (len(frames), 17, 3))

    return PoseSource(folder, None, 60, "c01", model, "model.onnx")


def test_estimates_of_an_earlier_take_are_made_anew_and_a_users_own_stay(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, seed in (("ours", 1), ("theirs", 2)):
        write_video(clips / f"{name}.mp4", draw_pair(seed)[0], 8)
    mine = '{"boxes": [], "size_hw": [64, 96]}'
    (clips / "theirs.heads.json").write_text(mine)
    render_poses(estimated(clips), tmp_path / "poses")
    first = [(clips / f"ours.{ending}.json").read_bytes() for ending in ("heads", "joints")]
    write_video(tmp_path / "take.mp4", draw_pair(7)[0][::-1], 8)
    (clips / "ours.mp4").write_bytes((tmp_path / "take.mp4").read_bytes())
    render_poses(estimated(clips), tmp_path / "poses")
    assert not set(first) & {(clips / f"ours.{ending}.json").read_bytes() for ending in ("heads", "joints")}
    assert (clips / "theirs.heads.json").read_text() == mine


@pytest.mark.slow
def test_a_pose_video_that_cannot_be_drawn_any_more_is_removed_and_a_users_stays(films, tmp_path, caplog):
    source, clips, poses = clips_with_poses(tmp_path)
    for name in ("a_clip_000", "a_clip_001"):
        (clips / f"{name}.joints.json").unlink()
    (poses / "a_clip_001_pose.mp4").write_bytes(b"the user's own")
    summary = render_poses(source, poses)
    assert set(summary["failed"]) == {"a_clip_000", "a_clip_001"}
    assert not (poses / "a_clip_000_pose.mp4").exists()
    assert (poses / "a_clip_001_pose.mp4").read_bytes() == b"the user's own"
    assert "a_clip_001_pose.mp4: left where it is" in caplog.text
    assert "a_clip_000" not in {pair.stem for pair in find_pairs(clips, poses).pairs}
    # Without one that can be drawn the run is refused, and what there is stays.
    for file in clips.glob("*.joints.json"):
        file.unlink()
    refused_and_unchanged(DataError, "no pose video could be made", poses, lambda: render_poses(source, poses))


def test_poses_drawn_from_something_else_are_refused(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "ours.mp4", draw_pair(1)[0], 8)
    poses = tmp_path / "poses"
    render_poses(estimated(clips), poses)
    drawn = PoseSource(clips, None, 60, "c01")
    refused_and_unchanged(
        DataError,
        "pose_model=none: .* holds pose videos made with pose_model=model.onnx, and would lose them",
        poses,
        lambda: render_poses(drawn, poses),
    )
    render_poses(drawn, poses, replace=True)
    (poses / "ours_pose.mp4").write_bytes(b"the user's own")
    write_video(tmp_path / "take.mp4", draw_pair(2)[0], 8)
    (clips / "ours.mp4").write_bytes((tmp_path / "take.mp4").read_bytes())
    refused_and_unchanged(
        OutputError, "not as this command wrote it", poses, lambda: render_poses(estimated(clips), poses, replace=True)
    )


def test_shards_stay_whole_until_others_are(tmp_path):
    videos, poses = add_clips(tmp_path, 3)
    output = tmp_path / "shards"
    write_clip_shards(videos, poses, output, SETTINGS)
    refused_and_unchanged(
        DataError,
        "^num_frames=9: output_dir=.* holds clips made with num_frames=5, and would lose them; name a new folder, or",
        output,
        lambda: write_clip_shards(videos, poses, output, replace(SETTINGS, num_frames=9)),
    )
    too_long = replace(SETTINGS, num_frames=81)
    refused_and_unchanged(
        DataError,
        "none of 3 clips can be used",
        output,
        lambda: write_clip_shards(videos, poses, output, too_long, replace=True),
    )
    ShardIndex.load(output).verify_all()
    write_clip_shards(videos, poses, output, replace(SETTINGS, num_frames=9), replace=True)
    index = ShardIndex.load(output)
    index.verify_all()
    assert {sample.frames for sample in index.samples} == {9} and not (output / ".waiting").exists()


def test_a_killed_replacement_of_shards_leaves_the_ones_before_it(tmp_path, monkeypatch):
    videos, poses = add_clips(tmp_path, 3)
    output = tmp_path / "shards"
    whole = write_clip_shards(videos, poses, output, SETTINGS)["sha256"]
    other = replace(SETTINGS, num_frames=9)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("faceid.data.clips.clip_shards.write_index", killed)
        with pytest.raises(KeyboardInterrupt):
            write_clip_shards(videos, poses, output, other, replace=True)
    index = ShardIndex.load(output)
    index.verify_all()
    assert index.sha256 == whole
    # What was made meanwhile is taken, not made again; killed while it is put in place, too.
    made = {file.name: file.read_bytes() for file in (output / ".waiting").glob("*.tar")}
    replaced = Path.replace

    def ends_before_the_last(path, target):
        if path.name == "clips-000001.json":
            raise KeyboardInterrupt
        return replaced(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", ends_before_the_last)
        with pytest.raises(KeyboardInterrupt):
            write_clip_shards(videos, poses, output, other)
    index = write_clip_shards(videos, poses, output, other)
    assert {file.name: file.read_bytes() for file in output.glob("*.tar")} == made
    assert index["sha256"] == write_clip_shards(videos, poses, tmp_path / "alone", other)["sha256"]


def test_records_of_before_that_do_not_say_their_settings_are_known_by_the_index(tmp_path):
    videos, poses = add_clips(tmp_path, 1)
    output = tmp_path / "shards"
    write_clip_shards(videos, poses, output, SETTINGS)
    path = output / "clips-000000.json"
    said = json.loads(path.read_text())
    del said["settings"]
    path.write_text(json.dumps(said))
    assert read_record(output / "clips-000000.tar").settings == {}
    with pytest.raises(DataError, match=r"num_frames=9: .*made with num_frames=5"):
        write_clip_shards(videos, poses, output, replace(SETTINGS, num_frames=9))


@pytest.mark.parametrize("command", ["split", "poses"])
def test_two_runs_with_other_settings_do_not_share_a_folder(command, films, tmp_path):
    """Before either has anything: the second is told, and the first is not disturbed."""
    output = tmp_path / "out"
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "ours.mp4", draw_pair(1)[0], 8)

    def run():
        if command == "split":
            split_films(films, output, PLAIN)
        else:
            render_poses(estimated(clips), output)

    first = Claims(output / CLAIMS_NAME)
    with hold_plan(first, "of the other run"), pytest.raises(DataError, match=r"in use by .* with other settings"):
        run()
    assert (output / CLAIMS_NAME / PLAN_NAME).read_text() == "of the other run"
    run()
    assert list(output.glob("*.mp4"))


def test_of_two_that_begin_at_once_with_other_plans_one_goes_on(tmp_path):
    begun, ended, told = threading.Barrier(8), [], []

    def work(plan: str) -> None:
        begun.wait()
        try:
            with hold_plan(Claims(tmp_path / CLAIMS_NAME, beat_s=0.02), plan):
                ended.append(plan)
                all_looked.wait(20)
        except DataError as error:
            told.append(str(error))
        if len(ended) + len(told) == 8:
            all_looked.set()

    all_looked = threading.Event()
    threads = [threading.Thread(target=work, args=(f"plan {number % 2}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    deadline = threading.Event()
    for _ in range(200):
        if len(ended) + len(told) == 8:
            break
        deadline.wait(0.1)
    all_looked.set()
    for thread in threads:
        thread.join()
    assert len(set(ended)) == 1 and len(ended) == 4 and len(told) == 4
    assert all("with other settings or inputs" in line for line in told)
    assert [path.name for path in (tmp_path / CLAIMS_NAME).iterdir()] == [PLAN_NAME]


@pytest.mark.starts_process
def test_what_a_killed_worker_left_among_the_claims_is_swept(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from faceid.claims import Claims, hold_plan\n"
        "claims = Claims(Path(sys.argv[1]))\n"
        "with hold_plan(claims, 'plan'):\n    claims.take('unit'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 5  # the plan, two claims and their owner's names of them
    claims = Claims(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {PLAN_NAME, "unit"}
    # The unit's is taken over as ever.
    assert claims.take("unit") is None and claims.take("unit") is not None
