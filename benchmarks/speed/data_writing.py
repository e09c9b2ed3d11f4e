"""Writing a shard of latents: ours, and webdataset's TarWriter with a checksum made of the file it wrote.

Both write the same 20 samples of a real clip's size, by turns (A B B A), into memory, so that no disk is measured;
then onto the disk at hand, where ours also waits until the shard is there (fsync) and TarWriter does not.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import webdataset
from safetensors.torch import save

from benchmarks.speed.data_speed import cpu_seconds_by_turns, shortest_and_median
from faceid.data.shards.shard_writer import Entry, write_shard
from faceid.files.provenance import sha256_file

NUM_SAMPLES, LATENT_SIZE = 20, (17, 60, 104)


def compare_writing(in_memory: Path, on_disk: Path, rounds: int) -> dict[str, Any]:
    """CPU and wall seconds of a shard by way and place; the folders are made and removed."""
    samples = _samples()
    figures: dict[str, Any] = {"shard_mb": round(sum(len(data) for _, data in samples) / 1e6, 1)}
    for place, folder in (("memory", in_memory), ("disk", on_disk)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        walls: dict[str, list[float]] = {"ours": [], "tar_writer": []}
        ways = {
            "ours": _timed(functools.partial(_write_ours, folder, samples), walls["ours"]),
            "tar_writer": _timed(functools.partial(_write_theirs, folder, samples), walls["tar_writer"]),
        }
        for way in ways.values():
            way()  # Warm: the first shard finds no free pages.
        for found in walls.values():
            found.clear()
        figures[place] = {
            "cpu_s": shortest_and_median(cpu_seconds_by_turns(ways, rounds)),
            "wall_s": shortest_and_median(walls),
        }
        shutil.rmtree(folder)
    return figures


def _samples() -> list[tuple[str, bytes]]:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number in range(NUM_SAMPLES):
        tensors = {name: torch.randn(16, *LATENT_SIZE, generator=generator).bfloat16() for name in ("video", "pose")}
        head_mask = torch.zeros(LATENT_SIZE, dtype=torch.uint8)
        samples.append((f"clip_{number:06d}", save({**tensors, "head_mask": head_mask})))
    return samples


def _write_ours(folder: Path, samples: list[tuple[str, bytes]]) -> None:
    entries = [Entry(key, {"safetensors": data, "json": b"{}"}, {"frames": 65}) for key, data in samples]
    write_shard(folder / "latents-000000.tar", "", entries, [])


def _write_theirs(folder: Path, samples: list[tuple[str, bytes]]) -> None:
    path = folder / "theirs.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for key, data in samples:
            writer.write({"__key__": key, "safetensors": data, "json": b"{}"})
    sha256_file(path)


def _timed(way: Callable[[], None], walls: list[float]) -> Callable[[], None]:
    def run() -> None:
        began = time.perf_counter()
        way()
        walls.append(time.perf_counter() - began)

    return run
