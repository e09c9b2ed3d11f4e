"""One video to render, and how tests render it: as sample.py does, in this process."""

import numpy as np
import pytest
from adapter_inputs import EMBEDDING_DIM as DIM
from adapter_inputs import write_adapter
from written_identities import write_identity

from faceid.config import parse_sections
from faceid.media.video import write_video
from faceid.sampling.like import words_like
from faceid.sampling.render_sections import SECTIONS, RenderSections
from faceid.sampling.sampling_run import run_sampling

HOW = "--num_inference_steps 2 --cfg_scale 2 --device cpu --face_scale 0.8 --scheduler euler --face_end 0.5".split()


def render(*words):
    """As sample.py does."""
    return run_sampling(RenderSections(*parse_sections("sample.py", "", SECTIONS, words_like(words))))


@pytest.fixture
def adapter_file(small_adapter_settings, tmp_path):
    return write_adapter(tmp_path / "adapter.safetensors", small_adapter_settings)


@pytest.fixture
def flags(adapter_file, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "pose.mp4", frames, fps=16)
    write_video(tmp_path / "other_pose.mp4", frames[::-1], fps=16)
    write_identity(tmp_path / "bob", seed=2, size=DIM)
    words = [
        "--face_lora_path",
        adapter_file,
        "--face_embedding",
        tmp_path / "bob",
        "--pose_video",
        tmp_path / "pose.mp4",
    ]
    return [str(word) for word in words] + HOW
