"""Every command that reads an adapter refuses one that is not whole, as sample.py does when it has the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM
from calling import call, refused
from safetensors.torch import load_file, safe_open, save_file

from faceid.errors import ModelError
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.models.adapter.adapter_shapes import check_shapes
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.wan import load_wan
from faceid.toy.shipped import resolve_adapter_path, resolve_model_path

SMALL = AdapterSettings(conditioning_dim=12, mapper_hidden_dim=16, num_tokens=3, lora_rank=4)
EACH = {
    "as it is by default": SMALL,
    "VACE blocks": replace(SMALL, lora_branch="vace"),
    "all of it": replace(SMALL, lora_branch="both", lora_layers="linear", face_modulation=True, num_mapper_layers=3),
    "every other block": replace(SMALL, face_attention_every=2),
}
FORMATS = ("hub", "diffusers", "comfyui", "diffsynth", "kohya", "merged", "merged_original")


@pytest.fixture(scope="module", params=EACH)
def whole(request) -> tuple[AdapterMetadata, dict[str, tuple[int, ...]]]:
    """What an adapter of the toy base says of itself, and the shapes of its tensors."""
    settings = EACH[request.param]
    wan = load_wan(resolve_model_path("toy"), ("transformer",))
    tensors = adapter_tensors(install_adapter(wan.transformer, settings, EMBEDDING_DIM))
    metadata = AdapterMetadata("toy", wan.fingerprint, EMBEDDING_DIM, "clip", "e" * 64, settings)
    return metadata, {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_what_training_writes_is_whole_and_without_any_one_tensor_it_is_not(whole):
    metadata, shapes = whole
    check_shapes(Path("a"), metadata, shapes)
    for name in shapes:
        with pytest.raises(ModelError, match=r"keys, the first is "):
            check_shapes(Path("a"), metadata, {other: shape for other, shape in shapes.items() if other != name})


def test_a_tensor_too_many_or_of_another_size_is_named(whole):
    metadata, shapes = whole
    beside = ("zz", "face_attention.400.key.weight", "face_attention.0.query.weight", "low_noise.face_mapper.x")
    for name in (*beside, "transformer.blocks.0.attn1.to_z.lora_A.weight", "transformer.blocks.01.attn1.x"):
        with pytest.raises(ModelError, match=f"^x=a: 1 unknown keys, the first is {name}"):
            check_shapes(Path("a"), metadata, {**shapes, name: (4, 4)}, "x")
    for name, shape in shapes.items():
        for other in ((*shape, 1), (shape[0] + 2, *shape[1:]), ()):
            with pytest.raises(ModelError, match=r"its settings and its other tensors say"):
                check_shapes(Path("a"), metadata, {**shapes, name: other})


def test_both_halves_of_an_adapter_for_two_transformers_are_looked_at(whole):
    metadata, shapes = whole
    both = {**shapes, **{f"low_noise.{name}": shape for name, shape in shapes.items()}}
    check_shapes(Path("a"), replace(metadata, expert="both"), both)
    for half in ("", "low_noise."):
        lacking = {name: shape for name, shape in both.items() if name != f"{half}face_attention.0.value.weight"}
        with pytest.raises(ModelError, match=f"1 missing keys, the first is {half}face_attention"):
            check_shapes(Path("a"), replace(metadata, expert="both"), lacking)


@pytest.fixture(scope="module", params=["missing", "unknown"])
def damaged(request, tmp_path_factory) -> tuple[Path, str]:
    """The shipped adapter with one tensor removed, or one too many; and what is said of it."""
    shipped = resolve_adapter_path("toy")
    tensors = load_file(shipped)
    with safe_open(shipped, "pt") as file:
        header = file.metadata()
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    name = "face_attention.1.value.weight" if request.param == "missing" else "zz"
    if request.param == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.ones(2, 2)
    save_file(tensors, path, metadata=header)
    return path, f"1 {request.param} keys, the first is {name}"


@pytest.mark.parametrize("kind", FORMATS)
def test_export_writes_nothing_of_it(damaged, kind, tmp_path):
    path, said = damaged
    output = tmp_path / ("x" if kind in ("hub", "merged", "merged_original") else "x.safetensors")
    words = ("--face_lora_path", path, "--lora_format", kind, "--output", output)
    refused(call("tools/export_lora.py", *words), f"face_lora_path={path}: {said}")
    assert not list(tmp_path.iterdir())


def test_joining_it_writes_nothing(damaged, tmp_path):
    path, said = damaged
    words = ("--high", path, "--low", path, "--model_path", "toy", "--output", tmp_path / "x.safetensors")
    refused(call("tools/join_experts.py", *words), f"high={path}: {said}")
    assert not list(tmp_path.iterdir())


def test_a_description_without_a_key_names_the_key_alone(tmp_path):
    shipped = resolve_adapter_path("toy")
    with safe_open(shipped, "pt") as file:
        described = json.loads(file.metadata()["faceid"])
    for key in ("settings", "encoder", "base_fingerprint"):
        left = {name: value for name, value in described.items() if name != key}
        save_file(load_file(shipped), tmp_path / "a.safetensors", metadata={"faceid": json.dumps(left)})
        words = ("--lora_format", "hub", "--output", tmp_path / "hub")
        ended = call("tools/export_lora.py", "--face_lora_path", tmp_path / "a.safetensors", *words)
        refused(ended, f"a.safetensors: metadata {key}: missing; take the file as its training run wrote it")
        assert "base_fingerprint'" not in ended.error
