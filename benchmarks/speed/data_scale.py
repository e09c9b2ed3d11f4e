"""How do opening, memory and the first batch grow from 10 clips to 100,000?

The payloads are tiny and written by the product's own writer, 32 clips a shard as by default: what is measured is what
a clip costs beside its data. One fresh process a point, with its imports done; several times, and the medians. In
memory, so no disk is measured. Faces are banked by film, as AIST's would be: a film is eight clips here.

    python -m benchmarks.speed.data_scale FOLDER      one point, as JSON; what the proof starts
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measured_memory import begin_peak_anew
from safetensors.torch import save

from benchmarks import REPOSITORY
from faceid.data.clip_settings import ClipSettings
from faceid.data.dancer_faces.face_bank import BankedFaces, FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.latent_shards import CONSTANTS_NAME, PROMPTS_NAME, inactive_name, prompt_name
from faceid.data.shards.shard_writer import Entry, ShardRecord, shard_name, write_index, write_shard
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import TrainingSet, collate
from faceid.faces.identities.identity import Identity
from faceid.files.provenance import sha256_file
from faceid.geometry import Geometry
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.base.latent_codec import LatentStatistics

SIZES = (10, 1_000, 100_000)
BATCH, LATER_SAMPLES = 4, 64
NUM_DANCERS, CLIPS_PER_FILM, FACES_PER_FILM, FACE_DIM = 40, 8, 8, 768
GENRES = ("br", "po", "lo", "mh", "lh", "ho", "wa", "kr", "js", "jb")

GEOMETRY = Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
ONE_FRAME = ClipSettings(num_frames=1, height=16, width=16)


def measure_sizes(folder: Path, rounds: int) -> dict[int, dict[str, float]]:
    """Figures by number of clips; what is written goes to `folder`, a few hundred MB. Medians of `rounds` processes."""
    points: dict[int, list[dict[str, float]]] = {num_clips: [] for num_clips in SIZES}
    for num_clips in SIZES:
        write_latents(folder / str(num_clips), num_clips)
    # Sizes by turns, so that a busy moment of the machine does not fall on one of them.
    for _ in range(rounds):
        for num_clips in SIZES:
            points[num_clips].append(_measure_in_a_process(folder / str(num_clips)))
    return {
        num_clips: {name: statistics.median(point[name] for point in seen) for name in seen[0]}
        for num_clips, seen in points.items()
    }


def slope(found: dict[int, dict[str, float]], name: str, first: int, last: int) -> float:
    """Of log(value) over log(clips): 0 is flat, 1 is proportional."""
    return math.log(found[last][name] / found[first][name]) / math.log(last / first)


def write_latents(
    folder: Path,
    num_clips: int,
    size: tuple[int, int, int] = (1, 2, 2),
    text: tuple[int, int] = (8, 32),
    geometry: Geometry = GEOMETRY,
    settings: ClipSettings = ONE_FRAME,
) -> None:
    """A folder of latent shards by the product's own writer; every clip has the same random latents.

    size: f, h, w of the latents. text: tokens and width of a prompt.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(16, *size, generator=generator).bfloat16() for name in ("video", "pose")}
    payload = save({**tensors, "head_mask": torch.ones(size, dtype=torch.uint8)})
    folder.mkdir(parents=True)
    keys = [_key(number) for number in range(num_clips)]
    records: list[ShardRecord] = []
    for start in range(0, num_clips, settings.clips_per_shard):
        chosen = keys[start : start + settings.clips_per_shard]
        entries = [Entry(key, {"safetensors": payload, "json": b"{}"}, _labels(key)) for key in chosen]
        records.append(write_shard(folder / shard_name("latents", len(records)), str(start), entries, []))
    texts = (DEFAULT_PROMPT, "", DEFAULT_NEGATIVE_PROMPT)
    shared = {
        PROMPTS_NAME: {prompt_name(one): torch.randn(text, generator=generator) for one in texts},
        CONSTANTS_NAME: {inactive_name(*size): torch.randn(16, *size, generator=generator)},
    }
    for name, content in shared.items():
        (folder / name).write_bytes(save(content))
    header = {
        "base": {"name": "none", "fingerprint": hashlib.sha256(b"none").hexdigest()},
        "geometry": asdict(geometry),
        "settings": asdict(settings),
        "clips_sha256": hashlib.sha256(str(num_clips).encode()).hexdigest(),
        "prompts": {one: prompt_name(one) for one in texts},
        "prompt_of": dict.fromkeys(keys, DEFAULT_PROMPT),
        "files": {name: sha256_file(folder / name) for name in shared},
    }
    write_index(folder, "latents", header, records)


def measure(folder: Path) -> dict[str, float]:
    """Open, make the first batch, then later samples. Memory in MB of 10^6 bytes, over what the process held before."""
    torch.set_num_threads(1)
    # Imports have had their peak.
    begin_peak_anew()
    before_mb = _memory_mb("VmRSS")
    began = time.perf_counter()
    latents = LatentSet.open(folder)
    opened = time.perf_counter()
    held_mb, peak_mb = (_memory_mb(name) - before_mb for name in ("VmRSS", "VmHWM"))
    training_set = make_training_set(latents, LatentStatistics((0.0,) * 16, (1.0,) * 16))
    built = time.perf_counter()
    samples = collate([training_set[g] for g in range(BATCH)])
    first_batch = time.perf_counter()
    assert samples.x0.shape == (BATCH, 16, 1, 2, 2)
    later = []
    for g in range(BATCH, BATCH + LATER_SAMPLES):
        started = time.perf_counter()
        training_set[g]
        later.append(time.perf_counter() - started)
    return {
        "open_s": opened - began,
        "held_mb": held_mb,
        "peak_mb": peak_mb,
        "index_mb": (folder / "index.json").stat().st_size / 1e6,
        "training_set_s": built - opened,
        "first_batch_s": first_batch - built,
        "later_sample_ms": statistics.median(later) * 1e3,
    }


def make_training_set(latents: LatentSet | LatentSets, statistics: LatentStatistics) -> TrainingSet:
    """As the trainer builds it. One tensor stands for everybody's faces: a bank's own memory is not the point."""
    identity = Identity("nobody", torch.ones(FACE_DIM) / FACE_DIM**0.5, "unknown", "")
    dancer_of = dict(zip(latents.clips, latents.dancers, strict=True))
    embeddings, scores = identity.embedding.repeat(FACES_PER_FILM, 1), torch.ones(FACES_PER_FILM)
    films = latents.clips[::CLIPS_PER_FILM]
    bank = FaceBank(BankedFaces(key, dancer_of[key], embeddings, scores) for key in films)
    pairing = Pairing(PairingSettings(), 0, identity, bank, dancer_of)
    return TrainingSet(latents, {}, pairing, statistics, StreamOrder(0))


def _key(number: int) -> str:
    """Like AIST's: dancers with a genre each, six pieces of music, ten choreographies, nine cameras."""
    film, part = divmod(number, CLIPS_PER_FILM)
    dance, dancer = divmod(film, NUM_DANCERS)
    genre = GENRES[dancer % len(GENRES)]
    music, choreography, camera = dance % 6, dance // 6 % 10, dance // 60 % 9
    # The film's number follows: 100,000 clips are more than AIST has.
    return (
        f"g{genre}_sbm_c{camera + 1:02d}_d{dancer + 1:02d}_m{genre}{music}_ch{choreography + 1:02d}"
        f"_film_{film:05d}_clip_{part:03d}"
    )


def _labels(key: str) -> dict[str, Any]:
    genre, _, camera, dancer = key.split("_")[:4]
    return {"frames": 1, "dancer": dancer, "genre": genre, "camera": camera}


def _measure_in_a_process(folder: Path) -> dict[str, float]:
    """Not in a fork of this one: pages are copied at the first write, and what was freed here is used again there."""
    command = [sys.executable, "-m", "benchmarks.speed.data_scale", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _memory_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:")) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
