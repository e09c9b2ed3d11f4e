"""How long a training step waits for the latent shards: the product's writer, reader, loader and step, on local disk.

The clips are random latents of the true size. In the first step the reader processes start; it is told apart.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.gpu.bench import Bench, Figures
from benchmarks.gpu.run import make_run
from benchmarks.gpu.training import KEPT
from benchmarks.speed.data_scale import make_training_set, write_latents
from faceid.data.clip_settings import ClipSettings
from faceid.data.latents.latent_sets import LatentSets

# The loop's own; it is not offered to anyone else, and no other would be the product's.
from faceid.training.loop import _loader
from faceid.training.measuring.sample_counts import SampleCounts
from faceid.training.step import train_step
from faceid.training.world.watchdog import Watchdog

SECTION = "loader"
CLIPS, CLIPS_PER_SHARD = 24, 8


def measure_loader(bench: Bench, frames: int) -> None:
    """Steps fed by the loader, then the loader alone."""
    with tempfile.TemporaryDirectory() as folder:
        latents = Path(folder) / "latents"
        began = time.perf_counter()
        scale = bench.scale
        settings = ClipSettings(frames, scale.height, scale.width, clips_per_shard=CLIPS_PER_SHARD)
        text = (scale.text_tokens, scale.transformer["text_dim"])
        write_latents(latents, CLIPS, scale.latent(frames)[1:], text, scale.geometry, settings)
        print(f"loader: {CLIPS} clips of latents written in {time.perf_counter() - began:.1f} s", flush=True)
        bench.attempt(SECTION, f"{frames} frames, {KEPT.name}", lambda: _steps(bench, latents))
        bench.attempt(SECTION, f"{frames} frames, nothing computed", lambda: _alone(bench, latents))


def _steps(bench: Bench, latents: Path) -> Figures:
    run = make_run(bench, KEPT)
    count = 2 + 2 * bench.repeats
    run.training_set, run.num_steps = make_training_set(LatentSets.open([latents]), run.wan.statistics), count
    batches, counts, watchdog = iter(_loader(run)), SampleCounts(), Watchdog(0, Path())
    waited, seconds = [], []
    for step in range(count):
        began = time.perf_counter()
        waited.append(train_step(run, step, batches, counts, watchdog).data_wait_s)
        bench.wait()
        seconds.append(time.perf_counter() - began)
    # Kernels are found and readers started in the first two.
    share = sum(waited[2:]) / sum(seconds[2:])
    return {
        "readers": run.sections.execution.num_workers,
        "started_in_s": round(waited[0], 3),
        "step_s": round(sum(seconds[2:]) / len(seconds[2:]), 4),
        "wait_s": round(sum(waited[2:]) / len(waited[2:]), 5),
        "longest_wait_s": round(max(waited[2:]), 5),
        "stall_share": round(share, 6),
    }


def _alone(bench: Bench, latents: Path) -> Figures:
    run = make_run(bench, KEPT)
    run.training_set, run.num_steps = make_training_set(LatentSets.open([latents]), run.wan.statistics), CLIPS * 2
    batches = iter(_loader(run))
    next(batches)
    began = time.perf_counter()
    count = sum(1 for _ in batches)
    return {"clips_per_s": round(count / (time.perf_counter() - began), 1)}
