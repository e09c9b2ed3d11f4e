"""Does the embedding-swap gap say who will be recognised? Both, for every adapter that a training run left.

    python benchmarks/swap_gap_checkpoints.py --run_dirs [RUN, ...] --output_dir O      adapters of those runs
    python benchmarks/swap_gap_checkpoints.py --output_dir O                            of a small run it trains itself

The gap is read from the run's own metrics (held-out dancers); rank-1 of 16 is of people who are in no training set,
rendered in a pose that nobody trained on, known by the evaluation's recogniser. Writes checkpoints.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import field
from pathlib import Path

import torch
from proof import REPOSITORY
from pydantic.dataclasses import dataclass
from rendered_people import Gallery, make_gallery, rank1_of_renders
from scipy.stats import spearmanr

from faceid.config import parse_sections
from faceid.errors import DataError, run_entry_point
from faceid.logs import progress
from faceid.models.adapter_file import load_adapter
from faceid.models.wan import load_wan
from faceid.provenance import describe_provenance, write_json
from faceid.toy.base import resolve_model_path

GAP = "validation/swap_gap_heldout_dancers"


@dataclass(frozen=True)
class Settings:
    """Which runs, and where the figures go."""

    output_dir: Path
    """Folder for checkpoints.json and, without --run_dirs, the small run."""
    run_dirs: list[Path] = field(default_factory=list)
    """Run folders with face_lora_epoch_N.safetensors, trained with --heldout_dancers."""
    num_people: int = 16
    """People to tell apart."""
    num_poses: int = 2
    """Poses each is rendered in."""


def main(argv: list[str] | None = None) -> int:
    """Parse, train when nothing is given, measure."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("swap_gap_checkpoints.py", __doc__ or "", [Settings], words)
    torch.set_num_threads(1)
    runs = settings.run_dirs or [_small_run(settings.output_dir)]
    gallery = make_gallery(settings.num_people, settings.num_poses)
    rows = [row for run in runs for row in _measure(run, gallery)]
    record = {**describe_provenance(), "spearman": spearman(rows), "people": settings.num_people}
    write_json(settings.output_dir / "checkpoints.json", {**record, "poses": settings.num_poses, "rows": rows})
    for row in rows:
        print(f"{row['adapter']}: gap {row['swap_gap']:.4f}, rank-1 {row['rank1']:.3f}")
    return 0


def _measure(run: Path, gallery: Gallery) -> list[dict]:
    adapters = {int(re.findall(r"\d+", file.stem)[-1]): file for file in run.glob("face_lora_epoch_*.safetensors")}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = {int(row["epoch/number"]): row["step"] for row in rows if "epoch/number" in row}
    gaps = {row["step"]: row[GAP] for row in rows if GAP in row}
    if not adapters or not gaps:
        raise DataError(f"run_dirs={run}: no adapters with {GAP}; train with --heldout_dancers and --validate_every")
    found = []
    for epoch, file in progress(sorted(adapters.items()), "adapters", unit="adapter"):
        wan = load_wan(resolve_model_path("toy"))
        load_adapter(file, wan)
        rank1 = rank1_of_renders(wan, gallery)
        found.append({"adapter": f"{run.name}/{file.name}", "swap_gap": gaps[steps[epoch]], "rank1": rank1})
    return found


def _small_run(folder: Path) -> Path:
    """A stage-1 training from nothing, on a small world, with an adapter and a gap every few steps."""
    world, run = folder / "world", folder / "run"
    commands = [
        f"tools/make_toy_dataset.py --output_dir {world} --num_people 90 --clips_per_person 2 --photos_per_person 4 "
        "--num_frames 9 --seed 1000",
        f"tools/make_shards.py --dance_videos_dir {world}/videos --pose_videos_dir {world}/poses "
        f"--output_dir {folder}/shards --num_frames 9 --height 64 --width 64",
        f"tools/encode_latents.py --shards {folder}/shards --model_path toy --output_dir {folder}/latents",
        f"tools/prepare_face_embeddings.py --face_images_dir {world}/photos/target --output_dir {folder}/identity "
        "--identity_name nobody --encoder_path toy --allow_few",
        "-m accelerate.commands.launch --config_file launch/accelerate/cpu.yaml --main_process_port 0 train.py "
        f"--config configs/toy_stage1.yaml --face_embedding {folder}/identity --latents {folder}/latents "
        f"--shards {folder}/shards --output_dir {run} --num_epochs 30 --validate_every 3 --save_every 3 "
        "--learning_rate 2e-3 --masked_loss_probability 0.9 --mapper_dropout 0.0 --heldout_dancers 10",
    ]
    for command in commands:
        subprocess.run([sys.executable, *command.split()], cwd=REPOSITORY, check=True)
    return run


def spearman(rows: list[dict]) -> float:
    """Rank correlation of gap and rank-1 over checkpoints."""
    return float(spearmanr([row["swap_gap"] for row in rows], [row["rank1"] for row in rows]).statistic)


if __name__ == "__main__":
    run_entry_point(main)
