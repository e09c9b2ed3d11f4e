"""Clip shards of the real pairs, as found and as prepared."""

import json

import pytest

from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.shards.index import ShardIndex
from faceid.media.video import decode_video_bytes

pytestmark = pytest.mark.real_data

SETTINGS = ClipSettings(num_frames=17, height=96, width=96, fps=16)


def link(real_data, folder, pairs):
    for name, video, pose in pairs:
        (folder / f"{name}{(real_data / video).suffix}").symlink_to(real_data / video)
        (folder / f"{name}_pose{(real_data / pose).suffix}").symlink_to(real_data / pose)


@pytest.mark.slow
def test_real_pairs_become_shards_and_correlate(real_data, tmp_path):
    raw, ready = "dance/raw/steadydancer_00002", "dance/ready/scail_001_832x480"
    videos = tmp_path / "videos"
    videos.mkdir()
    link(real_data, videos, [("raw", f"{raw}/video.mp4", f"{raw}/pose.mp4")])
    link(real_data, videos, [("ready", f"{ready}/video.mp4", f"{ready}/pose.mp4")])
    link(real_data, videos, [("swapped", "dance/raw/scail_001/driving.mp4", f"{raw}/pose.mp4")])
    written = write_clip_shards(videos, videos, tmp_path / "shards", SETTINGS)
    assert ["65 frames, its pose swapped_pose.mp4 has 212" in drop["reason"] for drop in written["dropped"]] == [True]
    index = ShardIndex.load(tmp_path / "shards")
    correlations = {s.key: json.loads(index.read(s.key, "json"))["pairing_correlation"] for s in index.samples}
    assert correlations["raw"] > 0.8 and correlations["ready"] > 0.7
    assert decode_video_bytes(index.read("raw", "pose.mp4")).frames.shape == (17, 96, 96, 3)
