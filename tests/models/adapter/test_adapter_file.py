"""Adapter files round-trip exactly and are refused, by name of what is wrong, where they do not belong."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from faceid.errors import ModelError
from faceid.models.adapter.adapter_file import AdapterMetadata, load_adapter, read_adapter, save_adapter
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.models.base.wan import load_wan


@pytest.fixture
def made(toy_wan, small_adapter_settings):
    tensors = adapter_tensors(install_adapter(toy_wan.transformer, small_adapter_settings, 24, seed=5))
    metadata = AdapterMetadata(
        base_name="toy",
        base_fingerprint=toy_wan.fingerprint,
        face_embedding_dim=24,
        encoder="clip",
        encoder_fingerprint="abc",
        settings=small_adapter_settings,
        step=7,
        height=64,
        width=64,
        num_frames=9,
        fps=16.0,
    )
    return tensors, metadata


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_adapter_file_loads_back_equal(made, tmp_path, toy_path, suffix):
    tensors, metadata = made
    path = tmp_path / f"face_lora{suffix}"
    save_adapter(path, tensors, metadata)
    again, described = read_adapter(path)
    assert described == metadata
    assert set(again) == set(tensors) and all(torch.equal(again[name], tensors[name]) for name in tensors)
    adapter, _ = load_adapter(path, load_wan(toy_path))
    loaded = adapter_tensors(adapter)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert not any(p.requires_grad for p in adapter.parameters().values())


def test_equal_adapters_are_equal_files(made, tmp_path):
    for number in range(8):  # the order of header keys is drawn anew in each process and file
        save_adapter(tmp_path / f"{number}.safetensors", *made)
    assert len({file.read_bytes() for file in tmp_path.glob("*.safetensors")}) == 1


def test_a_pth_is_tensors_and_plain_types_only(made, tmp_path):
    save_adapter(tmp_path / "a.pth", *made)
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert set(content) == {"tensors", "metadata"}


def refusal(path, wan):
    with pytest.raises(ModelError) as error:
        load_adapter(path, wan)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_another_base_is_refused_and_named(made, tmp_path, toy_path):
    tensors, metadata = made
    path = tmp_path / "a.safetensors"
    save_adapter(path, tensors, replace(metadata, base_fingerprint="0" * 64, base_name="models/Other"))
    assert "base Other" in refusal(path, load_wan(toy_path))


def test_another_rank_is_refused_and_named(made, tmp_path, toy_path):
    tensors, metadata = made
    path = tmp_path / "a.safetensors"
    save_adapter(path, tensors, replace(metadata, settings=replace(metadata.settings, lora_rank=8)))
    assert "rank" in refusal(path, load_wan(toy_path))


@pytest.mark.parametrize("change", ["missing", "unknown"])
@pytest.mark.slow
def test_no_key_is_left_missing_or_unused(made, tmp_path, toy_path, change):
    tensors, metadata = made
    name = sorted(tensors)[0]
    if change == "missing":
        del tensors[name]
    else:
        name = "transformer.blocks.99.attn1.to_q.lora_A.weight"
        tensors[name] = torch.zeros(4, 4)
    path = tmp_path / "a.safetensors"
    save_adapter(path, tensors, metadata)
    message = refusal(path, load_wan(toy_path))
    assert change in message and name in message


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_refused(made, tmp_path, toy_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_adapter(path, *made)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    refusal(path, load_wan(toy_path, parts=()))


def test_someone_elses_lora_is_refused(tmp_path, toy_path, real_data):
    refusal(real_data / "wan" / "mlxgen_wanvace_real_lora.safetensors", load_wan(toy_path, parts=()))


@pytest.mark.parametrize("bad", [torch.zeros(0, 4), torch.tensor([float("nan")])])
def test_an_empty_or_non_finite_tensor_is_never_written(made, tmp_path, bad):
    tensors, metadata = made
    tensors[sorted(tensors)[0]] = bad
    with pytest.raises(ModelError):
        save_adapter(tmp_path / "a.safetensors", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


def test_keys_in_a_file_are_the_published_ones(made, tmp_path):
    """Other tools read these names; changing them breaks every adapter ever saved."""
    save_adapter(tmp_path / "a.safetensors", *made)
    keys = set(load_file(tmp_path / "a.safetensors"))
    assert "transformer.blocks.0.attn1.to_q.lora_A.weight" in keys
    assert "transformer.blocks.3.attn2.to_out.0.lora_B.weight" in keys
    assert {"face_attention.0.key.weight", "face_attention.3.value.weight"} <= keys
    assert {"face_mapper.to_tokens.weight", "face_mapper.null_tokens", "face_mapper.lora_down.weight"} <= keys
