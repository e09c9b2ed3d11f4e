"""Real workers of sample.py: each a process of its own that can be killed or stopped, started in tenths of a second.

They are forked from a server that has imported torch and faceid and has no threads (multiprocessing's forkserver):
importing anew would take 8 CPU seconds a worker. What they are given is a command line of sample.py, and a manner: how
a worker differs from a plain one. Also here: the poses that they render.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import REPOSITORY
from faceid.claims import STALE_BEATS, Claims
from faceid.errors import run_entry_point
from faceid.media.video import write_video

HEIGHT, WIDTH, NUM_FRAMES, FPS = 32, 48, 5, 16.0
# For the others, until all have started.
LONGEST_WAIT_S = 120.0
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["faceid.sampling.sampling_run", "benchmarks.faults.sampling_workers"])


@dataclass(frozen=True)
class Manner:
    """How a worker differs from a plain one.

    slowness: times as long for every denoising. lease_s: its claims', when not the shipped one. wait_s_per_frame: when
    given, denoising is a wait of so long for each latent frame. start: a file that all wait for once they are ready.
    rank: number and count, for `--static`.
    """

    slowness: float = 1.0
    lease_s: float | None = None
    wait_s_per_frame: float | None = None
    start: Path | None = None
    rank: tuple[int, int] | None = None


def begin_worker(words: Sequence[object], log: Path, manner: Manner | None = None) -> BaseProcess:
    """Start sample.py with these words; its log is added to `log`."""
    process = _SERVER.Process(target=_work, args=([str(word) for word in words], log, manner or Manner()), daemon=True)
    process.start()
    return process


def _work(words: list[str], log: Path, manner: Manner) -> None:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(REPOSITORY)
    if manner.rank is not None:
        os.environ["RANK"], os.environ["WORLD_SIZE"] = map(str, manner.rank)
    _change_denoising(manner)
    _change_lease(manner.lease_s)
    if manner.start is not None:
        _wait_before_work(manner.start)
    # As the program's own file does it; the heavy imports are done.
    sample = importlib.import_module("sample")
    run_entry_point(lambda: sample.main(words))


def _change_denoising(manner: Manner) -> None:
    from faceid.models.rendering import pipeline

    denoise = pipeline.denoise

    def slow(predictor: Any, scheduler: Any, noise: torch.Tensor, *others: Any) -> torch.Tensor:
        began = time.perf_counter()
        if manner.wait_s_per_frame is None:
            latents = denoise(predictor, scheduler, noise, *others)
            seconds = time.perf_counter() - began
        else:
            latents, seconds = noise, manner.wait_s_per_frame * noise.shape[2]
            time.sleep(seconds)
        time.sleep((manner.slowness - 1) * seconds)
        return latents

    pipeline.denoise = slow  # type: ignore[assignment]


def _change_lease(lease_s: float | None) -> None:
    from faceid.sampling.jobs.job_folder import JobFolder

    if lease_s is not None:
        JobFolder.claims = lambda folder: Claims(  # type: ignore[method-assign, assignment]
            folder.folder / "claims", beat_s=lease_s / STALE_BEATS, stale_s=lease_s
        )


def _wait_before_work(start: Path) -> None:
    """Planned and loaded, a worker says so by a file, and waits for the start's."""
    from faceid.sampling.jobs.worker import Worker

    def after_start(work: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            start.with_name(f"{start.name}.ready.{os.getpid()}").touch()
            until = time.monotonic() + LONGEST_WAIT_S
            while not start.exists():
                # Whoever started this may have been killed.
                if time.monotonic() > until:
                    raise TimeoutError(f"{start}: not there after {LONGEST_WAIT_S:g} s")
                time.sleep(0.005)
            work(*arguments)

        return run

    Worker.work, Worker.work_share = (  # type: ignore[method-assign]
        after_start(Worker.work),
        after_start(Worker.work_share),
    )


def write_pose(path: Path, seed: int, num_frames: int = NUM_FRAMES, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A video of noise: for the workers one pose is as good as another. Its path."""
    frames = np.random.default_rng(seed).integers(0, 255, (num_frames, *size_hw, 3), dtype=np.uint8)
    write_video(path, frames, FPS)
    return path
