"""One training run, killed again and again at random moments; and one that changes its number of processes.

Real launches: `accelerate launch` with two processes under DeepSpeed ZeRO-2, killed with all their readers by SIGKILL.
What is left at the end is compared, bit by bit, with the run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from launching import BIN, SMALL_ADAPTER, losses

from benchmarks import REPOSITORY
from benchmarks.prepared_world import flags_of, photos
from faceid.training.checkpoints import checkpoint
from faceid.training.measuring.metrics import read_metrics
from faceid.training.measuring.samples import read_samples

# Of the prepared world that is trained on.
WORLD_FLAGS = "--num_people 6 --photos_per_person 5 --seed 4"
RECIPE = (
    "--batch_size 4 --freeze_mapper_after_epochs 3 --warmup_steps 4 --mapper_dropout 0.1 --num_workers 1 "
    "--log_every_steps 1 --tensorboard false --validate_every 0 --save_every 5 --log_samples --ema 0.99"
)
TOKEN = "FACEID_PROOF"
LONGEST_RUN_S = 900


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


def kill_and_resume(work: Path, kills: int, num_epochs: int, seed: int) -> Killed:
    """Run once undisturbed and once killed; in the second, every attempt but the last ends by SIGKILL.

    work: of a prepared world.
    """
    generator = random.Random(seed)
    flags = _flags(work, f"--num_epochs {num_epochs} --checkpoint_every_steps 2")
    whole, killed = work / "whole", work / "killed"
    _finish(flags, whole)
    early = lost = done = 0
    for _ in range(kills):
        before, attempt = _steps(killed), _Attempt(flags, killed)
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
    _finish(flags, killed)
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
        same_losses=losses(whole) == losses(killed),
    )


@dataclass(frozen=True)
class Elastic:
    """A run whose number of processes changed, beside one of a single process."""

    processes: list[int]
    largest_difference: float
    """Of a loss, relative."""
    same_samples: bool
    steps: int


def change_processes(work: Path, processes: list[int], num_epochs: int) -> Elastic:
    """Each number of processes trains about as many steps; between them the run is stopped by the file STOP."""
    flags = _flags(work, f"--num_epochs {num_epochs} --learning_rate 1e-3")
    alone, changed = work / "alone", work / "changed"
    _finish(flags, alone, world="cpu", processes=1)
    steps = _steps(alone)
    for number, count in enumerate(processes[:-1], start=1):
        attempt, until = _Attempt(flags, changed, "cpu", count), steps * number // len(processes)
        attempt.wait_until(lambda until=until: _steps(changed) >= until)
        (changed / "STOP").touch()
        attempt.wait_until(attempt.is_over)
    _finish(flags, changed, world="cpu", processes=processes[-1])
    difference = max(abs(a / b - 1) for a, b in zip(losses(changed), losses(alone), strict=True))
    same = read_samples(alone / "logs") == read_samples(changed / "logs")
    return Elastic(processes, difference, same, steps)


def _flags(work: Path, more: str) -> list[str]:
    return ["--face_images_dir", str(photos(work)), *flags_of(work), *SMALL_ADAPTER, *RECIPE.split(), *more.split()]


class _Attempt:
    """One launch; everything it starts carries a token by which it can be found and killed."""

    def __init__(self, flags: list[str], run: Path, world: str = "cpu_zero2", processes: int = 2) -> None:
        self.token, self.log = uuid.uuid4().hex, run.with_name(f"{run.name}.log")
        launcher = [str(BIN / "accelerate"), "launch", "--config_file", f"launch/accelerate/{world}.yaml"]
        launcher += ["--num_processes", str(processes), "--main_process_port", "0"]
        begin = [sys.executable] if processes == 1 else launcher
        environment = {**os.environ, "OMP_NUM_THREADS": "1", TOKEN: self.token}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*begin, "train.py", *flags, "--output_dir", str(run)],
                cwd=REPOSITORY,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def is_over(self) -> bool:
        """Whether it ended by itself."""
        return self.process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Let it run that long, or to its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def wait_until(self, condition: Callable[..., bool]) -> None:
        """Let it run until a condition holds, or to its end."""
        until = time.monotonic() + LONGEST_RUN_S
        while not self.is_over() and not condition():
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"a run took over {LONGEST_RUN_S} s\n{self.errors()}")
            time.sleep(0.02)

    def errors(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """SIGKILL everything it started, until nothing is left."""
        while found := [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get(TOKEN) == self.token
        ]:
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01)
            self.process.poll()
        self.process.wait()


def _finish(flags: list[str], run: Path, world: str = "cpu_zero2", processes: int = 2) -> None:
    attempt = _Attempt(flags, run, world, processes)
    attempt.wait_until(attempt.is_over)
    if attempt.process.returncode:
        raise RuntimeError(f"exit {attempt.process.returncode}: {' '.join(flags)}\n{attempt.errors()}")


def _steps(run: Path) -> int:
    """Of the newest line with a loss."""
    rows = read_metrics(run / "metrics.jsonl")
    return max((int(row["step"]) for row in rows if "train/loss" in row), default=0)


def _kept(run: Path) -> int:
    newest = next(checkpoint.newest_first(run / "checkpoints"), None)
    return int(newest.name.removeprefix("step_")) if newest else 0


def _taken(run: Path) -> list[tuple[int, int, str]]:
    """Every sample taken: step, global index, key."""
    return [(step, g, key) for step, samples in read_samples(run / "logs").items() for g, key in samples]
