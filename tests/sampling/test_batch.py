"""A folder of pose videos: which outputs it gets, and what is recorded when one fails."""

import json
from pathlib import Path

import pytest

from faceid.errors import DataError
from faceid.sampling.batch import plan_jobs, render_folder


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
    return path


def test_every_video_of_a_folder_gets_its_output_in_order(tmp_path):
    poses = folder_of(tmp_path / "poses", "b.MP4", "a.mov", ".hidden.mp4", "notes.txt")
    jobs = plan_jobs(poses, tmp_path / "out")
    assert list(jobs.items()) == [
        (poses / "a.mov", tmp_path / "out" / "a.mp4"),
        (poses / "b.MP4", tmp_path / "out" / "b.mp4"),
    ]


def test_two_videos_with_one_output_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"several videos named a\.\*.*rename"):
        plan_jobs(folder_of(tmp_path / "poses", "a.mp4", "a.mov"), tmp_path / "out")


def test_the_pose_folder_itself_is_refused_as_output(tmp_path):
    poses = folder_of(tmp_path / "poses", "a.mp4")
    (tmp_path / "link").symlink_to(poses)
    with pytest.raises(DataError, match="overwritten"):
        plan_jobs(poses, tmp_path / "link")


def test_a_failed_video_is_recorded_with_its_reason_and_the_rest_goes_on(tmp_path):
    class Refusing:
        """Stands in for a loaded model: only the bookkeeping is looked at here."""

        def render(self, pose: Path, output: Path) -> None:
            if pose.stem == "a":
                raise DataError("too short")
            output.write_bytes(b"video")

    out = folder_of(tmp_path / "out")
    jobs = plan_jobs(folder_of(tmp_path / "poses", "a.mp4", "b.mp4"), out)
    rendered = render_folder(Refusing(), jobs, out)  # type: ignore[arg-type]
    assert [(job.pose, job.error, bool(job.sha256)) for job in rendered] == [
        ("a.mp4", "too short", False),
        ("b.mp4", "", True),
    ]
    lines = [json.loads(line) for line in (out / "jobs.jsonl").read_text().splitlines()]
    assert lines == [vars(job) for job in rendered]
    assert json.loads((out / "provenance.json").read_text())["inputs"] == {"videos": 2, "failed": 1}
