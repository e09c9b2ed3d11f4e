"""How does the work around the rendering grow from 5,000 jobs to 100,000? What of a batch is not a model's.

The videos are a few bytes and never looked into; what is measured is the program's own: looking through a folder of
poses, planning by names and records, a try at a job, knowing what is left, and the rows at the end, for the first
worker and for another one. One fresh folder a size, in memory, so no disk is measured; one process, CPU seconds.

    python -m benchmarks.speed.sampling_scale [--output_dir O] [--sizes 5000 20000 100000]

Writes O/sampling_scale.json; without O, benchmarks/records/sampling_scale.json. Every figure's slope, log(value) over
log(jobs), should be near 1: proportional.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import RECORDS
from benchmarks.proofs.rows import memory_folder
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.sampling.jobs.job_folder import JobFolder
from faceid.sampling.jobs.job_list import read_job_list, read_pose_folder
from faceid.sampling.jobs.plan import Job, name_outputs
from faceid.sampling.jobs.worker import conclude
from faceid.sampling.one_video.video_settings import ContentSettings
from faceid.sampling.who.rendered_identities import Face

TRIES = 50


def main(words: list[str] | None = None) -> int:
    """Measure each size, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=RECORDS, help="folder for sampling_scale.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 100_000], help="numbers of jobs")
    given = parser.parse_args(words)
    found: dict[int, dict[str, float]] = {}
    for count in given.sizes:
        with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
            found[count] = measure(Path(name), count)
        print(count, json.dumps(found[count]), flush=True)
    first, last = min(found), max(found)
    slopes = {
        name: round(math.log(found[last][name] / found[first][name]) / math.log(last / first), 2)
        for name in found[first]
        if last > first and found[first][name] > 0
    }
    print("slopes", json.dumps(slopes))
    write_json(given.output_dir / "sampling_scale.json", {**describe_provenance(), "cpu_s": found, "slopes": slopes})
    return 0


def measure(work: Path, count: int) -> dict[str, float]:
    """CPU seconds of each part, for `count` jobs; of a try, milliseconds."""
    poses, out = work / "poses", work / "out"
    poses.mkdir()
    for number in range(count):
        (poses / f"pose_{number:06d}.mp4").touch()
    content = ContentSettings()
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        value = call()
        seconds[name] = round(time.process_time() - began, 3)
        return value

    requests = timed("read_pose_folder", lambda: read_pose_folder(poses, [""], content, None))
    listed = work / "jobs.jsonl"
    listed.write_text("".join(json.dumps({"pose": request.pose.name}) + "\n" for request in requests), encoding="utf-8")
    timed("read_job_list", lambda: read_job_list(listed, str(poses), content, None))
    folder = JobFolder.claim(out, [])
    unnamed = [Job(f"{number:016x}", request, "", Face()) for number, request in enumerate(requests)]
    jobs = timed("name_outputs", lambda: name_outputs(unnamed, {}))
    # As if all had been rendered, and tried once.
    for job in jobs:
        (out / job.output).write_bytes(b"video")
        record = {"pose": job.request.pose.name, "identity": "", "id": job.id, "output": job.output, "bytes": 5}
        (folder.folder / "done" / f"{job.id}.json").write_text(json.dumps({**record, "sha256": ""}), encoding="utf-8")
        (folder.folder / "attempts" / job.id).mkdir()
        (folder.folder / "attempts" / job.id / "0.json").write_text("{}", encoding="utf-8")
    timed("settled_among", lambda: folder.settled_among((job.id for job in jobs), folder.records()))
    timed("tries", lambda: [folder.begin(job.id, "worker") for job in jobs[:TRIES]])
    seconds["a_try_ms"] = round(1000 * seconds.pop("tries") / TRIES, 3)
    timed("rows_first_worker", lambda: conclude(jobs, folder, 1.0))
    timed("rows_another_worker", lambda: conclude(jobs, JobFolder(out), 1.0))
    return seconds


if __name__ == "__main__":
    sys.exit(main())
