"""A disk that fills up in the middle of a batch: one line that says so, nothing broken, and later the rest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from launching import run_command

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.starts_process
@pytest.mark.promise(
    "empty folder, a file for a folder to write to, read-only disk, full disk in mid-batch",
    bar="exit code 2 and one line each; with room again the same command does the rest",
    proof="sampling",
)
@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line_and_the_rest_is_done_when_there_is_room(settings, small_disk, tmp_path):
    jobs = {"pose": ["x_pose.mp4", "y_pose.mp4"], "identity": ["anna", "bob"], "seed": [1, 2, 3]}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(jobs) + "\n")
    command = [sys.executable, "sample.py", "--batch", "--jobs", str(tmp_path / "jobs.jsonl"), "--gallery", "false"]
    command += ["--pose_videos_dir", str(tmp_path / "poses"), "--identities_dir", str(tmp_path / "people")]
    command += ["--face_lora_path", settings.models.face_lora_path, "--output_dir", str(small_disk / "out")]
    command += "--num_inference_steps 1 --cfg_scale 1 --device cpu".split()

    def run():
        return run_command(command, expect=None)

    full = run()
    assert full.returncode == 2 and "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith(f"error: output_dir={small_disk / 'out'}: ") and "make room" in last
    assert "o space left on" in last and "what is finished stays" in last
    done = {path: path.read_bytes() for path in small_disk.rglob("*.mp4")}
    assert 0 < len(done) < 12 and not [path for path in done if path.name.startswith(".")]
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert run().returncode == 0
    assert all(path.read_bytes() == video for path, video in done.items())
    rows = [json.loads(line) for line in (small_disk / "out" / "jobs.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and not any(row["error"] for row in rows)
