"""A batch of two poses and two people, and how tests run it."""

import json

import numpy as np
import pytest
from adapter_inputs import EMBEDDING_DIM as DIM
from adapter_inputs import write_adapter
from render_flags import sections_of
from written_identities import write_identity

from faceid.media.video import write_video
from faceid.sampling.sampling_run import run_sampling

HEIGHT, WIDTH, FRAMES = 32, 48, 5


def write_pose(path, seed):
    frames = np.random.default_rng(seed).integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_video(path, frames, fps=16)


@pytest.fixture
def settings(small_adapter_settings, tmp_path):
    """Two poses, two people."""
    for seed, name in enumerate(("x", "y")):
        write_pose(tmp_path / "poses" / f"{name}_pose.mp4", seed)
        write_identity(tmp_path / "people" / ("anna", "bob")[seed], seed=seed, size=DIM)
    return sections_of(
        face_lora_path=str(write_adapter(tmp_path / "adapter.safetensors", small_adapter_settings, 2)),
        identities_dir=str(tmp_path / "people"),
        batch=True,
        pose_videos_dir=str(tmp_path / "poses"),
        output_dir=str(tmp_path / "out"),
        num_inference_steps=1,
        cfg_scale=2.0,
        seed=5,
        device="cpu",
    )


def run(settings):
    return run_sampling(settings)


def rows(folder):
    return [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
