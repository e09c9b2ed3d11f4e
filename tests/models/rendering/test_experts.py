"""Wan2.2's two transformers: found in both layouts, one chosen, and trained on its own part of the noise alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, train_a_little
from calling import call, refused
from diffusers import WanVACEPipeline
from original_layout import write_both
from safetensors.torch import load_file
from written_identities import write_identity

from faceid.errors import ConfigError, ModelError
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter, save_adapter
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.small_convolutions import convolve_in_onednn
from faceid.models.base.wan import load_wan
from faceid.models.lora.lora_formats import lora_of_adapter, read_lora
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.training.recipe.recipe_settings import NoiseSettings
from faceid.training.step import _sigmas

pytestmark = pytest.mark.promise(
    ("Wan2.2's two transformers: found in both layouts, trained each on its own range of noise, rendered with both"),
    bar="without a face the bits of diffusers' own pipeline of two; all checks pass",
    proof="model",
)

SETTINGS = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, mapper_dropout=0.0)

INDEX = {
    "_class_name": "WanVACEPipeline",
    "boundary_ratio": 0.875,
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "transformer": ["diffusers", "WanVACETransformer3DModel"],
    "transformer_2": ["diffusers", "WanVACETransformer3DModel"],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    """The two layouts of a base whose transformers have other weights."""
    folder = tmp_path_factory.mktemp("experts")
    (ours, theirs), (other, others) = write_both(folder / "a", seed=0), write_both(folder / "b", seed=1)
    shutil.copytree(other / "transformer", ours / "transformer_2")
    (ours / "model_index.json").write_text(json.dumps(INDEX))
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


@pytest.mark.slow
def test_a_run_trains_one_of_them(both, toy_inputs, tmp_path):
    """The whole command, on the tiny base: its adapter says which one it is for."""
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


@pytest.mark.parametrize("expert", ["high", "low"])
def test_a_step_s_noise_is_of_the_expert_s_range(both, expert):
    files = ModelFiles.find(both[0]).of_expert(expert)
    optimizer, noise = SimpleNamespace(seed=0, batch_size=64), NoiseSettings()
    sections = SimpleNamespace(optimizer=optimizer, noise=noise)
    run = SimpleNamespace(sections=sections, wan=SimpleNamespace(files=files))
    drawn = torch.cat([torch.cat(_sigmas(run, step)) for step in range(8)])
    assert files.noise[0] <= drawn.min() and drawn.max() <= files.noise[1]
    assert drawn.max() - drawn.min() > 0.9 * (files.noise[1] - files.noise[0])


INPUTS = {"prompt": "a dance", "negative_prompt": "blurred", "num_inference_steps": 8, "seed": 7}


def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def stock(folder: Path) -> torch.Tensor:
    """Of diffusers' own pipeline for two transformers."""
    pipeline = WanVACEPipeline.from_pretrained(folder)
    # As every VAE that we load; another order of the same sums is other bits.
    convolve_in_onednn(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt="a dance",
        negative_prompt="blurred",
        video=[PIL.Image.fromarray(frame) for frame in frames()],
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="latent",
        max_sequence_length=64,
    ).frames


@pytest.mark.slow
def test_without_a_face_it_is_diffusers_pipeline_of_two_transformers(both):
    ours = [FaceIdentityPipeline.from_pretrained(folder) for folder in both]
    mine, theirs = (pipeline(frames(), output_type="latent", **INPUTS) for pipeline in ours)
    # Both were asked: with either alone it would be another video.
    alone = [
        FaceIdentityPipeline.from_pretrained(ModelFiles.find(both[0]).of_expert(name))(
            frames(), output_type="latent", **INPUTS
        )
        for name in ("high", "low")
    ]
    assert torch.equal(mine, stock(both[0])) and torch.equal(mine, theirs)
    assert not any(torch.equal(mine, one) for one in alone)


@pytest.fixture(scope="module")
def adapters(both, tmp_path_factory) -> dict[str, Path]:
    """Of each transformer, and of both in one file."""
    folder, files = tmp_path_factory.mktemp("adapters"), ModelFiles.find(both[0])
    found = {"both": folder / "both.safetensors"}
    for seed, name in enumerate(("high", "low")):
        wan = load_wan(files.of_expert(name), ("transformer",), name="tiny")
        adapter = install_adapter(wan.transformer, SETTINGS, EMBEDDING_DIM)
        train_a_little(adapter, seed)
        metadata = AdapterMetadata("tiny", wan.fingerprint, EMBEDDING_DIM, "clip", "e" * 64, SETTINGS, expert=name)
        found[name] = folder / f"{name}.safetensors"
        save_adapter(found[name], adapter_tensors(adapter), metadata)
    ended = call("tools/join_experts.py", *joining(both, found))
    assert ended.code == 0, ended.screen
    return found


def joining(both, files: dict[str, Path]) -> list[object]:
    words = ["--high", files["high"], "--low", files["low"], "--model_path", both[0]]
    return [*words, "--output", files["both"]]


@pytest.mark.slow
def test_each_transformer_gets_its_own_adapter(both, adapters):
    pipeline = FaceIdentityPipeline.from_pretrained(both[0], adapters["both"])
    for denoiser, name in zip(pipeline.denoisers, ("high", "low"), strict=True):
        tensors, parameters = read_adapter(adapters[name])[0], denoiser.adapter.parameters()
        assert tensors.keys() == parameters.keys()
        assert all(torch.equal(parameters[key], tensors[key]) for key in tensors)
    face = torch.nn.functional.normalize(torch.ones(EMBEDDING_DIM), dim=0)
    with_face = pipeline(frames(), face, output_type="latent", **INPUTS)
    base = FaceIdentityPipeline.from_pretrained(both[0])(frames(), output_type="latent", **INPUTS)
    assert torch.equal(pipeline(frames(), face, face_scale=0.0, output_type="latent", **INPUTS), base)
    for denoiser in pipeline.denoisers:  # each counts
        with torch.no_grad():
            kept = {name: p.clone() for name, p in denoiser.adapter.parameters().items()}
            for parameter in denoiser.adapter.parameters().values():
                parameter.mul_(0.5)
            assert not torch.equal(pipeline(frames(), face, output_type="latent", **INPUTS), with_face)
            for name, parameter in denoiser.adapter.parameters().items():
                parameter.copy_(kept[name])
    assert torch.equal(pipeline(frames(), face, output_type="latent", **INPUTS), with_face)
    pipeline.use_adapter(None)
    assert torch.equal(pipeline(frames(), output_type="latent", **INPUTS), base)
    pipeline.use_adapter(adapters["both"])
    assert torch.equal(pipeline(frames(), face, output_type="latent", **INPUTS), with_face)


@pytest.mark.fault("A1")
def test_the_lora_of_each_of_them_is_exported_and_never_one_for_the_other(both, adapters, tmp_path):
    """A file for both was exported as its high half, without a word."""
    words = ("--face_lora_path", adapters["both"], "--lora_format", "comfyui", "--output", tmp_path / "x.safetensors")
    refused(call("tools/export_lora.py", *words), "expert: missing", "--expert high or low")
    for name in ("high", "low"):
        assert call("tools/export_lora.py", *words, "--expert", name).code == 0
        tensors, metadata = read_adapter(adapters[name])
        expected, found = lora_of_adapter(tensors, metadata.settings.alpha), read_lora(tmp_path / "x.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[layer].delta(), expected[layer].delta()) for layer in expected)
    # Merged, each goes into its own transformer.
    words = ("--face_lora_path", adapters["low"], "--lora_format", "merged", "--model_path", both[0])
    refused(
        call("tools/export_lora.py", *words, "--output", tmp_path / "m", "--expert", "high"),
        "expert=high",
        "is for low",
    )
    assert call("tools/export_lora.py", *words, "--output", tmp_path / "m").code == 0
    merged = load_file(tmp_path / "m" / "diffusion_pytorch_model.safetensors")
    before = load_wan(ModelFiles.find(both[0]).of_expert("low"), ("transformer",)).transformer.state_dict()
    layer = next(iter(expected))
    assert torch.allclose(merged[f"{layer}.weight"], before[f"{layer}.weight"] + expected[layer].delta(), atol=1e-6)


@pytest.mark.slow
def test_offloaded_and_with_a_step_cache_it_is_the_same(both, adapters):
    face = torch.nn.functional.normalize(torch.ones(EMBEDDING_DIM), dim=0)
    asked = {**INPUTS, "output_type": "latent", "step_cache": 0.05}
    plain, offloaded = (
        FaceIdentityPipeline.from_pretrained(both[0], adapters["both"], is_offloaded=is_offloaded)
        for is_offloaded in (False, True)
    )
    assert torch.equal(plain(frames(), face, **asked), offloaded(frames(), face, **asked))


def test_an_adapter_of_one_of_them_is_refused_and_so_are_two_that_do_not_fit(both, adapters, tmp_path):
    with pytest.raises(ModelError, match=r"face_lora_path=.*high\.safetensors: trained on base tiny"):
        FaceIdentityPipeline.from_pretrained(both[0], adapters["high"])
    swapped = {"high": adapters["low"], "low": adapters["high"], "both": tmp_path / "x.safetensors"}
    refused(call("tools/join_experts.py", *joining(both, swapped)), "high=", "trained on base tiny")
    wrong = {"high": adapters["high"], "low": tmp_path / "other.safetensors", "both": tmp_path / "x.safetensors"}
    tensors, metadata = read_adapter(adapters["low"])
    save_adapter(wrong["low"], tensors, replace(metadata, encoder_fingerprint="f" * 64))
    refused(call("tools/join_experts.py", *joining(both, wrong)), "low=", "encoder_fingerprint")
    assert not wrong["both"].exists()


def test_sample_py_renders_with_both(both, adapters, toy_inputs, tmp_path):
    identity = write_identity(tmp_path / "identity", size=EMBEDDING_DIM)
    pose = next((toy_inputs.dataset / "poses").glob("*.mp4"))
    words = ["--model_path", both[1], "--face_lora_path", adapters["both"], "--face_embedding", identity]
    words += [
        "--pose_video",
        pose,
        "--output",
        tmp_path / "o.mp4",
        *"--height 32 --width 32 --num_frames 5 --fps 16".split(),
    ]
    # In the other layout it is the same base.
    ended = call("sample.py", *words, "--num_inference_steps", "4")
    assert ended.code == 0, ended.screen
    assert (tmp_path / "o.mp4").stat().st_size > 0
