"""Workers that are killed while they share a folder, and bits that flip in a shard.

Kills: four processes of the real commands share one folder of clips; at random moments, while somebody holds a claim,
one that has begun to work is killed with SIGKILL and another started. What they leave behind in the end must be, byte
for byte, what a single quiet process makes. Flips: a shard is damaged bit by bit; the index must notice each, and
beside it is counted what webdataset's reader makes of the same files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from benchmarks import REPOSITORY
from benchmarks.speed.moving_pictures import draw_film, draw_pose
from faceid.claims import CLAIMS_NAME
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError
from faceid.media.video import write_video

NUM_CLIPS, NUM_WORKERS = 24, 4
# Then the run may finish and the next one begins: the end has its own moments.
MOST_KILLS_A_RUN = 5
# Long films and short clips: a shard takes a fraction of a second, as most of it is looking through the film.
FILM_FRAMES, FILM_HW = 97, (192, 256)
CLIP_FLAGS = "--num_frames 5 --height 64 --width 64 --fps 16 --clips_per_shard 1"
LONGEST_WAIT_S, LONGEST_DELAY_S = 300.0, 0.3

Begin = Callable[[Path], "subprocess.Popen[bytes]"]


def kill_workers(folder: Path, num_kills: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Figures of both commands, half of the kills each; `folder` is filled."""
    names = _draw_clips(folder / "videos", folder / "poses")
    rng = np.random.default_rng(seed)

    def shards(output: Path) -> subprocess.Popen[bytes]:
        inputs = f"--dance_videos_dir {folder}/videos --pose_videos_dir {folder}/poses"
        return _begin(f"tools/make_shards.py {inputs} --output_dir {output} {CLIP_FLAGS}")

    def latents(output: Path) -> subprocess.Popen[bytes]:
        return _begin(
            f"tools/encode_latents.py --shards {folder}/shards --model_path toy --output_dir {output} --device cpu"
        )

    found = {}
    halves = (("shards", shards, num_kills - num_kills // 2), ("latents", latents, num_kills // 2))
    for name, begin, count in halves:
        began = time.perf_counter()
        if begin(folder / name).wait(LONGEST_WAIT_S):
            raise RuntimeError(f"{name}: the single process failed")
        figures = _kill_many(begin, folder / "shared" / name, folder / name, names, count, rng)
        found[name] = {**figures, "seconds": round(time.perf_counter() - began, 1)}
    return found


def flip_bits(folder: Path, num_flips: int, seed: int = 0) -> dict[str, Any]:
    """Flip single bits of a clip shard, one at a time; figures of who noticed how many."""
    _draw_clips(folder / "videos", folder / "poses", count=6, hw=(64, 96), num_frames=24)
    settings = ClipSettings(num_frames=9, height=64, width=96, fps=16, clips_per_shard=6)
    write_clip_shards(folder / "videos", folder / "poses", folder / "shards", settings)
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


def _kill_many(
    begin: Begin, output: Path, quiet: Path, names: list[str], num_kills: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Run after run until so many were killed; every run is compared with the quiet one."""
    figures: Counter[str] = Counter(kills=0, kills_of_claim_holders=0, workers_that_failed=0)
    while figures["kills"] < num_kills:
        shutil.rmtree(output, ignore_errors=True)
        figures.update(_run_and_kill(begin, output, min(num_kills - figures["kills"], MOST_KILLS_A_RUN), rng))
        content = Counter(_clips_of(output))
        figures.update(
            runs=1,
            runs_with_other_bytes=int(_published(output) != _published(quiet)),
            clips_lost=sum(name not in content for name in names),
            clips_doubled=sum(count - 1 for count in content.values()),
            claims_left=len(_holders(output)),
            temporary_files_left=sum(f.is_file() and f.name.startswith(".") for f in output.iterdir()),
        )
    return dict(figures)


def _run_and_kill(begin: Begin, output: Path, most_kills: int, rng: np.random.Generator) -> Counter[str]:
    """One run of four workers to its end, with kills on the way."""
    workers = [begin(output) for _ in range(NUM_WORKERS)]
    at_work: set[int] = set()
    seen: Counter[str] = Counter()
    give_up = time.monotonic() + LONGEST_WAIT_S
    # A worker that ends by itself has seen that everything is done.
    while seen["kills"] < most_kills and all(worker.poll() is None for worker in workers):
        if time.monotonic() > give_up:
            raise TimeoutError(f"{output}: nobody at work after {LONGEST_WAIT_S:g} s")
        at_work |= _holders(output)
        places = [place for place, worker in enumerate(workers) if worker.pid in at_work]
        if not places:
            time.sleep(0.002)
            continue
        time.sleep(rng.uniform(0, LONGEST_DELAY_S))
        victim = workers[rng.choice(places)]
        if victim.poll() is not None:
            break
        victim.kill()
        seen.update(kills=1, kills_of_claim_holders=int(victim.pid in _holders(output)))
        victim.wait()
        workers[workers.index(victim)] = begin(output)
        give_up = time.monotonic() + LONGEST_WAIT_S
    codes = [worker.wait(LONGEST_WAIT_S) for worker in workers]
    seen.update(workers_that_failed=sum(code != 0 for code in codes))
    return seen


def _begin(words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    silent = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, *words.split()], cwd=REPOSITORY, env=environment, stdout=silent, stderr=silent
    )


def _holders(output: Path) -> set[int]:
    """Process ids that claims in the folder name."""
    pids = set()
    with suppress(FileNotFoundError):
        for claim in (output / CLAIMS_NAME).iterdir():
            if not claim.name.startswith("."):
                with suppress(FileNotFoundError, ValueError, IndexError):
                    pids.add(int(json.loads(claim.read_text(encoding="utf-8").splitlines()[0])["pid"]))
    return pids


def _published(folder: Path) -> dict[str, bytes]:
    """Every file that a reader sees, but the provenance, which holds the time."""
    files = (f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and f.name != "provenance.json")
    return {file.name: file.read_bytes() for file in files}


def _clips_of(folder: Path) -> list[str]:
    """The key of every sample in every tar, as the tars say."""
    keys = []
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            keys += [name.removesuffix(".json") for name in tar.getnames() if name.endswith(".json")]
    return keys


def _draw_clips(
    videos: Path, poses: Path, count: int = NUM_CLIPS, hw: tuple[int, int] = FILM_HW, num_frames: int = FILM_FRAMES
) -> list[str]:
    """Clips and their poses; their names, which are their keys as well."""
    names = [f"dance_{number:03d}" for number in range(count)]
    for seed, name in enumerate(names):
        write_video(videos / f"{name}.mp4", draw_film(num_frames, hw, seed), 16, crf=23)
        write_video(poses / f"{name}_pose.mp4", draw_pose(num_frames, hw), 16, crf=23)
    return names
