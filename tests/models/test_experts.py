"""Wan2.2's two transformers: found in both layouts, one chosen, and trained on its own part of the noise alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from calling import call, refused
from original_layout import write_both

from faceid.errors import ConfigError, ModelError
from faceid.models.model_files import ModelFiles
from faceid.models.wan import load_wan


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    """The two layouts of a base whose transformers have other weights."""
    folder = tmp_path_factory.mktemp("experts")
    (ours, theirs), (other, others) = write_both(folder / "a", seed=0), write_both(folder / "b", seed=1)
    shutil.copytree(other / "transformer", ours / "transformer_2")
    (ours / "model_index.json").write_text(json.dumps({"_class_name": "WanVACEPipeline", "boundary_ratio": 0.875}))
    for name, source in (("high_noise_model", theirs), ("low_noise_model", others)):
        (theirs / name).mkdir()
        for file in ("config.json", "diffusion_pytorch_model.safetensors"):
            shutil.copy(source / file, theirs / name)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        (theirs / file).unlink()
    return ours, theirs


@pytest.mark.parametrize(("expert", "noise"), [("high", (0.875, 1.0)), ("low", (0.0, 0.875))])
def test_each_expert_is_its_own_base_in_both_layouts(both, expert, noise):
    chosen = [ModelFiles.find(folder).of_expert(expert) for folder in both]
    mine, theirs = (load_wan(files, ("transformer",)).transformer.state_dict() for files in chosen)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    other = ModelFiles.find(both[0]).of_expert("low" if expert == "high" else "high")
    assert not torch.equal(mine["proj_out.weight"], load_wan(other, ("transformer",)).transformer.proj_out.weight)
    assert chosen[0].noise == noise and chosen[0].fingerprint != other.fingerprint
    # Both share the VAE and the text encoder, and so the latents.
    assert chosen[0].latents_fingerprint == other.latents_fingerprint


def test_a_choice_that_cannot_be_is_one_line(both, toy_path):
    with pytest.raises(ConfigError, match=r"expert: missing; .*give --expert high or low"):
        ModelFiles.find(both[0]).of_expert(None)
    with pytest.raises(ConfigError, match=r"expert=low: .* has one transformer"):
        ModelFiles.find(toy_path).of_expert("low")
    with pytest.raises(ModelError, match="has two transformers"):
        load_wan(both[1])


def test_a_missing_or_wrong_second_transformer_is_named(both, tmp_path):
    folder = shutil.copytree(both[1], tmp_path / "original")
    (folder / "low_noise_model" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"low_noise_model/diffusion_pytorch_model\.safetensors: no such file"):
        ModelFiles.find(folder)
    folder = shutil.copytree(both[0], tmp_path / "diffusers")
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(ModelError, match="boundary_ratio=None: must say"):
        ModelFiles.find(folder)


def test_a_run_trains_one_of_them(both, toy_inputs, tmp_path):
    """The whole command, on the tiny base: its adapter says which one it is for."""
    from faceid.models.adapter_file import read_adapter

    words = [
        *("--model_path", both[1], "--output_dir", tmp_path / "run", "--face_embedding", toy_inputs.identity),
        *("--dance_videos_dir", toy_inputs.dataset / "videos", "--pose_videos_dir", toy_inputs.dataset / "poses"),
        *"--num_frames 5 --height 32 --width 32 --encoder_path toy --num_workers 0 --tensorboard false".split(),
        *"--conditioning_dim 40 --mapper_hidden_dim 48 --num_tokens 3 --lora_rank 4 --num_epochs 1".split(),
    ]
    refused(call("train.py", *words, "--validate_every", "0"), "expert: missing")
    refused(call("train.py", *words, "--expert", "high"), "validation_videos=1", "give 0 for both")
    ended = call("train.py", *words, "--expert", "low", "--validation_videos", "0", "--validate_every", "1")
    assert ended.code == 0, ended.screen
    assert read_adapter(tmp_path / "run" / "face_lora_final.safetensors")[1].expert == "low"
    levels = [
        float(key.split("=")[1])
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        for key in json.loads(line)
        if "sigma=" in key
    ]
    assert all(level < 0.875 for level in levels)
    pose = next((toy_inputs.dataset / "poses").glob("*.mp4"))
    adapter = tmp_path / "run" / "face_lora_final.safetensors"
    sample = ("--face_lora_path", adapter, "--face_embedding", toy_inputs.identity, "--pose_video", pose)
    refused(call("sample.py", *sample, "--output", tmp_path / "o.mp4"), "has two transformers")
