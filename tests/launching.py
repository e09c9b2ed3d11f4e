"""Run the product's commands as users do: real processes, real launchers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from faceid.training.measuring.metrics import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# Of the checks that a proof runs: small, or full; tests where no proof asked.
SIZES = os.environ.get("FACEID_SIZES", "tests")
# `make prove-main` without FULL=1: the same checks at smaller sizes.
IS_SMALL = SIZES == "small"


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


def run_command(command: list[str], expect: int | None = 0, timeout_s: int = 600) -> subprocess.CompletedProcess:
    """Run a command in the repository; its output is shown when the exit code is not the expected one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if expect is not None and done.returncode != expect:
        raise AssertionError(
            f"exit {done.returncode}, not {expect}: {command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
    return done


def train(*flags: str, world: str = "single", expect: int | None = 0, port: int = 0) -> subprocess.CompletedProcess:
    """train.py in a world: single, or a config of launch/accelerate."""
    if world == "single":
        return run_command([sys.executable, "train.py", *flags], expect)
    launcher = [str(BIN / "accelerate"), "launch", "--config_file", f"launch/accelerate/{world}.yaml"]
    return run_command([*launcher, "--main_process_port", str(port), "train.py", *flags], expect)


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
