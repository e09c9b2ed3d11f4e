"""Does the embedding-swap gap say who will be recognised? Both, for every adapter that a training run left.

    python -m benchmarks.identity.swap_gap --run_dirs [RUN, ...] --output_dir O      adapters of those runs
    python -m benchmarks.identity.swap_gap --output_dir O                            of a small run it trains itself
    python -m benchmarks.identity.swap_gap --demo_dir D --output_dir O               of no run: the quick version

The quick version takes the shipped adapter at eight strengths, from nearly untrained to whole (the layers that begin at
zero times 1/8, 2/8, ...), and half as many clips, of a demo, for the gap. Otherwise the gap is read from the run's own
metrics (held-out dancers). Rank-1 is of people who are in no training set, rendered without guidance in poses nobody
trained on, known by the evaluation's recogniser. Writes checkpoints.json.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import field
from pathlib import Path

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr

from benchmarks import REPOSITORY
from benchmarks.identity.rendered_people import ENCODER, Gallery, make_gallery, rank1_of_renders
from benchmarks.prepared_world import flags_of, prepare_world
from faceid.config import parse_sections
from faceid.data.dancer_faces.face_bank import read_face_bank
from faceid.data.latents.latent_reader import LatentSet
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.base.wan import load_wan
from faceid.toy.shipped import resolve_adapter_path, resolve_encoder_path, resolve_model_path
from faceid.training.measuring.metrics import read_metrics
from faceid.training.validate import SWAP_GAP_CLIPS
from faceid.training.validation.losses import pair_faces, swap_gap

GAP = "validation/swap_gap_heldout_dancers"
# The last layer of each path from a face, or a LoRA, into the transformer.
BEGINS_AT_ZERO = re.compile(r"face_attention\.\d+\.value|face_modulation\.\d+\.up|lora_B")


@dataclass(frozen=True)
class Settings:
    """Which runs, and where the figures go."""

    output_dir: Path
    """Folder for checkpoints.json and, without --run_dirs, the small run."""
    run_dirs: list[Path] = field(default_factory=list)
    """Run folders with face_lora_epoch_N.safetensors, trained with --heldout_dancers."""
    demo_dir: Path | None = None
    """Output folder of launch/demo.sh, for the quick version."""
    num_people: int = 16
    """People to tell apart."""
    num_poses: int = 3
    """Poses each is rendered in."""


def main(argv: list[str] | None = None) -> int:
    """Parse, train when nothing is given, measure."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("benchmarks.identity.swap_gap", __doc__ or "", [Settings], words)
    torch.set_num_threads(1)
    if settings.run_dirs and settings.demo_dir:
        raise ConfigError("run_dirs, demo_dir: give one of them, not both")
    gallery = make_gallery(settings.num_people, settings.num_poses)
    if settings.demo_dir is not None:
        rows = _measure_strengths(settings.demo_dir, gallery)
    else:
        runs = settings.run_dirs or [_small_run(settings.output_dir)]
        rows = [row for run in runs for row in _measure(run, gallery)]
    record = {**describe_provenance(), "spearman": spearman(rows), "people": settings.num_people}
    write_json(settings.output_dir / "checkpoints.json", {**record, "poses": settings.num_poses, "rows": rows})
    for row in rows:
        print(f"{row['adapter']}: gap {row['swap_gap']:.4f}, rank-1 {row['rank1']:.3f}")
    return 0


def _measure(run: Path, gallery: Gallery) -> list[dict]:
    adapters = {int(re.findall(r"\d+", file.stem)[-1]): file for file in run.glob("face_lora_epoch_*.safetensors")}
    rows = read_metrics(run / "metrics.jsonl")
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


def _measure_strengths(demo: Path, gallery: Gallery) -> list[dict]:
    latents = LatentSet.open(demo / "latents")
    faces = read_face_bank(
        demo / "run_taught/cache/faces", load_encoder("clip", resolve_encoder_path(ENCODER)).fingerprint
    )
    pairs = pair_faces(latents, faces, range(len(latents)), SWAP_GAP_CLIPS // 2)
    wan, found = load_wan(resolve_model_path("toy")), []
    adapter, _ = load_adapter(Path(str(resolve_adapter_path(ENCODER))), wan)
    last_layers = [parameter for name, parameter in adapter.parameters().items() if BEGINS_AT_ZERO.search(name)]
    trained = [parameter.detach().clone() for parameter in last_layers]
    for strength in progress(np.arange(1, 9) / 8, "strengths", unit="adapter"):
        for parameter, whole in zip(last_layers, trained, strict=True):
            parameter.data.copy_(float(strength) * whole)
        gap = swap_gap(wan.transformer, latents, wan.statistics, pairs, seed=0).gap
        rank1 = rank1_of_renders(wan, gallery)
        found.append({"adapter": f"{ENCODER} at {strength:.3f}", "swap_gap": gap, "rank1": rank1})
    return found


def _small_run(folder: Path) -> Path:
    """A stage-1 training from nothing, on a small world, with an adapter and a gap every few steps."""
    run = folder / "run"
    prepare_world(folder, "--num_people 300 --photos_per_person 4 --seed 1000", "nobody", 96, ENCODER)
    command = "-m accelerate.commands.launch --config_file launch/accelerate/cpu.yaml --main_process_port 0 train.py "
    command += f"--config configs/toy_stage1.yaml --encoder_path {ENCODER} --output_dir {run} "
    command += "--num_epochs 30 --validate_every 3 --save_every 3"
    subprocess.run([sys.executable, *command.split(), *flags_of(folder)], cwd=REPOSITORY, check=True)
    return run


def spearman(rows: list[dict]) -> float:
    """Rank correlation of gap and rank-1 over checkpoints."""
    return float(spearmanr([row["swap_gap"] for row in rows], [row["rank1"] for row in rows]).statistic)


if __name__ == "__main__":
    run_entry_point(main)
