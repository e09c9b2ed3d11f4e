"""The longest of an adapter's jobs come first, for every worker; otherwise workers begin at different places."""

import json
import math

import numpy as np
import pytest
from render_flags import changed, sections_of

from faceid.claims import Claims, take_work
from faceid.media.video import promised_frames, write_video
from faceid.sampling.jobs import worker
from faceid.sampling.jobs.job_folder import JobFolder
from faceid.sampling.jobs.plan import Job
from faceid.sampling.sampling_run import run_sampling
from faceid.sampling.who.rendered_identities import Face


def write_pose(path, num_frames):
    write_video(path, np.full((num_frames, 16, 16, 3), 90, np.uint8), fps=16)


def test_a_header_promises_a_length_and_a_file_that_is_none_promises_nothing(tmp_path):
    write_pose(tmp_path / "a.mp4", 7)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert [promised_frames(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4")] == [7, 0, 0]


@pytest.mark.slow
def test_long_jobs_are_rendered_first_and_where_all_are_as_long_nothing_is_opened(tmp_path, monkeypatch):
    begun, begin = [], worker.Worker.begin
    monkeypatch.setattr(worker.Worker, "begin", lambda self, job, name: begun.append(job) or begin(self, job, name))
    lengths = {"a": 5, "b": 13, "c": 9, "d": 1}
    for name, length in lengths.items():
        write_pose(tmp_path / "poses" / f"{name}.mp4", length)
    settings = sections_of(
        model_path="toy",
        batch=True,
        pose_videos_dir=str(tmp_path / "poses"),
        output_dir=str(tmp_path / "out"),
        height=16,
        width=16,
        num_frames="all",
        fps=16.0,
        num_inference_steps=1,
        cfg_scale=1.0,
        device="cpu",
        gallery=False,
    )
    assert run_sampling(settings) == 0
    assert [job.request.pose.stem for job in begun] == ["b", "c", "a", "d"]
    # The list that is written stays as it was asked for.
    written = [json.loads(line)["pose"] for line in (tmp_path / "out" / "jobs.jsonl").read_text().splitlines()]
    assert written == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    begun.clear()
    assert run_sampling(changed(settings, num_frames=1, output_dir=str(tmp_path / "short"))) == 0
    assert {job.pixels for job in begun} == {16 * 16}


def test_workers_follow_a_number_and_part_where_it_is_the_same(tmp_path):
    sizes = {f"unit{number:02d}": number // 10 for number in range(30)}

    def order(name):
        claims = Claims(tmp_path / name, worker=name)
        taken = []
        for unit, claim in take_work(list(sizes), lambda _: False, claims, places=lambda u: ("", -sizes[u], u)):
            taken.append(unit)
            claim.release()
        return taken

    one, two = order("one"), order("two")
    assert [sizes[unit] for unit in one] == [sizes[unit] for unit in two] == [2] * 10 + [1] * 10 + [0] * 10
    assert one != two


def test_a_short_job_in_slow_hands_is_waited_for_as_long_as_short_jobs_take(tmp_path):
    def job(pixels):
        return Job(str(pixels), None, "", Face(), pixels=pixels)

    waiting = worker.Worker(None, JobFolder(tmp_path), None, None, {})
    assert waiting._patience_s(job(100)) == math.inf
    waiting._longest_s = {100: 2.0, 400: 9.0}
    found = [waiting._patience_s(job(pixels)) for pixels in (100, 200, 400, 500)]
    assert found == [worker.LATE * seconds for seconds in (2.0, 2.0, 9.0, 9.0)]
    # Shorter than any that was done here.
    assert waiting._patience_s(job(50)) == worker.LATE * 9.0
