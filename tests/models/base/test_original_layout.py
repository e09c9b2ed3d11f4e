"""The layout of the Wan repositories: every tensor finds its place, and what is missing or wrong is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from original_layout import ORIGINAL_CONFIG, asked, text_names, transformer_names, vae_names, write_both
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel

from faceid.errors import ModelError
from faceid.models.base import original_names
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.model_part import NOT_IN_SHAPES, Part
from faceid.models.base.original_configs import (
    LATENTS_MEAN,
    LATENTS_STD,
)
from faceid.models.base.wan import load_wan
from faceid.models.base.weights import WeightsFile
from faceid.models.wan_vace.tensor_names import transformer_name
from faceid.models.wan_vace.transformer import original_transformer_config, transformer_config

BOTH_LAYOUTS = pytest.mark.promise(
    ("both layouts, synthesised by diffusers' converters read backwards, load to the same tensors and outputs"),
    bar="0 tensors differ, the same output, names as diffusers makes them",
    proof="model",
)
EACH_TENSOR_ONCE = pytest.mark.promise(
    "every tensor of 1.3B, 14B, VAE and UMT5-XXL, on the meta device",
    bar="one to one: none missing, none left over",
    proof="model",
)
NAMED_BY_CONTENTS = pytest.mark.promise(
    ("a base is named by its contents: the other layout, shards and a copy in bfloat16 take the same adapters"),
    bar="the same fingerprint; another one when a tensor or the config changes",
    proof="model",
)
REFUSED_FILES = pytest.mark.promise(
    "files that are missing, cut short, of another model, or would run code",
    bar="named before anything large is read",
    proof="model",
)

TRUE_SIZES = {
    "wan21_vace_1.3b_transformer_config.json": (30, 15, 1264, 2_153_972_032),
    "wan21_vace_14b_transformer_config.json": (40, 8, None, None),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    return write_both(tmp_path_factory.mktemp("layouts"))


@pytest.fixture
def original(both, tmp_path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(both[1], tmp_path / "Wan2.1-VACE-1.3B")


def refusal(folder: Path, parts=("transformer", "vae", "text"), **given) -> str:
    with pytest.raises(ModelError) as error:
        load_wan(ModelFiles.find(folder, **given), parts)
    return str(error.value)


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_layouts_load_to_the_same_tensors(both, dtype):
    ours, theirs = (load_wan(folder, dtype=dtype) for folder in both)
    for part in ("transformer", "vae", "text_encoder"):
        mine, other = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
        assert mine.keys() == other.keys()
        assert [name for name in mine if mine[name].dtype != other[name].dtype] == []
        assert [name for name in mine if not torch.equal(mine[name], other[name])] == []
    assert ours.geometry == theirs.geometry and ours.statistics == theirs.statistics


def fingerprints(folder: Path) -> tuple[str, str, str]:
    """Exact; of what an adapter fits; of what encodes."""
    found = ModelFiles.find(folder)
    return found.exact_fingerprint, found.fingerprint, found.latents_fingerprint


@NAMED_BY_CONTENTS
def test_a_base_is_named_by_its_contents_and_not_by_its_files(both, original):
    known = fingerprints(both[0])
    assert fingerprints(original) == known
    file = original / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    index = {"weight_map": dict.fromkeys(tensors, "b.safetensors") | {"head.modulation": "a.safetensors"}}
    save_file({"head.modulation": tensors["head.modulation"]}, original / "a.safetensors")
    save_file({name: t for name, t in tensors.items() if name != "head.modulation"}, original / "b.safetensors")
    (original / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    file.unlink()
    assert fingerprints(original) == known


@NAMED_BY_CONTENTS
def test_a_rounded_copy_is_another_base_but_fits_the_same_adapters(original):
    file = original / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor + 1e-4 * torch.randn_like(tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    exact, fits, latents = fingerprints(original)
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, file)
    rounded = fingerprints(original)
    assert rounded[0] != exact and rounded[1:] == (fits, latents)


@NAMED_BY_CONTENTS
@pytest.mark.parametrize("name", ["blocks.3.ffn.2.weight", "vace_blocks.0.before_proj.bias", "head.modulation"])
def test_a_tensor_that_moved_makes_another_base(original, name):
    before, file = fingerprints(original), original / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, name: tensors[name] + 0.01}, file)
    exact, fits, latents = fingerprints(original)
    assert exact != before[0] and fits != before[1] and latents == before[2]


@NAMED_BY_CONTENTS
def test_another_config_of_the_same_tensors_makes_another_base(original):
    before = fingerprints(original)
    for change in ({"eps": 1e-5}, {"num_heads": 4}, {"vace_layers": [0, 3]}):
        (original / "config.json").write_text(json.dumps({**ORIGINAL_CONFIG, **change}))
        exact, fits, latents = fingerprints(original)
        assert exact != before[0] and fits != before[1] and latents == before[2]


@NAMED_BY_CONTENTS
@pytest.mark.parametrize("part", ["Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"])
def test_what_encodes_is_named_exactly(original, part):
    before = fingerprints(original)
    tensors = torch.load(original / part, weights_only=True)
    torch.save({name: (tensor.float() * 1.0001) for name, tensor in tensors.items()}, original / part)
    exact, fits, latents = fingerprints(original)
    assert latents != before[2]
    assert (exact != before[0]) == (fits != before[1]) == (part == "Wan2.1_VAE.pth")


@NAMED_BY_CONTENTS
def test_a_rounded_vae_is_another_base_to_adapters_too(original):
    """It computes as it is kept, and a bfloat16 one encodes and decodes visibly worse."""
    before, file = fingerprints(original), original / "Wan2.1_VAE.pth"
    torch.save({name: tensor.bfloat16() for name, tensor in torch.load(file, weights_only=True).items()}, file)
    assert all(now != then for now, then in zip(fingerprints(original), before, strict=True))


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_part_is_what_from_pretrained_gives(both, dtype):
    ours = load_wan(both[0], ("transformer", "vae"), dtype=dtype)
    kinds = {"transformer": (WanVACETransformer3DModel, dtype), "vae": (AutoencoderKLWan, torch.float32)}
    for part, (kind, as_used) in kinds.items():
        stock = kind.from_pretrained(both[0] / part, torch_dtype=as_used)
        mine, theirs = dict(getattr(ours, part).named_parameters()), dict(stock.named_parameters())
        assert {name: p.dtype for name, p in mine.items()} == {name: p.dtype for name, p in theirs.items()}
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        buffers, others = dict(getattr(ours, part).named_buffers()), dict(stock.named_buffers())
        assert buffers.keys() == others.keys()
        assert all(torch.equal(buffers[name], others[name]) for name in others)


@BOTH_LAYOUTS
def test_both_layouts_give_the_same_output(both):
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(1, 16, 2, 4, 4, generator=generator),
        "control_hidden_states": torch.randn(1, 96, 2, 4, 4, generator=generator),
        "timestep": torch.tensor([500.0]),
        "return_dict": False,
    }
    pixels = torch.rand(1, 3, 5, 16, 16, generator=generator) * 2 - 1
    found = []
    for folder in both:
        wan = load_wan(folder)
        words = wan.tokenizer(["a person dancing"], return_tensors="pt")
        with torch.no_grad():
            text = wan.text_encoder(words.input_ids, words.attention_mask).last_hidden_state
            found.append((text, wan.transformer(encoder_hidden_states=text, **inputs)[0], wan.vae(pixels).sample))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@BOTH_LAYOUTS
def test_shards_and_their_list_are_one_model(both, original):
    tensors = load_file(original / "diffusion_pytorch_model.safetensors")
    (original / "diffusion_pytorch_model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for number in range(3):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[number::3]}, original / file)
        weight_map |= dict.fromkeys(names[number::3], file)
    index = original / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    mine, whole = (load_wan(folder, ("transformer",)).transformer.state_dict() for folder in (original, both[1]))
    assert all(torch.equal(mine[name], whole[name]) for name in whole)
    (original / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    assert "diffusion_pytorch_model-00002-of-00003.safetensors: no such file" in refusal(original)


@BOTH_LAYOUTS
def test_every_name_is_what_diffusers_makes_of_it():
    for rule, names, converter in (
        (transformer_name, transformer_names(3, 2), convert_wan_transformer_to_diffusers),
        (lambda name: original_names.vae_name(name, 2), vae_names(), convert_wan_vae_to_diffusers),
    ):
        assert {name: rule(name) for name in names} == asked(names, converter)
    assert all(original_names.text_encoder_name(old) == new for old, new in text_names(2).items())


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.self_attn.k_img.weight",
        "blocks.0.norm2.weight",
        "blocks.0.before_proj.weight",
        "blocks.x.ffn.0.weight",
        "head.norm.weight",
        "img_emb.proj.0.weight",
    ],
)
def test_a_name_that_no_vace_model_has_is_unknown(name):
    assert transformer_name(name) is None


@EACH_TENSOR_ONCE
@pytest.mark.parametrize("config", TRUE_SIZES)
def test_the_true_models_have_each_tensor_once(real_data, config):
    layers, vace_layers, tensors, parameters = TRUE_SIZES[config]
    published = json.loads((real_data / "wan" / config).read_text())
    with torch.device("meta"):
        model = WanVACETransformer3DModel.from_config(published)
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    names = transformer_names(layers, vace_layers)
    found = original_names.translate(names, transformer_name, config)
    assert sorted(found.values()) == sorted(expected) and len(names) == len(expected)
    shapes = {old: tuple(expected[new]) for old, new in found.items()}
    made = transformer_config(original_transformer_config(published), shapes, Path(config))
    assert {key: made[key] for key in NOT_IN_SHAPES["transformer"]} == {
        key: published[key] for key in NOT_IN_SHAPES["transformer"]
    }
    if tensors is not None:
        table = json.loads((real_data / "wan" / "wan21_vace_1.3b_diffusers_state_dict_shapes.json").read_text())
        assert table == expected and len(table) == tensors
        assert sum(torch.Size(shape).numel() for shape in table.values()) == parameters


@EACH_TENSOR_ONCE
def test_the_true_vae_and_text_encoder_have_each_tensor_once(real_data):
    table = json.loads((real_data / "wan" / "wan21_vae_diffusers_state_dict_shapes.json").read_text())
    names = original_names.translate(vae_names(), lambda name: original_names.vae_name(name, 2), "vae")
    assert sorted(names.values()) == sorted(table)
    # Its sizes are read off the shapes, and make that very model.
    shapes = {old: tuple(table[new]) for old, new in names.items()}
    config = Part("vae", "original", Path("Wan2.1_VAE.pth")).config_from(shapes)
    default = json.loads((real_data / "wan" / "wan21_vae_config_diffusers_default.json").read_text())
    assert {key: config[key] for key in config.keys() & default.keys()} == {
        key: default[key] for key in config.keys() & default.keys()
    }
    assert all(config[key] == default[key] for key in NOT_IN_SHAPES["vae"])
    assert config["latents_mean"] == list(LATENTS_MEAN) and config["latents_std"] == list(LATENTS_STD)
    with torch.device("meta"):
        model = AutoencoderKLWan.from_config(config)
        text = json.loads((real_data / "wan" / "umt5_xxl_text_encoder_config_assembled.json").read_text())
        text.pop("_note")
        encoder = UMT5EncoderModel(UMT5Config(**text))
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == table
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    expected.pop("encoder.embed_tokens.weight", None)
    given = text_names(24)
    translated = original_names.translate(given, original_names.text_encoder_name, "t5")
    assert sorted(translated.values()) == sorted(expected)
    shapes = {old: expected[new] for old, new in translated.items()}
    config = Part("text_encoder", "original", Path("t5.pth")).config_from(shapes)
    assert {key: config[key] for key in text if key in config} == {key: text[key] for key in text if key in config}
    assert all(config[key] == text[key] for key in NOT_IN_SHAPES["text_encoder"])


@REFUSED_FILES
def test_a_file_that_is_missing_is_named(original):
    for name in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl"):
        moved = (original / name).rename(original / "elsewhere")
        assert f"no {name} in it" in refusal(original)
        moved.rename(original / name)
    (original / "diffusion_pytorch_model.safetensors").unlink()
    assert "diffusion_pytorch_model.safetensors: no such file" in refusal(original)


@BOTH_LAYOUTS
def test_a_part_may_be_elsewhere(both, original, tmp_path):
    vae = (original / "Wan2.1_VAE.pth").rename(tmp_path / "my_vae.pth")
    text = (original / "models_t5_umt5-xxl-enc-bf16.pth").rename(tmp_path / "t5.pth")
    whole = load_wan(both[1])
    for given in ({"vae_path": vae, "text_encoder_path": text}, {"vae_path": both[0], "text_encoder_path": both[0]}):
        found = load_wan(ModelFiles.find(original, **given))
        for part in ("vae", "text_encoder"):
            mine, theirs = getattr(found, part).state_dict(), getattr(whole, part).state_dict()
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert "vae_path=" in refusal(both[1], vae_path=tmp_path / "nothing")


@REFUSED_FILES
@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"])
def test_a_pickle_that_would_run_code_is_not_loaded(original, name):
    class Runs:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"x": Runs()}, original / name)
    assert name in refusal(original) and "more than tensors" in refusal(original)


@REFUSED_FILES
def test_a_file_that_is_cut_short_is_named_before_any_is_loaded(original, monkeypatch):
    monkeypatch.setattr(WeightsFile, "tensors", lambda self: pytest.fail("read"))
    for name in ("diffusion_pytorch_model.safetensors", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"):
        whole = (original / name).read_bytes()
        (original / name).write_bytes(whole[: len(whole) // 2])
        assert f"{name}: cannot be read, cut short" in refusal(original)
        (original / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        assert f"{name}: a Git LFS pointer" in refusal(original)
        (original / name).write_bytes(whole)


@REFUSED_FILES
def test_a_config_of_another_model_is_named(original):
    def with_config(**changes) -> str:
        (original / "config.json").write_text(json.dumps({**ORIGINAL_CONFIG, **changes}))
        return refusal(original, ("transformer",))

    assert "config asks for" in with_config(ffn_dim=56)
    assert "tensors missing" in with_config(num_layers=5)
    assert "tensors left over" in with_config(num_layers=3)
    (original / "config.json").write_text("{}")
    assert "no 'dim' in it" in refusal(original)


@REFUSED_FILES
def test_a_base_without_vace_is_named(original):
    tensors = load_file(original / "diffusion_pytorch_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "vace" not in name}
    save_file(kept, original / "diffusion_pytorch_model.safetensors")
    (original / "config.json").write_text(json.dumps({**ORIGINAL_CONFIG, "model_type": "t2v"}))
    assert "its transformer is t2v; pose control needs a VACE model" in refusal(original)


@REFUSED_FILES
def test_an_unknown_tensor_is_named(original):
    tensors = load_file(original / "diffusion_pytorch_model.safetensors")
    save_file({**tensors, "img_emb.proj.0.weight": torch.zeros(2)}, original / "diffusion_pytorch_model.safetensors")
    assert "img_emb.proj.0.weight unknown" in refusal(original)
