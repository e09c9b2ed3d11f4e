"""Real workers over one folder, some of them killed in the middle: the videos of a quiet single run, each once."""

import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from adapter_inputs import write_adapter
from launching import start
from two_poses import HEIGHT, WIDTH, write_pose
from written_identities import write_identity

REPOSITORY = Path(__file__).resolve().parents[2]
WORKERS, KILLS = 3, 3


def start_worker(tmp_path, out):
    command = [sys.executable, "sample.py", "--batch", "--jobs", tmp_path / "jobs.jsonl", "--output_dir", out]
    command += ["--face_lora_path", tmp_path / "adapter.safetensors", "--identities_dir", tmp_path / "people"]
    command += "--num_inference_steps 12 --cfg_scale 2 --device cpu".split()
    with (tmp_path / "workers.log").open("a") as log:
        return start(command, stdout=log, stderr=log)


def videos(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.mp4")}


@pytest.mark.starts_process
@pytest.mark.promise(
    "workers on one folder, three of them killed in the middle", bar="each video once and whole", proof="sampling"
)
@pytest.mark.proof_only("a minute of processes", proof="sampling")
def test_killed_workers_leave_every_video_once_and_whole(small_adapter_settings, tmp_path):
    for seed in range(4):
        write_pose(tmp_path / f"p{seed}_pose.mp4", seed)
    for seed, name in enumerate(("anna", "bob")):
        write_identity(tmp_path / "people" / name, seed=seed, size=24)
    write_adapter(tmp_path / "adapter.safetensors", small_adapter_settings, 2)
    job = {"pose": [f"p{seed}_pose.mp4" for seed in range(4)], "identity": ["anna", "bob"], "seed": [1, 2, 3]}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    quiet = start_worker(tmp_path, tmp_path / "quiet")
    assert quiet.wait(600) == 0
    out, generator = tmp_path / "out", random.Random(5)
    workers = [start_worker(tmp_path, out) for _ in range(WORKERS)]
    killed = 0
    while killed < KILLS and any(worker.poll() is None for worker in workers):
        # While one is at work: it holds a claim.
        if list((out / ".jobs" / "claims").glob("[0-9a-f]*")):
            time.sleep(generator.uniform(0.2, 1.5))
            place = generator.randrange(WORKERS)
            if workers[place].poll() is None:
                workers[place].send_signal(signal.SIGKILL)
                workers[place].wait()
                killed += 1
                workers[place] = start_worker(tmp_path, out)
        time.sleep(0.05)
    # The last word of a worker that found nothing more to do.
    assert [worker.wait(600) for worker in workers] == [0] * WORKERS
    assert killed == KILLS
    expected, found = videos(tmp_path / "quiet"), videos(out)
    assert len(expected) == 24 and found == expected
    rows = [json.loads(line) for line in (out / "jobs.jsonl").read_text().splitlines()]
    assert sorted(row["output"] for row in rows) == sorted(expected) and not any(row["error"] for row in rows)
    # Nothing is left of those who died but their tries.
    assert not [path for path in out.rglob("*.tmp") if ".jobs" not in path.parts]
    assert not list((out / ".jobs" / "claims").glob("[0-9a-f]*"))
    assert (HEIGHT, WIDTH) == (32, 48)
