"""CPU seconds before a command does anything: its help, a wrong flag, the first step of a training, a video.

Each command in a process of its own, several times; the least counts, as other work on the machine only adds.
`python -m benchmarks.speed.start_up --record` writes benchmarks/records/start_up.json.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import REPOSITORY
from benchmarks.costs import cpu_s
from benchmarks.prepared_world import flags_of, photos, prepare_world
from benchmarks.proofs.rows import Row, conclude_check, rows_of

MOST_HELP_S, MOST_FIRST_STEP_S = 0.5, 6.0
TIMES = 3
COMMANDS = ["train.py", "sample.py", *sorted(f"tools/{path.name}" for path in (REPOSITORY / "tools").glob("*.py"))]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
QUIET = "--num_workers 0 --log_every_steps 1 --validate_every 0 --tensorboard false --save_every 9".split()
# Runs a command and says the CPU seconds of its process when the denoising loop is entered.
UNTIL_DENOISING = """
import runpy, sys, time
sys.argv = sys.argv[1:]
sys.path[0] = ""
from faceid.models.rendering import pipeline
denoise = pipeline.denoise
def first(*given, **more):
    print(time.process_time(), flush=True)
    return denoise(*given, **more)
pipeline.denoise = first
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check() -> list[Row]:
    """Measure, and say each row."""
    rows: list[Row] = []
    for what, words in (("--help", ["--help"]), ("a flag that is none", ["--no_such_flag", "1"])):
        began = time.perf_counter()
        found = {command: least(functools.partial(whole_s, [command, *words])) for command in COMMANDS}
        slowest = max(found, key=lambda command: found[command])
        said = f"{found[slowest]:.2f} CPU s at most, in {slowest}"
        promise = f"{what}, in each of {len(COMMANDS)} commands"
        seen = (promise, f"within {MOST_HELP_S} CPU s", said, found[slowest] <= MOST_HELP_S)
        rows += rows_of([seen], time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_world(folder, "--num_people 2 --photos_per_person 4 --seed 1")
        for promise, measure in (
            ("the first step of a toy training", first_step_s),
            ("a toy video, until its first denoising step begins", video_s),
        ):
            began = time.perf_counter()
            spent_s = least(functools.partial(measure, folder))
            seen = (promise, f"within {MOST_FIRST_STEP_S} CPU s", f"{spent_s:.1f} CPU s", spent_s <= MOST_FIRST_STEP_S)
            rows += rows_of([seen], time.perf_counter() - began)
    return rows


def least(measure: Callable[[], float]) -> float:
    """The least of several measurements."""
    return min(measure() for _ in range(TIMES))


def whole_s(words: list[str], code: tuple[int, ...] = (0, 2)) -> float:
    """CPU seconds of a command from its start to its end. Raises: RuntimeError for another exit code."""
    before = cpu_s()
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, check=False)
    after = cpu_s()
    if done.returncode not in code:
        raise RuntimeError(f"{words}: exit code {done.returncode}: {done.stderr.decode()[-2000:]}")
    return after - before


def first_step_s(folder: Path) -> float:
    """CPU seconds of a training until its first step is logged: the step is in it."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    words = ["train.py", "--face_images_dir", str(photos(folder)), *flags_of(folder), *QUIET, "--output_dir", str(run)]
    words += "--model_path toy --encoder_path toy --num_epochs 5 --lora_rank 4".split()
    null = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, env=ENVIRONMENT, stdout=null, stderr=null)
    try:
        log = run / "metrics.jsonl"
        while not (log.is_file() and log.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"{words}: ended with {process.returncode} before its first step")
            time.sleep(0.002)
        user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    finally:
        process.kill()
        process.wait()


def video_s(folder: Path) -> float:
    """CPU seconds of sample.py until its first denoising step begins, by the shipped adapter."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "video.mp4"
    pose = next((folder / "world" / "poses").glob("*.mp4"))
    words = f"sample.py --face_lora_path toy --model_path toy --face_embedding {folder}/identity --pose_video {pose} "
    words += f"--output {output} --num_inference_steps 1 --cfg_scale 1"
    done = subprocess.run(
        [sys.executable, "-c", UNTIL_DENOISING, *words.split()],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{words}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main(argv: list[str]) -> int:
    """Check, print, and record where asked; 1 when a row falls short."""
    began = time.perf_counter()
    rows = check()
    return conclude_check("start_up", rows, argv, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
