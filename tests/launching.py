"""Run the product's commands: real processes, real launchers, warm ones but where a cold start is the point."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warm_process import WarmProcess, start_process

from faceid.training.measuring.metrics import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# Of the checks that a proof runs: small, or full; tests where no proof asked.
SIZES = os.environ.get("FACEID_SIZES", "tests")
# `make prove-main` without FULL=1: the same checks at smaller sizes.
IS_SMALL = SIZES == "small"


# What a process of its own does with a pickled function.
CALLING = """
import pickle, sys
sys.path[:] = sys.argv[1].split(":")
function, given = pickle.loads(bytes.fromhex(sys.argv[2]))
function(*given)
"""
SMALL_ADAPTER = (
    "--conditioning_dim 40 --mapper_hidden_dim 48 --num_tokens 3 --lora_rank 4 --encoder_path toy --model_path toy"
).split()
QUIET = "--num_workers 0 --log_every_steps 1 --tensorboard false --validate_every 0".split()


@dataclass(frozen=True)
class ToyInputs:
    """Folders of the prepared toy data set."""

    dataset: Path
    shards: Path
    latents: Path
    identity: Path

    @property
    def raw_flags(self) -> list[str]:
        """What a user with folders types."""
        return [
            *("--face_images_dir", str(self.dataset / "photos" / "target")),
            *("--dance_videos_dir", str(self.dataset / "videos"), "--pose_videos_dir", str(self.dataset / "poses")),
            *"--num_frames 9 --height 64 --width 64".split(),
        ]

    @property
    def prepared_flags(self) -> list[str]:
        """The same from prepared latents."""
        return [
            *("--face_images_dir", str(self.dataset / "photos" / "target"), "--face_embedding", str(self.identity)),
            *("--latents", str(self.latents), "--shards", str(self.shards)),
        ]


def start(command: list[str], cold: bool = False, **places: Any) -> WarmProcess | subprocess.Popen:
    """Start a command in the repository, by a fork that has imported everything; cold: as a user does, by Python.

    places: more of subprocess.Popen, as env and stderr.
    """
    places = {"cwd": REPOSITORY, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, **places}
    words = [str(word) for word in command]
    return subprocess.Popen(words, **places) if cold else start_process(words, **places)


def start_function(function: Callable[..., object], *given: object, **places: Any) -> WarmProcess | subprocess.Popen:
    """Start a process that calls a function of a module with arguments that can be pickled."""
    words = [":".join(sys.path), pickle.dumps((function, given)).hex()]
    return start([sys.executable, "-c", CALLING, *words], **places)


def run_command(
    command: list[str], expect: int | None = 0, timeout_s: int = 600, cold: bool = False, **places: Any
) -> subprocess.CompletedProcess:
    """Run a command to its end, as `start` starts it; shows its output when the exit code is not the expected one."""
    pipe = subprocess.PIPE
    process = start(command, cold, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **places)
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    if expect is not None and process.returncode != expect:
        raise AssertionError(f"exit {process.returncode}, not {expect}: {command}\n{stdout[-3000:]}\n{stderr[-6000:]}")
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def train(
    *flags: str, world: str = "single", expect: int | None = 0, cold: bool = False
) -> subprocess.CompletedProcess:
    """train.py in a world: single, or a config of launch/accelerate."""
    if world == "single":
        return run_command([sys.executable, "train.py", *flags], expect, cold=cold)
    launcher = [str(BIN / "accelerate"), "launch", "--config_file", f"launch/accelerate/{world}.yaml"]
    return run_command([*launcher, "--main_process_port", "0", "train.py", *flags], expect, cold=cold)


def losses(folder: Path) -> list[float]:
    """The loss of every step, from metrics.jsonl."""
    records = read_metrics(folder / "metrics.jsonl")
    return [record["train/loss"] for record in records if "train/loss" in record]


def wait_for_steps(process, folder, count):
    """Wait until a run that is in progress has logged `count` steps."""
    deadline = time.monotonic() + 120
    while len(losses(folder)) < count:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended, or hangs"
        time.sleep(0.01)
