"""Every scale rule that peft and diffusers have: what is merged is what their own loaders add, layer by layer."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from faceid.errors import ModelError
from faceid.models.lora.export import changes_for
from faceid.models.lora.export import merge as merge_changes
from faceid.models.lora.lora_formats import LoraFile, read_lora, read_lora_file
from faceid.models.lora.lora_writing import write_lora

pytestmark = pytest.mark.fault("A1")

TINY = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 8,
    "freq_dim": 8,
    "ffn_dim": 24,
    "num_layers": 2,
    "vace_layers": [0],
    "vace_in_channels": 12,
}
LAYERS = ("blocks.0.attn1.to_q", "blocks.1.attn2.to_out.0", "blocks.1.ffn.net.0.proj", "vace_blocks.0.attn1.to_q")
# As diffusers' training scripts and peft's users give them: several of each rule at once.
CONFIGS = {
    "alpha": {"r": 4, "lora_alpha": 6},
    "the defaults, left out": {},
    "rank_pattern": {"r": 4, "lora_alpha": 6, "rank_pattern": {"attn1.to_q": 2}},
    "alpha_pattern": {"r": 4, "lora_alpha": 6, "alpha_pattern": {"blocks.0.attn1.to_q": 1, r"to_out\.0": 12}},
    "a pattern from the name's beginning": {"r": 4, "lora_alpha": 6, "alpha_pattern": {"^blocks.0.attn1.to_q": 1}},
    "the first of two patterns that match": {"r": 4, "lora_alpha": 6, "alpha_pattern": {"to_q": 2, "attn1.to_q": 9}},
    "both patterns": {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_q": 3}, "alpha_pattern": {"attn1.to_q": 5}},
    "use_rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "use_rslora and both patterns": {
        **{"r": 4, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"net.0.proj": 9}},
        "alpha_pattern": {"net.0.proj": 5},
    },
    "lora_bias": {"r": 4, "lora_alpha": 6, "lora_bias": True},
    "lora_bias and use_rslora": {"r": 4, "lora_alpha": 6, "lora_bias": True, "use_rslora": True},
}


def tiny() -> WanVACETransformer3DModel:
    torch.manual_seed(0)
    return WanVACETransformer3DModel(**TINY)


def with_adapter(config: LoraConfig) -> WanVACETransformer3DModel:
    """A transformer with peft's LoRA on it, all of it moved."""
    model = tiny()
    model.add_adapter(config, "one")
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    return model


def merged_by_peft(model: WanVACETransformer3DModel) -> dict[str, torch.Tensor]:
    """What peft's own merge makes of the base, by plain names."""
    for module in [module for module in model.modules() if isinstance(module, LoraLayer)]:
        module.merge()
    state = model.state_dict()
    return {name.replace(".base_layer", ""): tensor for name, tensor in state.items() if ".lora_" not in name}


def merged_by_us(lora: LoraFile) -> dict[str, torch.Tensor]:
    model = tiny()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    merge_changes(changes_for(lora, shapes, "tiny"), model)
    return model.state_dict()


def assert_the_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], num_changed: int) -> None:
    assert ours.keys() == theirs.keys()
    before = tiny().state_dict()
    assert sum(not torch.equal(theirs[name], before[name]) for name in theirs) == num_changed
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name


@pytest.mark.parametrize("rule", CONFIGS)
@pytest.mark.parametrize("loader", ["diffusers", "diffusers' pipeline", "peft"])
def test_what_is_merged_is_what_their_loader_adds(rule, loader, tmp_path):
    config = LoraConfig(target_modules=list(LAYERS), **CONFIGS[rule])
    if loader == "peft":
        # Its folder: the scale is in adapter_config.json alone.
        wrapped = get_peft_model(tiny(), config)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
        wrapped.save_pretrained(tmp_path)
        path, model = (
            tmp_path / "adapter_model.safetensors",
            PeftModel.from_pretrained(tiny(), tmp_path).base_model.model,
        )
    else:
        with_adapter(config).save_lora_adapter(tmp_path, "one")
        path, model = tmp_path / "pytorch_lora_weights.safetensors", tiny()
        if loader == "diffusers":
            model.load_lora_adapter(path, prefix=None, use_safetensors=True)
        else:
            # As WanVACEPipeline.save_lora_weights writes it, `transformer.` before every key and every field.
            given, written = tiny(), with_adapter(config)
            header = {f"transformer.{key}": value for key, value in written.peft_config["one"].to_dict().items()}
            header |= {"transformer.target_modules": list(LAYERS)}
            tensors = {f"transformer.{name}": tensor for name, tensor in load_file(path).items()}
            save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(header)})
            pipeline = WanVACEPipeline(None, None, None, None, given)
            pipeline.load_lora_weights(path)
            model = given
    changed = len(LAYERS) * (2 if "lora_bias" in rule else 1)
    assert_the_same(merged_by_us(read_lora_file(path)), merged_by_peft(model), changed)


def pairs(prefix: str = "", rank: int = 4) -> dict[str, torch.Tensor]:
    state, found = tiny().state_dict(), {}
    for number, layer in enumerate(LAYERS):
        rows, columns = state[f"{layer}.weight"].shape
        generator = torch.Generator().manual_seed(number)
        found[f"{prefix}{layer}.lora_A.weight"] = torch.randn(rank + number % 2, columns, generator=generator)
        found[f"{prefix}{layer}.lora_B.weight"] = torch.randn(rows, rank + number % 2, generator=generator)
    return found


@pytest.mark.parametrize("alphas", [(3.0, 3.0, 3.0, 3.0), (3.0, 1.0, 7.0, 3.0)])
def test_network_alphas_are_what_diffusers_makes_of_them(alphas, tmp_path):
    """The `.alpha` of each layer, which diffusers is handed beside the tensors."""
    by_layer = {f"transformer.{layer}.alpha": alpha for layer, alpha in zip(LAYERS, alphas, strict=True)}
    model = tiny()
    model.load_lora_adapter(pairs("transformer."), network_alphas=dict(by_layer))
    tensors = {**pairs("transformer."), **{key: torch.tensor(alpha) for key, alpha in by_layer.items()}}
    save_file(tensors, tmp_path / "x.safetensors")
    assert_the_same(merged_by_us(read_lora_file(tmp_path / "x.safetensors")), merged_by_peft(model), len(LAYERS))


def test_without_any_word_on_it_the_scale_is_one(tmp_path):
    """Of every rank, as diffusers has it."""
    model = tiny()
    model.load_lora_adapter(pairs("transformer."))
    save_file(pairs("transformer."), tmp_path / "x.safetensors")
    assert_the_same(merged_by_us(read_lora_file(tmp_path / "x.safetensors")), merged_by_peft(model), len(LAYERS))


@pytest.mark.parametrize("rule", CONFIGS)
def test_what_we_write_for_diffusers_is_loaded_by_it_with_every_rule(rule, tmp_path):
    with_adapter(LoraConfig(target_modules=list(LAYERS), **CONFIGS[rule])).save_lora_adapter(tmp_path, "one")
    read = read_lora_file(tmp_path / "pytorch_lora_weights.safetensors")
    write_lora(tmp_path / "ours.safetensors", read.lora, "diffusers", read.diffs)
    pipeline = WanVACEPipeline(None, None, None, None, model := tiny())
    pipeline.load_lora_weights(tmp_path / "ours.safetensors")
    again = read_lora_file(tmp_path / "ours.safetensors")
    assert_the_same(merged_by_us(again), merged_by_peft(model), len(read.lora) + len(read.diffs))
    assert_the_same(merged_by_us(read), merged_by_us(again), len(read.lora) + len(read.diffs))


def test_a_layer_s_name_that_ends_another_s_keeps_its_own_alpha(tmp_path):
    """`proj_out` is the head, and the end of every VACE block's."""
    state = tiny().state_dict()
    names = ("proj_out", "vace_blocks.0.proj_out", "blocks.0.attn1.to_q")
    given = {}
    for name, alpha in zip(names, (2.0, 5.0, 5.0), strict=True):
        rows, columns = state[f"{name}.weight"].shape
        given |= {f"{name}.lora_A.weight": torch.randn(3, columns), f"{name}.lora_B.weight": torch.randn(rows, 3)}
        given[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(given, tmp_path / "x.safetensors")
    read = read_lora_file(tmp_path / "x.safetensors")
    write_lora(tmp_path / "ours.safetensors", read.lora, "diffusers")
    again = read_lora(tmp_path / "ours.safetensors")
    assert {name: each.alpha for name, each in again.items()} == dict(zip(names, (2.0, 5.0, 5.0), strict=True))


def file_with(tmp_path, header: dict | str, extra: dict | None = None):
    text = header if isinstance(header, str) else json.dumps(header)
    tensors = {
        "blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 16),
        "blocks.0.attn1.to_q.lora_B.weight": torch.ones(16, 4),
    }
    save_file(tensors | (extra or {}), tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": text})
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"r": 4, "lora_alpha": 4, "use_dora": True}, "use_dora=True"),
        ({"r": 4, "lora_alpha": 4, "peft_type": "ADALORA"}, "peft_type='ADALORA'"),
        ({"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"r": 4, "lora_alpha": 4, "bias": "lora_only"}, "bias='lora_only'"),
        ({"r": 4, "lora_alpha": 4, "alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"r": 4, "lora_alpha": 4, "lora_gamma": 2}, "'lora_gamma'=2: unknown key"),
        ({"r": 8, "lora_alpha": 4}, "of rank 4, r=8 says its description"),
        ({"r": 4, "lora_alpha": 4, "rank_pattern": {"to_q": 2}}, "of rank 4, r=2 says its description"),
        ({"r": 10**9, "lora_alpha": 4}, "r=1000000000: must be a whole number"),
        ({"r": 4, "lora_alpha": float("inf")}, "lora_alpha=inf"),
        ({"r": 4, "lora_alpha": float("nan")}, "lora_alpha=nan"),
        ({"r": 4, "lora_alpha": -1}, "lora_alpha=-1"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_q": 0}}, "alpha_pattern: 'to_q'=0"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"(a+)+x": 1}}, "too involved a pattern"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"(": 1}}, "no pattern of names"),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": ["to_q"]}, "must be numbers by name"),
        ({"r": 4, "lora_alpha": 4, "use_rslora": "yes"}, "must be true or false"),
        ("[1]", "a list, not an object"),
        ("{", "cannot be read"),
        ("[" * 100_000, "nested more than 64 deep"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused_by_the_key(header, said, tmp_path):
    with pytest.raises(ModelError) as error:
        read_lora(file_with(tmp_path, header), "init_lora")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"init_lora={tmp_path}/x.safetensors: ")


def test_two_words_on_one_scale_are_refused(tmp_path):
    """diffusers multiplies both in, other tools one of them."""
    alpha = {"blocks.0.attn1.to_q.alpha": torch.tensor(2.0)}
    with pytest.raises(ModelError, match="an alpha of its own and another scale in the description"):
        read_lora(file_with(tmp_path, {"r": 4, "lora_alpha": 2}, alpha))
    # Where the description says 1 there is nothing to apply twice.
    assert read_lora(file_with(tmp_path, {"r": 4, "lora_alpha": 4}, alpha))["blocks.0.attn1.to_q"].scale == 0.5


@pytest.mark.parametrize(
    ("key", "method"),
    [
        ("blocks.0.attn1.to_q.lora_magnitude_vector", "DoRA"),
        ("diffusion_model.blocks.0.self_attn.q.dora_scale", "DoRA"),
        ("lora_unet_blocks_0_self_attn_q.lokr_w1", "LoKr"),
        ("lora_unet_blocks_0_self_attn_q.hada_w1_a", "LoHa"),
        ("lora_unet_blocks_0_self_attn_q.lora_mid.weight", "LoCon"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_its_name(key, method, tmp_path):
    path = file_with(tmp_path, {"r": 4, "lora_alpha": 4}, {key: torch.ones(3)})
    with pytest.raises(ModelError, match=rf"1 of its tensors are of {method}.*{key}"):
        read_lora(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -2.0, 0.0, 1e-40, 1e-7])
def test_an_alpha_tensor_that_is_no_alpha_is_refused(value, tmp_path):
    alpha = {"blocks.0.attn1.to_q.alpha": torch.tensor(value)}
    with pytest.raises(ModelError, match=r"to_q\.alpha=.*must be a number, 1e-06 to 1e\+06"):
        read_lora(file_with(tmp_path, {"r": 4, "lora_alpha": 4}, alpha))


@pytest.mark.parametrize("key", ["lora_alpha", "alpha_pattern"])
def test_an_alpha_in_the_description_that_switches_off_is_refused(key, tmp_path):
    given = {"r": 4, "lora_alpha": 4} | ({key: 1e-40} if key == "lora_alpha" else {key: {"blocks.0.attn1.to_q": 1e-40}})
    with pytest.raises(ModelError, match=rf"{key}.*=1e-40: must be a number, 1e-06 to 1e\+06"):
        read_lora(file_with(tmp_path, given))


def test_what_the_description_says_of_a_text_encoder_is_said_to_have_no_effect(tmp_path, caplog):
    pairs_of = {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 8)}
    pairs_of["transformer.blocks.0.attn1.to_q.lora_B.weight"] = torch.ones(8, 4)
    said = {"transformer.r": 4, "transformer.lora_alpha": 4, "text_encoder.r": 9, "text_encoder.lora_alpha": 1}
    save_file(pairs_of, tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": json.dumps(said)})
    assert read_lora(tmp_path / "x.safetensors")["blocks.0.attn1.to_q"].scale == 1
    assert "2 of its keys are not of the transformer and have no effect" in caplog.text
    del said["transformer.r"], said["transformer.lora_alpha"]
    save_file(pairs_of, tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": json.dumps(said)})
    with pytest.raises(ModelError, match=r"'text_encoder\.r'=9: unknown key"):
        read_lora(tmp_path / "x.safetensors")


@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float64]
)
def test_stored_numbers_of_every_width_are_lifted(dtype, tmp_path):
    stored = {name: tensor.to(dtype) for name, tensor in pairs("transformer.").items()}
    save_file(stored, tmp_path / "x.safetensors")
    save_file({name: tensor.float() for name, tensor in stored.items()}, tmp_path / "wide.safetensors")
    read = read_lora_file(tmp_path / "x.safetensors")
    assert_the_same(merged_by_us(read), merged_by_us(read_lora_file(tmp_path / "wide.safetensors")), len(LAYERS))
    for kind in ("diffusers", "comfyui", "diffsynth", "kohya"):
        write_lora(tmp_path / "out.safetensors", read.lora, kind)
        again = read_lora_file(tmp_path / "out.safetensors")
        assert_the_same(merged_by_us(again), merged_by_us(read), len(LAYERS))


@pytest.mark.fault("A3")
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_stored_numbers_that_are_no_weights_are_refused_in_a_line(dtype, tmp_path):
    save_file({name: tensor.to(dtype) for name, tensor in pairs().items()}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=rf"lora_A\.weight is {str(dtype).removeprefix('torch.')}; quantised weights"):
        read_lora(tmp_path / "x.safetensors")


def test_a_linear_layer_s_halves_may_be_those_of_a_convolution_of_size_one(tmp_path):
    given = {name: tensor[:, :, None, None] for name, tensor in pairs().items()}
    save_file(given, tmp_path / "x.safetensors")
    save_file(pairs(), tmp_path / "y.safetensors")
    ours, theirs = (read_lora(tmp_path / f"{name}.safetensors") for name in "xy")
    assert all(torch.equal(ours[layer].down, theirs[layer].down) and ours[layer].up.dim() == 2 for layer in theirs)


@pytest.mark.fault("M14")
def test_a_lora_with_a_number_that_is_none_is_refused_by_the_tensor(tmp_path):
    tensors = pairs()
    tensors["blocks.0.attn1.to_q.lora_B.weight"][3, 1] = float("nan")
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"to_q\.lora_B\.weight has 1 of 64 numbers that are not finite"):
        read_lora(tmp_path / "x.safetensors")
