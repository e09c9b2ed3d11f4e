"""How long a batch of unequal jobs takes, from the start to the last published video, with denoising as a timed wait.

Waiting takes no core, so that more workers than cores can be looked at. All else is real: planning, claims, the VAE on
small pictures, encoding, publishing. A job's wait is by its pose video's length, which is skewed: a few are long.
Beside it stands what longest-processing-time-first (LPT) would give with every job's time known and no overhead at
all, and the static split (--static).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.sampling_workers import FPS, Manner, begin_worker, write_pose

# Small pictures: the wait is the work.
SIZE_HW = (16, 16)
# Latent frames: reading and encoding a longer one would no longer be little beside the wait.
LONGEST_FRAMES = 12
LONGEST_RUN_S = 900.0


@dataclass(frozen=True)
class Jobs:
    """Pose videos of unequal lengths, one job each. waits_s: what denoising each takes."""

    words: list[str]
    waits_s: list[float]
    wait_s_per_frame: float

    @classmethod
    def make(cls, folder: Path, count: int, spread: float, mean_s: float, seed: int = 7) -> Jobs:
        """spread: of the log of the lengths, around 3 latent frames. mean_s: of a job's wait."""
        drawn = np.random.default_rng(seed).lognormal(np.log(3), spread, count)
        frames = np.clip(np.round(drawn), 1, LONGEST_FRAMES).astype(int)
        for number, length in enumerate(frames):
            write_pose(folder / f"p{number:03d}_pose.mp4", number, 4 * (int(length) - 1) + 1, SIZE_HW)
        wait = mean_s / float(frames.mean())
        words = f"--batch --model_path toy --pose_videos_dir {folder} --height {SIZE_HW[0]} --width {SIZE_HW[1]} "
        words += f"--num_frames all --window_frames 0 --fps {FPS:g} --cfg_scale 1 --num_inference_steps 1 --device cpu "
        return cls((words + "--gallery false").split(), [wait * int(length) for length in frames], wait)


@dataclass(frozen=True)
class Measured:
    """One batch. bound_s: LPT's. overhead: what it took beyond, as a ratio."""

    workers: int
    is_static: bool
    slow_workers: int
    seconds: float
    bound_s: float
    attempts: int

    @property
    def ratio(self) -> float:
        """Of the makespan to the bound."""
        return self.seconds / self.bound_s


def measure(
    jobs: Jobs, out: Path, num_workers: int, is_static: bool = False, slownesses: tuple[float, ...] = ()
) -> Measured:
    """Run one batch. slownesses: of the first workers; the others are as fast as the waits say."""
    start = out.with_name(f"{out.name}.start")
    speeds = [*(1 / slowness for slowness in slownesses), *[1.0] * (num_workers - len(slownesses))]
    workers = []
    for place, speed in enumerate(speeds):
        rank = (place, num_workers) if is_static else None
        manner = Manner(1 / speed, wait_s_per_frame=jobs.wait_s_per_frame, start=start, rank=rank)
        words = [*jobs.words, *(["--static", "true"] if is_static else []), "--output_dir", out]
        workers.append(begin_worker(words, out.with_name(f"{out.name}.log"), manner))
    until = time.monotonic() + LONGEST_RUN_S
    while len(list(start.parent.glob(f"{start.name}.ready.*"))) < num_workers:
        if time.monotonic() > until or not all(worker.is_alive() for worker in workers):
            raise RuntimeError(f"{out}: not all workers became ready; see {out}.log")
        time.sleep(0.02)
    start.touch()
    began = start.stat().st_mtime
    records = out / ".jobs" / "done"
    attempts: set[str] = set()
    while len(names := list(records.glob("[!.]*.json"))) < len(jobs.waits_s):
        attempts |= {path.name for path in (out / ".jobs" / "attempts").glob("*/[!.]*.json")}
        if time.monotonic() > until or not any(worker.is_alive() for worker in workers):
            raise RuntimeError(f"{out}: {len(names)} of {len(jobs.waits_s)} jobs done; see {out}.log")
        time.sleep(0.05)
    ended = max(path.stat().st_mtime for path in names)
    # Whoever is still at a job that another has published: nobody waits for it.
    for worker in workers:
        worker.join(0.5)
        worker.kill()
        worker.join()
    bound = max(lpt_s(jobs.waits_s, speeds), max(jobs.waits_s))
    return Measured(num_workers, is_static, len(slownesses), ended - began, bound, len(attempts))


def lpt_s(waits_s: list[float], speeds: list[float]) -> float:
    """The makespan of longest-processing-time-first: each job, longest first, to whom it ends soonest with."""
    free_s = [0.0] * len(speeds)
    for wait in sorted(waits_s, reverse=True):
        ends = [at + wait / speed for at, speed in zip(free_s, speeds, strict=True)]
        place = int(np.argmin(ends))
        free_s[place] = ends[place]
    return max(free_s)


def ideal_s(waits_s: list[float], speeds: list[float]) -> float:
    """Total work by the sum of speeds, but never under the longest job on the fastest."""
    return max(sum(waits_s) / sum(speeds), max(waits_s) / max(speeds))
