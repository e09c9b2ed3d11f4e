"""A toy world, prepared by the tools as a user would: what benchmarks train on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import REPOSITORY


def prepare_world(
    folder: Path, dataset_flags: str, identity_name: str = "target", side_px: int = 64, encoder: str = "toy"
) -> None:
    """Draw people and their dances, and make shards, latents and the target's identity of them."""
    world = folder / "world"
    commands = [
        f"tools/make_toy_dataset.py --output_dir {world} --clips_per_person 2 --num_frames 9 "
        f"--height {side_px} --width {side_px} {dataset_flags}",
        f"tools/make_shards.py --dance_videos_dir {world}/videos --pose_videos_dir {world}/poses "
        f"--output_dir {folder}/shards --num_frames 9 --height {side_px} --width {side_px}",
        f"tools/encode_latents.py --shards {folder}/shards --model_path toy --output_dir {folder}/latents",
        f"tools/prepare_face_embeddings.py --face_images_dir {photos(folder)} --output_dir {folder}/identity "
        f"--identity_name {identity_name} --encoder_path {encoder} --allow_few",
    ]
    for command in commands:
        subprocess.run([sys.executable, *command.split()], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


def photos(folder: Path) -> Path:
    """The target's, in a prepared world."""
    return folder / "world" / "photos" / "target"


def flags_of(folder: Path) -> list[str]:
    """Flags of train.py that name what was prepared."""
    return f"--face_embedding {folder}/identity --latents {folder}/latents --shards {folder}/shards".split()
