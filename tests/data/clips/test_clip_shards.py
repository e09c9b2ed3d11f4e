"""Pairs to clip shards: what goes in, what is left out and why, and a second run."""

import json
import multiprocessing
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from drawn_clips import SETTINGS, add_clip, add_heads, draw_pair

from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError, DataError
from faceid.geometry import Geometry
from faceid.media.video import decode_video_bytes, encode_video_bytes, resize_frames, write_video


def snapshot(folder):
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file()}


def details(folder, key):
    return json.loads(ShardIndex.load(folder).read(key, "json"))


def test_every_clip_is_one_size_rate_and_length(clip_shards):
    index = ShardIndex.load(clip_shards, "clips")
    assert [s.key for s in index.samples] == ["dance_000", "dance_001", "dance_002"]
    assert [shard.path for shard in index.shards] == ["clips-000000.tar", "clips-000001.tar"]
    for sample in index.samples:
        for member in ("video.mp4", "pose.mp4"):
            video = decode_video_bytes(index.read(sample.key, member))
            assert video.frames.shape == (5, 32, 48, 3) and video.fps == 8


def test_webdataset_reads_the_same_bytes(clip_shards):
    index = ShardIndex.load(clip_shards)
    paths = [str(clip_shards / shard.path) for shard in index.shards]
    found = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in found] == [sample.key for sample in index.samples]
    for sample in found:
        for member in ("video.mp4", "pose.mp4", "json"):
            assert sample[member] == index.read(sample["__key__"], member)


def test_the_pose_is_taken_at_the_videos_frames_whatever_its_rate(folders):
    videos, poses, output = folders
    add_clip(videos, poses, "a", seed=1, video_fps=24, pose_fps=10)
    write_clip_shards(videos, poses, output, SETTINGS)
    pose = decode_video_bytes(ShardIndex.load(output).read("a", "pose.mp4")).frames
    # 24 fps to 8: every third frame of both.
    expected = draw_pair(1)[1][:15:3, ::2, ::2]
    assert np.abs(pose.astype(int) - expected).mean() < 8
    assert details(output, "a")["pairing_correlation"] > 0.5


def test_head_boxes_move_with_the_clip(clip_shards):
    # 64x96 to 32x48: halved; every other frame has none.
    assert details(clip_shards, "dance_000")["head_boxes"] == [[20, 8, 28, 16], None] * 2 + [[20, 8, 28, 16]]
    assert details(clip_shards, "dance_001")["head_boxes"] is None


def test_head_boxes_may_say_which_picture_they_are_in(folders, tmp_path, caplog):
    videos, poses, output = folders
    add_clip(videos, poses, "a", seed=1)
    add_clip(videos, poses, "b", seed=2)
    boxes = [[40, 16, 56, 32]] * 24
    add_heads(videos, "a", boxes)
    without = write_clip_shards(videos, poses, tmp_path / "without", SETTINGS)
    sidecar = videos / "a.heads.json"
    sidecar.write_text(json.dumps({"boxes": boxes, "size_hw": [64, 96]}))
    # What is stored does not depend on whether the file says it.
    assert write_clip_shards(videos, poses, output, SETTINGS)["sha256"] == without["sha256"]
    for size_hw in ([480, 832], [96, 64], 7):
        sidecar.write_text(json.dumps({"boxes": boxes, "size_hw": size_hw}))
        dropped = write_clip_shards(videos, poses, output, SETTINGS)["dropped"]
        assert [drop["video"] for drop in dropped] == ["a.mp4"]
        assert f"a.heads.json: size_hw {size_hw}, its clip is [64, 96]" in dropped[0]["reason"]


def test_a_second_run_changes_nothing(source_clips, tmp_path):
    write_clip_shards(*source_clips, tmp_path / "s", SETTINGS)
    before = snapshot(tmp_path / "s")
    write_clip_shards(*source_clips, tmp_path / "s", SETTINGS)
    assert snapshot(tmp_path / "s") == before


def test_the_same_clips_elsewhere_give_the_same_bytes(source_clips, clip_shards, tmp_path):
    again = write_clip_shards(*source_clips, tmp_path / "again", SETTINGS)
    assert again["sha256"] == ShardIndex.load(clip_shards).sha256
    for name in ("clips-000000.tar", "clips-000001.tar"):
        assert (tmp_path / "again" / name).read_bytes() == (clip_shards / name).read_bytes()


def test_small_clips_encode_to_the_same_bytes_from_many_threads():
    # Without x264's cpu-independent, about 1 in 10 of these differed.
    frames = resize_frames(draw_pair(1)[0][:5], 32, 48)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: encode_video_bytes(frames, 8), range(200)))) == 1


def test_a_run_killed_between_shards_continues(source_clips, clip_shards, tmp_path):
    output = tmp_path / "s"
    output.mkdir()
    # What a kill leaves: the first shard with its record, a torn temporary file, and no index.
    for name in ("clips-000000.tar", "clips-000000.json"):
        (output / name).write_bytes((clip_shards / name).read_bytes())
    (output / ".1234.tmp.tar").write_bytes(b"torn")
    with pytest.raises(DataError, match="not finished"):
        ShardIndex.load(output)
    kept = (output / "clips-000000.tar").stat().st_mtime_ns
    index = write_clip_shards(*source_clips, output, SETTINGS)
    assert (output / "clips-000000.tar").stat().st_mtime_ns == kept
    assert index["sha256"] == ShardIndex.load(clip_shards).sha256


@pytest.mark.starts_process
def test_a_killed_process_costs_one_shard_at_most(folders, tmp_path):
    videos, poses, output = folders
    for number in range(5):
        add_clip(videos, poses, f"c{number}", seed=number)
    settings = replace(SETTINGS, clips_per_shard=1)
    process = multiprocessing.get_context("spawn").Process(
        target=write_clip_shards, args=(videos, poses, output, settings)
    )
    process.start()
    while not (output / "clips-000001.json").exists():
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    kept = (output / "clips-000001.tar").stat().st_mtime_ns
    again = write_clip_shards(videos, poses, output, settings)
    assert (output / "clips-000001.tar").stat().st_mtime_ns == kept
    assert again["sha256"] == write_clip_shards(videos, poses, tmp_path / "whole", settings)["sha256"]


def test_a_changed_clip_changes_its_shard_only(folders):
    videos, poses, output = folders
    for number in range(4):
        add_clip(videos, poses, f"c{number}", seed=number)
    write_clip_shards(videos, poses, output, SETTINGS)
    before = snapshot(output)
    write_video(videos / "c3.mp4", draw_pair(9)[0], 8)
    write_clip_shards(videos, poses, output, SETTINGS)
    after = snapshot(output)
    assert after["clips-000000.tar"] == before["clips-000000.tar"]
    assert after["clips-000001.tar"] != before["clips-000001.tar"]
    ShardIndex.load(output).verify_all()


def test_a_damaged_shard_is_set_aside_and_made_again(folders):
    videos, poses, output = folders
    add_clip(videos, poses, "c0", seed=0)
    whole = write_clip_shards(videos, poses, output, SETTINGS)["sha256"]
    (output / "clips-000000.tar").write_bytes(b"damaged, or somebody's")
    (output / "index.json").unlink()
    (output / ".done" / "clips-000000.json").unlink()
    assert write_clip_shards(videos, poses, output, SETTINGS)["sha256"] == whole
    assert (output / "clips-000000.tar.damaged").read_bytes() == b"damaged, or somebody's"
    ShardIndex.load(output).verify_all()


@pytest.mark.fault("L8")
def test_shards_of_a_longer_run_are_removed_only_when_it_is_asked_for(folders):
    videos, poses, output = folders
    for number in range(4):
        add_clip(videos, poses, f"c{number}", seed=number)
    write_clip_shards(videos, poses, output, SETTINGS)
    for number in (2, 3):
        (videos / f"c{number}.mp4").unlink()
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="holds 2 clips that do not take part in this run, such as c2, and would lose"):
        write_clip_shards(videos, poses, output, SETTINGS)
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before
    write_clip_shards(videos, poses, output, SETTINGS, replace=True)
    assert sorted(f.name for f in output.glob("*.tar")) == ["clips-000000.tar"]


def test_what_cannot_be_used_is_left_out_with_its_reason(folders, caplog):
    videos, poses, output = folders
    add_clip(videos, poses, "good", seed=1)
    add_clip(videos, poses, "uneven", seed=2)
    write_video(poses / "uneven_pose.mp4", draw_pair(2)[1][:12], 8)
    add_clip(videos, poses, "short", seed=3)
    for folder, name in ((videos, "short"), (poses, "short_pose")):
        write_video(folder / f"{name}.mp4", draw_pair(3)[0][:4], 8)
    add_clip(videos, poses, "broken", seed=4)
    (videos / "broken.mp4").write_bytes(b"nothing")
    write_video(videos / "lonely.mp4", draw_pair(5)[0], 8)
    add_clip(videos, poses, "boxes", seed=6)
    add_heads(videos, "boxes", [None, None])
    index = write_clip_shards(videos, poses, output, SETTINGS)
    assert [s["key"] for s in index["samples"]] == ["good"]
    reasons = {drop["video"]: drop["reason"] for drop in index["dropped"]}
    assert "24 frames, its pose uneven_pose.mp4 has 12" in reasons["uneven.mp4"]
    assert "4 frames at 8 fps; 5 at 8 fps need 5" in reasons["short.mp4"]
    assert "not a readable video" in reasons["broken.mp4"]
    assert reasons["lonely.mp4"].startswith("no pose video (expected lonely_pose.mp4")
    assert "2 boxes, frame 4 is needed" in reasons["boxes.mp4"]
    assert not any(str(videos) in reason for reason in reasons.values())


def test_a_pose_one_frame_short_of_many_still_pairs(folders):
    videos, poses, output = folders
    video, pose = draw_pair(1, frames=60)
    write_video(videos / "a.mp4", video, 8)
    write_video(poses / "a_pose.mp4", pose[:59], 8)
    write_clip_shards(videos, poses, output, SETTINGS)
    assert details(output, "a")["source"]["frames"] == 59


@pytest.mark.fault("M11")
@pytest.mark.parametrize("extra", [-1, 1])
def test_one_frame_more_or_less_pairs_however_short_the_clip(folders, extra):
    videos, poses, output = folders
    video, pose = draw_pair(1, frames=31)
    write_video(videos / "a.mp4", video[: 30 + max(-extra, 0)], 8)
    write_video(poses / "a_pose.mp4", pose[: 30 + max(extra, 0)], 8)
    write_clip_shards(videos, poses, output, SETTINGS)
    assert details(output, "a")["source"]["frames"] == 30


@pytest.mark.fault("M11")
def test_the_first_frames_may_be_said_to_belong_together(folders, caplog):
    videos, poses, output = folders
    add_clip(videos, poses, "a", seed=1)
    write_video(poses / "a_pose.mp4", draw_pair(1)[1][:12], 8)
    with pytest.raises(DataError, match=r"24 frames, its pose a_pose\.mp4 has 12.*or use --uneven_pairs cut"):
        write_clip_shards(videos, poses, output, SETTINGS)
    write_clip_shards(videos, poses, output, replace(SETTINGS, uneven_pairs="cut"))
    assert details(output, "a")["source"]["frames"] == 12
    assert "a.mp4: 24 frames, its pose 12; the common 12 are used" in caplog.text


def test_none_usable_is_an_error_with_the_reasons(folders):
    videos, poses, output = folders
    add_clip(videos, poses, "a", seed=1)
    (videos / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"none of 1 clips can be used: a\.mp4: not a readable video"):
        write_clip_shards(videos, poses, output, SETTINGS)


def test_the_pose_of_another_clip_is_warned_about(folders, caplog):
    videos, poses, output = folders
    write_video(videos / "a.mp4", draw_pair(0)[0], 8)
    write_video(poses / "a_pose.mp4", draw_pair(4)[1], 8)
    with caplog.at_level("WARNING", "faceid"):
        write_clip_shards(videos, poses, output, ClipSettings(num_frames=21, height=32, width=48, fps=8))
    assert details(output, "a")["pairing_correlation"] < 0.5
    assert "is it the pose of another clip?" in caplog.text


def test_illegal_sizes_name_the_nearest_legal_ones(source_clips, tmp_path):
    geometry = Geometry(spatial_factor=4, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
    with pytest.raises(ConfigError, match="use 5 or 9"):
        write_clip_shards(*source_clips, tmp_path / "s", ClipSettings(num_frames=6, height=32, width=48), geometry)
    with pytest.raises(ConfigError, match="use 32 or 40"):
        write_clip_shards(*source_clips, tmp_path / "s", ClipSettings(num_frames=5, height=36, width=48), geometry)
    assert not (tmp_path / "s").exists()


def test_tars_are_plain(clip_shards):
    with tarfile.open(clip_shards / "clips-000000.tar") as tar:
        assert all((m.mtime, m.uid, m.uname, m.isreg()) == (0, 0, "", True) for m in tar)
