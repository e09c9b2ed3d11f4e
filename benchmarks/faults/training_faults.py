"""One training run, killed again and again at random moments; and one that changes its number of processes.

Real launches: `accelerate launch` with two processes under DeepSpeed ZeRO-2, killed with all their readers by SIGKILL.
What is left at the end is compared, bit by bit, with the run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import REPOSITORY
from benchmarks.prepared_world import flags_of, photos, prepare_world
from faceid.training.checkpoints import checkpoint
from faceid.training.measuring.metrics import read_metrics
from faceid.training.measuring.samples import read_samples

ACCELERATE = str(Path(sys.executable).parent / "accelerate")
TOKEN = "FACEID_PROOF"
SMALL_ADAPTER = "--conditioning_dim 40 --mapper_hidden_dim 48 --num_tokens 3 --lora_rank 4 --encoder_path toy".split()
LONGEST_RUN_S = 900


@dataclass(frozen=True)
class Inputs:
    """Prepared data of a small world, as flags of train.py."""

    flags: list[str]

    @classmethod
    def make(cls, work: Path, num_people: int = 6) -> Inputs:
        """By the tools."""
        prepare_world(work, f"--num_people {num_people} --photos_per_person 5 --seed 4")
        return cls.made(work)

    @classmethod
    def made(cls, work: Path) -> Inputs:
        """What `make` left there."""
        return cls(["--model_path", "toy", "--face_images_dir", str(photos(work)), *flags_of(work)])


@dataclass(frozen=True)
class Killed:
    """What became of a run that was killed `kills` times, beside the undisturbed one."""

    kills: int
    kills_before_a_step: int
    """While it was starting: before any step of that attempt."""
    differing: list[str]
    """Tensors that are not bit-identical."""
    missing: int
    repeated: int
    steps: int
    steps_lost: int
    same_losses: bool


def kill_and_resume(inputs: Inputs, work: Path, kills: int, num_epochs: int, seed: int) -> Killed:
    """Run once undisturbed and once killed; in the second, every attempt but the last ends by SIGKILL."""
    generator = random.Random(seed)
    flags = [*_flags(inputs), "--num_epochs", str(num_epochs), "--checkpoint_every_steps", "2"]
    whole, killed = work / "whole", work / "killed"
    _finish([*flags, "--output_dir", str(whole)])
    early = lost = done = 0
    for _ in range(kills):
        before, attempt = _steps(killed), _Attempt([*flags, "--output_dir", str(killed)])
        # A quarter of the kills fall into the start, where most of a short attempt's time goes; the others into steps,
        # saves and epochs' ends.
        if generator.random() < 0.25:
            attempt.wait(generator.uniform(0.2, 8.0))
        else:
            attempt.wait_until(lambda before=before: _steps(killed) != before)
            attempt.wait(generator.uniform(0.0, 3.0))
        if attempt.is_over():
            break
        attempt.kill()
        reached, kept = _steps(killed), _kept(killed)
        early += reached == before
        lost += max(reached - kept, 0)
        done += 1
    _finish([*flags, "--output_dir", str(killed)])
    expected, found = (
        checkpoint.read_tensors(path)
        for run in (whole, killed)
        if (path := checkpoint.find_newest(run / "checkpoints")) is not None
    )
    differing = [
        f"{group} {name}"
        for group, members in expected.items()
        for name, tensor in members.items()
        if not torch.equal(tensor, found[group][name])
    ]
    wanted, seen = (_taken(run) for run in (whole, killed))
    return Killed(
        kills=done,
        kills_before_a_step=early,
        differing=differing,
        missing=len(set(wanted) - set(seen)),
        repeated=len(seen) - len(set(seen)),
        steps=_steps(whole),
        steps_lost=lost,
        same_losses=_losses(whole) == _losses(killed),
    )


@dataclass(frozen=True)
class Elastic:
    """A run whose number of processes changed, beside one of a single process."""

    processes: list[int]
    largest_difference: float
    """Of a loss, relative."""
    same_samples: bool
    steps: int


def change_processes(inputs: Inputs, work: Path, processes: list[int], num_epochs: int) -> Elastic:
    """Each number of processes trains about as many steps; between them the run is stopped by the file STOP."""
    flags = [*_flags(inputs), "--num_epochs", str(num_epochs), "--learning_rate", "1e-3"]
    alone, changed = work / "alone", work / "changed"
    _finish([*flags, "--output_dir", str(alone)], world="cpu", processes=1)
    steps = _steps(alone)
    for number, count in enumerate(processes):
        words = [*flags, "--output_dir", str(changed)]
        if number == len(processes) - 1:
            _finish(words, world="cpu", processes=count)
            break
        attempt, until = _Attempt(words, "cpu", count), steps * (number + 1) // len(processes)
        attempt.wait_until(lambda until=until: _steps(changed) >= until)
        (changed / "STOP").touch()
        attempt.wait_until(attempt.is_over)
    one, many = _losses(alone), _losses(changed)
    difference = max(abs(a / b - 1) for a, b in zip(many, one, strict=True))
    same = read_samples(alone / "logs") == read_samples(changed / "logs")
    return Elastic(processes, difference, same, steps)


def _flags(inputs: Inputs) -> list[str]:
    words = "--batch_size 4 --freeze_mapper_after_epochs 3 --warmup_steps 4 --mapper_dropout 0.1 --num_workers 1"
    words += " --log_every_steps 1 --tensorboard false --validate_every 0 --save_every 5 --log_samples --ema 0.99"
    return [*inputs.flags, *SMALL_ADAPTER, *words.split()]


class _Attempt:
    """One launch; everything it starts carries a token by which it can be found and killed."""

    def __init__(self, flags: list[str], world: str = "cpu_zero2", processes: int = 2) -> None:
        self.token = uuid.uuid4().hex
        config = f"launch/accelerate/{world}.yaml"
        launcher = [ACCELERATE, "launch", "--config_file", config, "--num_processes", str(processes)]
        command = [*launcher, "--main_process_port", "0", "train.py", *flags]
        if processes == 1:
            command = [sys.executable, "train.py", *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", TOKEN: self.token}
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        os.set_blocking(self.process.stderr.fileno(), False)  # type: ignore[union-attr]
        self.errors = ""

    def is_over(self) -> bool:
        """Whether it ended by itself."""
        with contextlib.suppress(TypeError):  # nothing to read
            self.errors = (self.errors + (self.process.stderr.read() or ""))[-20_000:]  # type: ignore[union-attr]
        return self.process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Let it run that long, or to its end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.is_over():
            time.sleep(0.01)

    def wait_until(self, condition: object) -> None:
        """Let it run until a condition holds, or to its end."""
        until = time.monotonic() + LONGEST_RUN_S
        while not self.is_over() and not condition():  # type: ignore[operator]
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"a run took over {LONGEST_RUN_S} s\n{self.errors[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL everything it started, until nothing is left."""
        mark = f"{TOKEN}={self.token}".encode()
        while found := [pid for pid in _processes() if mark in _environment(pid)]:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            self.process.poll()
        self.process.wait()


def _finish(flags: list[str], world: str = "cpu_zero2", processes: int = 2) -> None:
    attempt = _Attempt(flags, world, processes)
    attempt.wait_until(attempt.is_over)
    if attempt.process.returncode:
        raise RuntimeError(f"exit {attempt.process.returncode}: {' '.join(flags)}\n{attempt.errors[-3000:]}")


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _steps(run: Path) -> int:
    """Of the newest line with a loss."""
    rows = read_metrics(run / "metrics.jsonl")
    return max((int(row["step"]) for row in rows if "train/loss" in row), default=0)


def _kept(run: Path) -> int:
    newest = next(checkpoint.newest_first(run / "checkpoints"), None)
    return int(newest.name.removeprefix("step_")) if newest else 0


def _losses(run: Path) -> list[float]:
    return [row["train/loss"] for row in read_metrics(run / "metrics.jsonl") if "train/loss" in row]


def _taken(run: Path) -> list[tuple[int, int, str]]:
    """Every sample taken: step, global index, key."""
    return [(step, g, key) for step, samples in read_samples(run / "logs").items() for g, key in samples]
