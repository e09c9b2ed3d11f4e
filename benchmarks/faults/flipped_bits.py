"""Bits that flip in a shard: the index must notice each; beside it, what webdataset's reader makes of the same file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from benchmarks.speed.moving_pictures import draw_film, draw_pose
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError
from faceid.media.video import write_video

CLIP = ClipSettings(num_frames=9, height=64, width=96, fps=16, clips_per_shard=6)


def flip_bits(folder: Path, num_flips: int, seed: int = 0) -> dict[str, Any]:
    """Flip single bits of a clip shard, one at a time; figures of who noticed how many."""
    for number in range(CLIP.clips_per_shard):
        drawn = draw_film(24, (64, 96), number), draw_pose(24, (64, 96))
        for place, frames in zip((f"videos/{number}.mp4", f"poses/{number}_pose.mp4"), drawn, strict=True):
            write_video(folder / place, frames, 16, crf=23)
    write_clip_shards(folder / "videos", folder / "poses", folder / "shards", CLIP)
    path = folder / "shards/clips-000000.tar"
    data = path.read_bytes()
    index = ShardIndex.load(folder / "shards", "clips")
    whole = read_by_webdataset(path)
    ours = {s.key: {name: index.read(s.key, name) for name in s.members} for s in index.samples}
    rng = np.random.default_rng(seed)
    peer: Counter[str] = Counter()
    noticed = 0
    for position, bit in zip(rng.integers(len(data), size=num_flips), rng.integers(8, size=num_flips), strict=True):
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            ShardIndex.load(folder / "shards", "clips").verify(0)
        except DataError:
            noticed += 1
        peer[_what_webdataset_makes(path, whole)] += 1
    path.write_bytes(data)
    return {
        "flips": num_flips,
        "shard_bytes": len(data),
        "noticed": noticed,
        "webdataset": dict(sorted(peer.items())),
        "webdataset_reads_the_whole_shard": whole == ours,
        "samples": len(whole),
    }


def read_by_webdataset(path: Path) -> dict[str, dict[str, bytes]]:
    """What its own reader finds in a shard, by key and member; with its strictest handler."""
    dataset = webdataset.WebDataset(str(path), handler=webdataset.reraise_exception, shardshuffle=False)
    return {
        sample["__key__"]: {name: value for name, value in sample.items() if not name.startswith("__")}
        for sample in dataset
    }


def _what_webdataset_makes(path: Path, whole: dict[str, dict[str, bytes]]) -> str:
    try:
        found = read_by_webdataset(path)
    except Exception:  # noqa: BLE001 (whatever it raises, it has noticed)
        return "raised"
    if found == whole:
        return "all samples, nothing changed"
    same_names = found.keys() == whole.keys() and all(found[key].keys() == whole[key].keys() for key in whole)
    return "all samples, content damaged, no error" if same_names else "samples lost or split, no error"
