"""tools/make_shards.py and tools/encode_latents.py, as a user calls them."""

import sys
from pathlib import Path

import pytest
from launching import run_command

from faceid.data.latents.latent_reader import LatentSet

pytestmark = pytest.mark.starts_process

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = ["--num_frames", "5", "--height", "32", "--width", "48", "--fps", "8"]


def call(tool, *words):
    command = [sys.executable, str(REPOSITORY / "tools" / tool), *map(str, words)]
    return run_command(command, expect=None)


def test_videos_become_latents(source_clips, tmp_path):
    videos, poses = source_clips
    where = ["--dance_videos_dir", videos, "--pose_videos_dir", poses, "--output_dir", tmp_path / "s"]
    done = call("make_shards.py", *where, *SIZE)
    assert done.returncode == 0, done.stderr
    where = ["--shards", tmp_path / "s", "--model_path", "toy", "--output_dir", tmp_path / "l"]
    done = call("encode_latents.py", *where, "--dtype", "float32", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    samples = LatentSet.open(tmp_path / "l")
    assert len(samples) == 3 and samples.base_name == "toy"


def test_a_dry_run_writes_nothing(source_clips, tmp_path):
    videos, poses = source_clips
    where = ["--dance_videos_dir", videos, "--pose_videos_dir", poses, "--output_dir", tmp_path / "s"]
    done = call("make_shards.py", *where, *SIZE, "--dry_run")
    assert done.returncode == 0 and "dance_002.mp4 with dance_002_pose.mp4" in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "tool, words, message",
    [
        ("make_shards.py", ["--dance_videos_dir", "nope", "--pose_videos_dir", "nope"], "nope: no such folder"),
        ("make_shards.py", ["--dance_video_dir", "x"], "did you mean --dance_videos_dir?"),
        ("encode_latents.py", ["--shards", "nope", "--model_path", "toy"], "nope: no index.json in it"),
    ],
)
def test_a_users_error_is_one_line_and_exit_2(tmp_path, tool, words, message):
    done = call(tool, *words, "--output_dir", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
