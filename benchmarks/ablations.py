"""What each ingredient of the recipe is worth: both stages on a small drawn world from nothing, one thing changed.

    python benchmarks/ablations.py --output_dir O [--stage1_epochs 20] [--stage2_epochs 5]

Stage 1 teaches faces on 300 drawn dancers, stage 2 the target of the same world. Reported for each variant:
rank-1 of 16 people who are in no training set, from their photos; rank-1 and margin of the target among them; the
embedding-swap gap on held-out dancers; and how far the model without a face has moved from the base (mean squared
difference of their predictions on held-out clips, by the base's own error). Writes ablations.json.
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from proof import REPOSITORY
from pydantic import Field
from pydantic.dataclasses import dataclass
from rendered_people import Gallery, cut_heads, make_gallery, mean_face, rank1_of_renders, render_people
from swap_gap_checkpoints import GAP

from faceid import flow
from faceid.config import parse_sections
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.order import hold_out
from faceid.errors import run_entry_point
from faceid.faces.identities.identity import load_identity
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import crop_face
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.media import images
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.base.wan import WanModel, load_wan
from faceid.toy.shipped import resolve_model_path
from faceid.training.measuring.metrics import read_metrics
from faceid.vace import pose_control

VARIANTS: dict[str, str] = {
    "the recipe": "",
    "no averaged weights": "--ema 0",
    "loss over the whole picture": "--masked_loss_probability 0",
    "faces from the same clip": "--other_clip_share 0",
    "one face at a time": "--max_faces 1",
    "no dropouts": "--face_dropout 0 --text_dropout 0 --both_dropout 0",
    "no logit-normal noise levels": "--logit_normal_share 0",
    "null face taught by data": "--null_target data",
    "no null face in stage 2": "--stage2_null 0 --stage2_clips 0.5",
    "photos alone in stage 2": "--stage2_null 0 --stage2_clips 0 --stage2_photos 1",
    "no stage 2": "--freeze_mapper_after_epochs 100000",
    "the naive pairing": "--pairing constant",
}
HELDOUT_DANCERS, SEED, DRIFT_CLIPS = 16, 42, 8


@dataclass(frozen=True)
class Settings:
    """How long to train, and where."""

    output_dir: Path
    """Folder for the world, the runs and ablations.json; one in memory is faster."""
    num_people: Annotated[int, Field(gt=20)] = 300
    """Dancers of the world."""
    stage1_epochs: Annotated[int, Field(gt=0)] = 20
    """Epochs of stage 1."""
    stage2_epochs: Annotated[int, Field(gt=0)] = 5
    """Epochs of stage 2."""
    num_poses: Annotated[int, Field(gt=0)] = 2
    """Poses each person is rendered in."""
    at_once: Annotated[int, Field(gt=0)] = 2
    """Variants trained at the same time, one process each."""


@plain_dataclass
class _Target:
    """The world's target: embedding, and photos that it was not made from, as the recogniser knows them."""

    face: torch.Tensor
    reference: torch.Tensor


def main(argv: list[str] | None = None) -> int:
    """Make the world, train all variants, measure, record."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("ablations.py", __doc__ or "", [Settings], words)
    torch.set_num_threads(1)
    _make_world(settings)
    gallery = make_gallery(16, settings.num_poses)
    target = _target(settings, gallery)
    with concurrent.futures.ThreadPoolExecutor(settings.at_once) as pool:
        seconds = dict(zip(VARIANTS, pool.map(lambda name: _train(settings, name), VARIANTS), strict=True))
    rows = [{**_measure(settings, name, gallery, target), "seconds": seconds[name]} for name in VARIANTS]
    sizes = {"people": settings.num_people, "stage1_epochs": settings.stage1_epochs}
    record = {**describe_provenance(), **sizes, "stage2_epochs": settings.stage2_epochs, "poses": settings.num_poses}
    write_json(settings.output_dir / "ablations.json", {**record, "rows": rows})
    for row in rows:
        print(
            f"{row['variant']:<30} people {row['rank1_people']:.3f}  target {row['rank1_target']:.3f} "
            f"(margin {row['margin_target']:+.3f})  gap {row['swap_gap']:.4f}  drift {row['null_drift']:.4f}"
        )
    return 0


def _make_world(settings: Settings) -> None:
    out = settings.output_dir
    world, photos = out / "world", out / "world" / "photos" / "target"
    commands = [
        f"tools/make_toy_dataset.py --output_dir {world} --num_people {settings.num_people} --clips_per_person 2 "
        "--photos_per_person 12 --num_frames 9 --seed 1000",
        f"tools/make_shards.py --dance_videos_dir {world}/videos --pose_videos_dir {world}/poses "
        f"--output_dir {out}/shards --num_frames 9 --height 64 --width 64",
        f"tools/encode_latents.py --shards {out}/shards --model_path toy --output_dir {out}/latents",
        f"tools/prepare_face_embeddings.py --face_images_dir {photos} --output_dir {out}/identity "
        "--identity_name target --encoder_path toy",
    ]
    if (out / "identity").is_dir():
        return
    for command in commands:
        subprocess.run([sys.executable, *command.split()], cwd=REPOSITORY, check=True)


def _target(settings: Settings, gallery: Gallery) -> _Target:
    identity = load_identity(settings.output_dir / "identity")
    photos = settings.output_dir / "world" / "photos" / "target"
    crops = [
        crop_face(images.read_photo(photos / name), box, FaceSettings.face_margin)
        for name, box in sorted(identity.photo_boxes.items())
    ]
    return _Target(identity.embedding, mean_face(gallery.recogniser, crops))


def _folder(settings: Settings, name: str) -> Path:
    return settings.output_dir / name.replace(" ", "_")


def _train(settings: Settings, name: str) -> float:
    out, folder = settings.output_dir, _folder(settings, name)
    epochs = settings.stage1_epochs + settings.stage2_epochs
    photos = out / "world" / "photos" / "target"
    command = (
        f"train.py --config configs/toy_stage1.yaml --tensorboard false --face_images_dir {photos} "
        f"--face_embedding {out}/identity --latents {out}/latents --shards {out}/shards --num_epochs {epochs} "
        f"--freeze_mapper_after_epochs {settings.stage1_epochs} --heldout_dancers {HELDOUT_DANCERS} --seed {SEED} "
        # Photos are single frames: micro-batches of one size and kind.
        f"--validate_every {epochs} --validation_videos 0 --validation_people 0 --save_every {epochs} "
        f"--output_dir {folder} {VARIANTS[name]}"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (folder / "output.txt").open("a") as output:
        subprocess.run(
            [sys.executable, *command.split()],
            cwd=REPOSITORY,
            env=environment,
            check=True,
            stdout=output,
            stderr=output,
        )
    return round(time.perf_counter() - began, 1)


def _measure(settings: Settings, name: str, gallery: Gallery, target: _Target) -> dict[str, Any]:
    folder = _folder(settings, name)
    wan = load_wan(resolve_model_path("toy"))
    adapter, _ = load_adapter(folder / "face_lora_final.safetensors", wan)
    wan.transformer.eval()
    rank1_target, margin = _know_target(wan, gallery, target)
    gaps = [row[GAP] for row in read_metrics(folder / "metrics.jsonl") if GAP in row]
    return {
        "variant": name,
        "flags": VARIANTS[name],
        "rank1_people": round(rank1_of_renders(wan, gallery), 4),
        "rank1_target": rank1_target,
        "margin_target": margin,
        "swap_gap": round(gaps[-1], 5),
        "null_drift": round(_null_drift(wan, adapter, settings), 5),
    }


def _know_target(wan: WanModel, gallery: Gallery, target: _Target) -> tuple[float, float]:
    """Rank-1 of the target among itself and the gallery's people, and its mean margin over the most similar."""
    references = torch.cat([target.reference.unsqueeze(0), gallery.references])
    hits, margins = [], []
    for number, joints in enumerate(gallery.joints):
        (frames,) = render_people(wan, joints, target.face.unsqueeze(0), number)
        scores = (gallery.recogniser.embed(cut_heads(frames, joints)) @ references.T).mean(0)
        hits.append(int(scores.argmax()) == 0)
        margins.append(float(scores[0] - scores[1:].max()))
    return float(np.mean(hits)), round(float(np.mean(margins)), 4)


@torch.no_grad()
def _null_drift(wan: WanModel, adapter: Any, settings: Settings) -> float:
    """Mean squared difference between the model without a face and the base, by the base's own loss."""
    latents = LatentSet.open(settings.output_dir / "latents")
    heldout = hold_out(latents.dancers, HELDOUT_DANCERS, SEED)
    numbers = [n for n, dancer in enumerate(latents.dancers) if dancer in heldout][:DRIFT_CLIPS]
    moved, own = [], []
    for number in numbers:
        sample = latents[number]
        x0 = wan.statistics.normalise(sample.video.unsqueeze(0))
        pose, inactive = (wan.statistics.normalise(raw.unsqueeze(0)) for raw in (sample.pose, sample.inactive))
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(number))
        for level in (0.35, 0.55, 0.75, 0.9):
            sigma = torch.tensor([level])
            inputs = {
                "hidden_states": flow.add_noise(x0, noise, sigma),
                "timestep": flow.model_timestep(sigma),
                "encoder_hidden_states": sample.prompt_embeds.unsqueeze(0).float(),
                "control_hidden_states": pose_control(pose, inactive, wan.geometry),
                "return_dict": False,
            }
            null = face_input(torch.zeros(1, adapter.face_embedding_dim))
            without = wan.transformer(encoder_hidden_states_image=null, **inputs)[0]
            with adapter.off():
                base = wan.transformer(**inputs)[0]
            moved.append(float((without - base).pow(2).mean()))
            own.append(float((base - flow.velocity_target(x0, noise)).pow(2).mean()))
    return float(np.mean(moved) / np.mean(own))


if __name__ == "__main__":
    run_entry_point(main)
