"""Which part of the stage-1 recipe carries the likeness, and what holds it back: one change at a time, and an oracle.

    python benchmarks/stage1_controls.py --work_dir W --output_dir O [--num_epochs 4]

W is a work folder of tools/train_toy_base.py (its world, shards and latents). Every variant is configs/toy_stage1.yaml
for a few epochs from nothing, with one thing changed. The oracle variant is told what its people truly look like,
instead of what the face encoder makes of their pictures: how much better it is, is what the encoder costs.
Reported: the embedding-swap gap on held-out dancers after every epoch, and rank-1 of 16 unseen people in renders
without guidance. Writes controls.json.
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from proof import REPOSITORY
from pydantic import Field
from pydantic.dataclasses import dataclass
from rendered_people import Gallery, make_gallery, rank1_of_renders
from safetensors.torch import load, save
from swap_gap_checkpoints import GAP
from torch import Tensor

from faceid.config import parse_sections
from faceid.data.dancer_faces.face_bank import write_face_bank
from faceid.data.dancer_faces.face_sources import of_shards
from faceid.data.shards.index import ShardIndex
from faceid.data.shards.shard_writer import Entry, shard_name, write_index, write_shard
from faceid.errors import run_entry_point
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.faces.identity_settings import FaceSettings
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.base.wan import load_wan
from faceid.toy.people import APPEARANCE, appearance_vector, draw_person
from faceid.toy.shipped import resolve_encoder_path, resolve_model_path
from faceid.toy.worlds import TRAINING_WORLD, person_seed
from faceid.training.measuring.metrics import read_metrics

ORACLE = "oracle embedding"
VARIANTS: dict[str, list[str]] = {
    "the recipe": [],
    ORACLE: [],
    "learning rate halved": ["--learning_rate", "1e-3"],
    "masked loss half of the time": ["--masked_loss_probability", "0.5"],
    "mapper dropout": ["--mapper_dropout", "0.1"],
    "no face modulation": ["--face_modulation", "false"],
}


@dataclass(frozen=True)
class Settings:
    """Where the training data is, and how long to train."""

    work_dir: Path
    """Work folder of tools/train_toy_base.py, with world, shards, latents and adapter_identity."""
    output_dir: Path
    """Folder for the runs and controls.json; one in memory is faster."""
    num_epochs: Annotated[int, Field(gt=0)] = 4
    """Epochs of each variant."""
    num_poses: Annotated[int, Field(gt=0)] = 3
    """Poses each of the 16 people is rendered in."""
    at_once: Annotated[int, Field(gt=0)] = 2
    """Variants trained at the same time, one process each."""


class Oracle:
    """True appearance as an embedding: standardised over people, turned into D dimensions, of unit length."""

    def __init__(self, dim: int) -> None:
        known = np.stack([_appearance(TRAINING_WORLD, f"d{number:02d}") for number in range(1, 501)])
        self.mean, self.spread = known.mean(0), known.std(0).clip(0.05)
        square = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.turn = torch.linalg.qr(square)[0][:, : len(APPEARANCE)].float()

    def __call__(self, world: int, name: str) -> Tensor:
        """The embedding of a person, [D]."""
        standard = torch.from_numpy((_appearance(world, name) - self.mean) / self.spread).float()
        return torch.nn.functional.normalize(self.turn @ standard, dim=0)


def main(argv: list[str] | None = None) -> int:
    """Train all variants, render, record."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("stage1_controls.py", __doc__ or "", [Settings], words)
    torch.set_num_threads(1)
    gallery = make_gallery(16, settings.num_poses)
    oracle = Oracle(gallery.faces.shape[1])
    bank = _face_bank(settings)
    with concurrent.futures.ThreadPoolExecutor(settings.at_once) as pool:
        seconds = dict(
            zip(VARIANTS, pool.map(lambda name: _train(settings, name, bank, oracle), VARIANTS), strict=True)
        )
    rows = [{**_measure(settings, name, gallery, oracle), "seconds": seconds[name]} for name in VARIANTS]
    record = {**describe_provenance(), "epochs": settings.num_epochs, "people": 16, "poses": settings.num_poses}
    write_json(settings.output_dir / "controls.json", {**record, "rows": rows})
    for row in rows:
        print(f"{row['variant']:<30} gap {row['swap_gaps'][-1]:.4f}  rank-1 {row['rank1']:.3f}  {row['flags']}")
    return 0


def _appearance(world: int, name: str) -> np.ndarray:
    return appearance_vector(draw_person(person_seed(world, name)))


def _folder(settings: Settings, name: str) -> Path:
    return settings.output_dir / name.replace(" ", "_")


def _face_bank(settings: Settings) -> Path:
    """The faces of the training clips by the face encoder, made once."""
    folder, clips = settings.output_dir / "bank", ShardIndex.load(settings.work_dir / "shards", "clips")
    write_face_bank(of_shards(clips), folder, load_encoder("clip", resolve_encoder_path("toy")), FaceSettings())
    return folder


def _train(settings: Settings, name: str, bank: Path, oracle: Oracle) -> float:
    folder = _folder(settings, name)
    if name == ORACLE:
        bank = _oracle_bank(bank, settings.output_dir / "bank_oracle", oracle)
    began = time.perf_counter()
    epochs = ["--num_epochs", str(settings.num_epochs), "--save_every", str(settings.num_epochs)]
    _run(settings, folder, [*epochs, "--validate_every", "1", "--face_bank", str(bank), *VARIANTS[name]])
    return round(time.perf_counter() - began, 1)


def _oracle_bank(bank: Path, folder: Path, oracle: Oracle) -> Path:
    """The bank with every face replaced by its dancer's true appearance."""
    index = ShardIndex.load(bank, "faces")
    entries = []
    for number, sample in enumerate(index.samples):
        tensors = load(index.read(number, "safetensors"))
        true = oracle(TRAINING_WORLD, sample.dancer).expand(len(tensors["embeddings"]), -1).contiguous()
        entries.append(Entry(sample.key, {"safetensors": save({**tensors, "embeddings": true})}, sample.labels))
    folder.mkdir(parents=True, exist_ok=True)
    record = write_shard(folder / shard_name("faces", 0), "the true appearance", entries, [])
    write_index(folder, "faces", {k: v for k, v in index.header.items() if k not in ("kind", "version")}, [record])
    return folder


def _run(settings: Settings, folder: Path, flags: list[str]) -> None:
    work = settings.work_dir
    command = [sys.executable, "train.py", "--config", "configs/toy_stage1.yaml", "--tensorboard", "false"]
    command += ["--face_embedding", work / "adapter_identity", "--latents", work / "latents"]
    command += ["--output_dir", folder, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as output:
        subprocess.run(map(str, command), cwd=REPOSITORY, env=environment, check=True, stdout=output, stderr=output)


def _measure(settings: Settings, name: str, gallery: Gallery, oracle: Oracle) -> dict[str, Any]:
    folder = _folder(settings, name)
    rows = read_metrics(folder / "metrics.jsonl")
    if name == ORACLE:
        faces = torch.stack([oracle(gallery.world, person) for person in gallery.names])
        gallery = replace(gallery, faces=faces)
    wan = load_wan(resolve_model_path("toy"))
    load_adapter(folder / "face_lora_final.safetensors", wan)
    rank1 = rank1_of_renders(wan, gallery)
    gaps = [round(row[GAP], 5) for row in rows if GAP in row]
    return {"variant": name, "flags": " ".join(VARIANTS[name]), "swap_gaps": gaps, "rank1": round(rank1, 4)}


if __name__ == "__main__":
    run_entry_point(main)
