"""Latents of a clip as tensors: our verified shards, one `.pth` a clip as DiffSynth caches them, webdataset's reader.

All three read the same tensors of a real clip's size, in one process, the page cache warm, and are compared first. Ours
looks up any clip by number and checks what it reads to be finite; webdataset reads a shard from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import webdataset
from data_scale import write_latents
from data_speed import LATENT_SIZE, cpu_seconds_by_turns
from peers_ratios import Ratio, in_a_fork, largest_error, least_and_median
from safetensors.torch import load
from torch import Tensor

from faceid.data.latents.latent_reader import LatentSet

MIDDLE_CLIPS, TINY_CLIPS = 24, 3
NAMES = ("video", "pose", "head_mask")
Clip = dict[str, Tensor]


def compare_reading(folder: Path, rounds: int, num_clips: int) -> tuple[list[Ratio], dict[str, Any]]:
    """CPU seconds of a clip by way, and every measurement. folder: some 330 MB are written there."""
    in_a_fork(partial(_write, folder, num_clips))
    seconds = in_a_fork(partial(_seconds, folder, rounds))
    ours = least_and_median(seconds["ours"])
    ratios = []
    for row, way, peer in (
        ("A2", "pth", f"one .pth a clip, torch.load (torch {torch.__version__}), as DiffSynth-Studio caches"),
        ("A9", "webdataset", f"webdataset {webdataset.__version__} over the same shard, safetensors' load"),
    ):
        what = "latents of a clip as tensors"
        ratios.append(Ratio(row, what, peer, ours, least_and_median(seconds[way]), "CPU s a clip", "equal to the bit"))
    files = {"ours": len(list((folder / "shards").iterdir())), "pth": num_clips}
    return ratios, {"clips": num_clips, "size": LATENT_SIZE, "files": files, "cpu_s": seconds}


def _write(folder: Path, num_clips: int) -> None:
    write_latents(folder / "shards", num_clips, LATENT_SIZE)
    (folder / "pth").mkdir()
    for number, clip in enumerate(_by_ours(LatentSet.open(folder / "shards"))):
        torch.save({name: tensor.clone() for name, tensor in clip.items()}, folder / "pth" / f"{number}.pth")


def _seconds(folder: Path, rounds: int) -> dict[str, list[float]]:
    latents = LatentSet.open(folder / "shards")
    ways: dict[str, Callable[[], Iterator[Clip]]] = {
        "ours": partial(_by_ours, latents),
        "pth": partial(_by_torch, folder / "pth"),
        "webdataset": partial(_by_webdataset, folder / "shards"),
    }
    for mine, *others in zip(*(way() for way in ways.values()), strict=True):
        for other in others:
            largest_error(mine, other, 0.0)
    # What the first touch of a shard costs once in a run is over.
    spent = cpu_seconds_by_turns({name: partial(_read_through, way) for name, way in ways.items()}, rounds)
    return {name: [seconds / len(latents) for seconds in times] for name, times in spent.items()}


def _read_through(way: Callable[[], Iterator[Clip]]) -> None:
    """Clip by clip, as a loader does, and every value of it: a tensor alone may be a file mapped and not yet read."""
    for clip in way():
        torch.stack([clip["video"], clip["pose"]]).float()


def _by_ours(latents: LatentSet) -> Iterator[Clip]:
    for number in range(len(latents)):
        sample = latents[number]
        yield {name: getattr(sample, name) for name in NAMES}


def _by_torch(folder: Path) -> Iterator[Clip]:
    for number in range(len(list(folder.iterdir()))):
        yield torch.load(folder / f"{number}.pth", map_location="cpu", weights_only=True)


def _by_webdataset(folder: Path) -> Iterator[Clip]:
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        yield load(sample["safetensors"])
