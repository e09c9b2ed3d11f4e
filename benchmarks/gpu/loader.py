"""How long a training step waits for the latent shards: the product's writer, reader, loader and step, on local disk.

The clips are random latents of the true size. In the first step the reader processes start; it is told apart.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save

from benchmarks.gpu.bench import Bench, Figures
from benchmarks.gpu.model import FACE_DIM, Scale
from benchmarks.gpu.run import make_run
from benchmarks.gpu.training import KEPT
from faceid.data.clip_settings import PairingSettings
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.latent_shards import CONSTANTS_NAME, PROMPTS_NAME, inactive_name, prompt_name
from faceid.data.shards.shard_writer import Entry, ShardRecord, shard_name, write_index, write_shard
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.training_set import TrainingSet
from faceid.faces.identities.identity import Identity
from faceid.files.provenance import sha256_file, sha256_json
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

# The loop's own; it is not offered to anyone else, and no other would be the product's.
from faceid.training.loop import _loader
from faceid.training.measuring.sample_counts import Drawn
from faceid.training.step import train_step
from faceid.training.world.watchdog import Watchdog

SECTION = "loader"
CLIPS, CLIPS_PER_SHARD, DANCERS = 24, 8, 4


def measure_loader(bench: Bench, frames: int) -> None:
    """Steps fed by the loader, then the loader alone."""
    with tempfile.TemporaryDirectory() as folder:
        latents = Path(folder) / "latents"
        began = time.perf_counter()
        write_latents(latents, bench.scale, frames)
        print(f"loader: {CLIPS} clips of latents written in {time.perf_counter() - began:.1f} s", flush=True)
        bench.attempt(SECTION, f"{frames} frames, {KEPT.name}", lambda: _steps(bench, latents))
        bench.attempt(SECTION, f"{frames} frames, nothing computed", lambda: _alone(bench, latents))


def _steps(bench: Bench, latents: Path) -> Figures:
    run = make_run(bench, KEPT)
    count = 2 + 2 * bench.repeats
    run.training_set, run.num_steps = training_set(latents, run.wan.statistics), count
    batches, drawn, watchdog = iter(_loader(run)), Drawn(), Watchdog(0, Path())
    waited, seconds = [], []
    for step in range(count):
        began = time.perf_counter()
        waited.append(train_step(run, step, batches, drawn, watchdog).data_wait_s)
        bench.wait()
        seconds.append(time.perf_counter() - began)
    # Kernels are found and readers started in the first two.
    share = sum(waited[2:]) / sum(seconds[2:])
    return {
        "readers": run.settings.num_workers,
        "started_in_s": round(waited[0], 3),
        "step_s": round(sum(seconds[2:]) / len(seconds[2:]), 4),
        "wait_s": round(sum(waited[2:]) / len(waited[2:]), 5),
        "longest_wait_s": round(max(waited[2:]), 5),
        "stall_share": round(share, 6),
    }


def _alone(bench: Bench, latents: Path) -> Figures:
    run = make_run(bench, KEPT)
    run.training_set, run.num_steps = training_set(latents, run.wan.statistics), CLIPS * 2
    batches = iter(_loader(run))
    next(batches)
    began = time.perf_counter()
    count = sum(1 for _ in batches)
    return {"clips_per_s": round(count / (time.perf_counter() - began), 1)}


def training_set(latents: Path, statistics: object) -> TrainingSet:
    """As a run builds it, with a face for each dancer."""
    opened = LatentSets.open([latents])
    identity = Identity("nobody", torch.ones(FACE_DIM) / FACE_DIM**0.5, "unknown", "")
    dancer_of = dict(zip(opened.clips, opened.dancers, strict=True))
    bank = FaceBank.of_clips({key: identity.embedding.repeat(4, 1) for key in dancer_of}, dancer_of)
    # Any face will do; that one is dropped at times changes which samples have one, not their number.
    pairing = Pairing(PairingSettings(), 0, identity, bank, dancer_of)
    return TrainingSet(opened, {}, pairing, statistics, 0)  # type: ignore[arg-type]


def write_latents(folder: Path, scale: Scale, frames: int) -> None:
    """A folder of latent shards of that size by the product's own writer."""
    folder.mkdir(parents=True)
    shape = scale.latent(frames)
    generator = torch.Generator().manual_seed(5)
    texts = (DEFAULT_PROMPT, "", DEFAULT_NEGATIVE_PROMPT)
    text = (scale.text_tokens, scale.transformer["text_dim"])
    shared = {
        PROMPTS_NAME: {prompt_name(one): torch.randn(text, generator=generator).bfloat16() for one in texts},
        CONSTANTS_NAME: {inactive_name(*shape[1:]): torch.randn(shape, generator=generator)},
    }
    for name, content in shared.items():
        (folder / name).write_bytes(save(content))
    keys = [f"gbr_sbm_c01_d{n % DANCERS + 1:02d}_mbr0_ch{n + 1:02d}" for n in range(CLIPS)]
    records: list[ShardRecord] = []
    for start in range(0, CLIPS, CLIPS_PER_SHARD):
        entries = [_entry(key, shape, generator) for key in keys[start : start + CLIPS_PER_SHARD]]
        records.append(write_shard(folder / shard_name("latents", len(records)), str(start), entries, []))
    settings = {"num_frames": frames, "height": scale.height, "width": scale.width, "fps": 16.0}
    header = {
        "base": {"name": "random weights", "fingerprint": sha256_json("random weights")},
        "geometry": asdict(scale.geometry),
        "settings": settings,
        "clips_sha256": sha256_json(keys),
        "prompts": {one: prompt_name(one) for one in texts},
        "prompt_of": dict.fromkeys(keys, DEFAULT_PROMPT),
        "files": {name: sha256_file(folder / name) for name in shared},
    }
    write_index(folder, "latents", header, records)


def _entry(key: str, shape: tuple[int, int, int, int], generator: torch.Generator) -> Entry:
    tensors = {name: torch.randn(shape, generator=generator).bfloat16() for name in ("video", "pose")}
    tensors["head_mask"] = torch.ones(shape[1:], dtype=torch.uint8)
    labels = {"frames": shape[1], "dancer": key.split("_")[3], "genre": "br", "camera": "c01"}
    return Entry(key, {"safetensors": save(tensors), "json": b"{}"}, labels)
