"""Ids, sidecars and cache entries are what they were: batches and caches made before are gone on with."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from render_flags import sections_of

import faceid
from faceid.files.provenance import sha256_json
from faceid.geometry import Geometry
from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.jobs.job_list import read_pose_folder
from faceid.sampling.jobs.plan import Planner
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.render_setup import RenderSetup
from faceid.sampling.one_video.renderer import Renderer
from faceid.sampling.one_video.sidecar import InputHashes, describe_video
from faceid.sampling.one_video.video_settings import ContentSettings, PoseSettings
from faceid.sampling.who.rendered_identities import Face

WAN = Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
BASE = SimpleNamespace(
    exact_fingerprint="b" * 64,
    geometry=WAN,
    transformer=SimpleNamespace(config={"num_attention_heads": 12, "num_layers": 2}),
)
SIZE = {"height": 480, "width": 832, "num_frames": 65, "fps": 16.0}
EVERY_ONE = {
    "prompt": "a dance",
    "negative_prompt": "fog",
    "seed": [5, 6],
    "face_scale": 0.75,
    "cfg_scale": 3.0,
    "cfg_start": 0.25,
    "face_start": 0.125,
    "face_end": 0.875,
    "face_guidance": 2.0,
    "face_block_scales": [0.5, 1.0],
    "control_scale": 0.5,
    "reference_scale": 0.25,
    "num_inference_steps": 7,
    "scheduler": "euler",
    "shift": 5.0,
    "step_cache": 0.125,
    "attention_backend": "_native_math",
    "fit": "pad",
    "pose_timing": 24.0,
    "window_frames": 33,
    "window_overlap": 9,
}


def planned(poses, **flags):
    """The jobs of a folder of one pose, without an adapter; nothing is loaded."""
    asked = sections_of(model_path="b", batch=True, pose_videos_dir="p", output_dir="o", **SIZE, **flags)
    face = Face("anna", torch.tensor([1.0, 0.0, 0.0, 0.0]))
    planner = Planner(asked.options, asked.compute, "base", BASE, lambda text, metadata: face, "torch.float32")
    return planner.plan(read_pose_folder(poses, ["anna"], asked.content, None), {})


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ({}, ["9aedfaf5f9a45f47"]),
        ({"compile": True, "num_inference_steps": 7}, ["9a72dae9410e537d"]),
        (EVERY_ONE, ["24b4a06f052a7905", "97b3bdc39eb774d6"]),
    ],
)
def test_a_job_has_the_id_that_it_always_had(tmp_path, monkeypatch, flags, ids):
    monkeypatch.setattr(faceid, "__version__", "0.1.0")
    (tmp_path / "x_pose.mp4").write_bytes(b"pose")
    assert [job.id for job in planned(tmp_path, **flags)] == ids


def test_a_kept_control_has_the_name_that_it_always_had():
    shape = VideoShape(65, 480, 832, 16.0)
    found = []
    for flags in ({}, {"pose_timing": "frames", "fit": "pad"}):
        setup = RenderSetup(Sampling(), ContentSettings(), PoseSettings(**flags), shape)
        found.append(sha256_json(Renderer(None, setup).made_of("p" * 64))[:16])
    assert found == ["bf3b41aadc6dddda", "d4636f0e56e7a15f"]


def test_a_sidecar_says_what_it_always_said_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "video.mp4").write_bytes(b"video")
    (tmp_path / "x_pose.mp4").write_bytes(b"pose")
    asked = sections_of(
        face_lora_path="a.safetensors", face_embedding="e", pose_video="x_pose.mp4", output="o.mp4", **SIZE, **EVERY_ONE
    )
    inputs = InputHashes("b" * 64, "a" * 64, "i" * 64, "p" * 64, ("r" * 64,))
    said = describe_video(Path("video.mp4"), "o.mp4", {**asked.flags, "seed": 5}, inputs, "cpu", [0, 2])
    assert list(said)[-6:] == ["inputs", "version", "video", "settings", "device", "threads"]
    kept = {name: said[name] for name in ("inputs", "version", "video", "settings", "device")}
    text = json.dumps(kept, indent=1).replace(str(tmp_path), "/here")
    assert text == (Path(__file__).parent / "kept_sidecar.json").read_text().rstrip("\n")
