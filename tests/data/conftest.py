"""Folders of small clips with poses, and clip shards of them."""

import pytest
from drawn_clips import SETTINGS, add_clips, add_heads

from faceid.data.clips.clip_shards import write_clip_shards


@pytest.fixture
def folders(tmp_path):
    """An empty videos folder, poses folder and output path."""
    videos, poses = tmp_path / "videos", tmp_path / "poses"
    videos.mkdir()
    poses.mkdir()
    return videos, poses, tmp_path / "shards"


@pytest.fixture(scope="session")
def source_clips(tmp_path_factory):
    """Three pairs: two shards at two clips per shard. The first has head boxes in every other frame."""
    videos, poses = add_clips(tmp_path_factory.mktemp("source"), 3)
    add_heads(videos, "dance_000", [[40, 16, 56, 32] if k % 2 == 0 else None for k in range(24)])
    return videos, poses


@pytest.fixture(scope="session")
def clip_shards(source_clips, tmp_path_factory):
    """Clip shards of `source_clips`. Read only."""
    output = tmp_path_factory.mktemp("clips") / "shards"
    write_clip_shards(*source_clips, output, SETTINGS)
    return output
