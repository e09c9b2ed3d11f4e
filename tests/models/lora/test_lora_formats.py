"""A LoRA by other tools' names: written, read back by each tool's own rules, and equal in what it does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, forward, train_a_little
from diffusers import WanVACEPipeline
from original_layout import write_both
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from faceid.errors import ConfigError, ModelError
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.models.lora.export import shapes_in_model, write_merged
from faceid.models.lora.lora_formats import (
    Lora,
    LoraFile,
    LoraLayer,
    lora_of_adapter,
    parse_lora,
    read_lora,
    start_with,
)
from faceid.models.lora.lora_writing import write_lora
from faceid.models.wan_vace.tensor_names import original_transformer_name

READ_BACK_BY_TOOLS = pytest.mark.promise(
    "ComfyUI, kohya, DiffSynth and merged exports, read back by each tool's rules",
    bar="identical tensors (DiffSynth: product), outputs within 1e-5, no key unused",
    proof="model",
)
PUBLISHED_LORAS = pytest.mark.promise(
    "published LoRAs as a starting point: 160 keys of a VACE-14B one, the rank-4 one of the 1.3B",
    bar="none unused, the same function",
    proof="model",
)

SMALL = {"conditioning_dim": 40, "mapper_hidden_dim": 48, "num_tokens": 3, "lora_rank": 4}
# A weight that is not 1: who forgets alpha is found out.
BOTH = AdapterSettings(**SMALL, lora_alpha=6.0, lora_branch="both", lora_layers="linear")
BASE = AdapterSettings(**SMALL, lora_alpha=6.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_both(tmp_path_factory.mktemp("layouts"))[0]


@pytest.fixture(scope="module", params=[BASE, BOTH], ids=["attention", "all layers"])
def trained(request, folder) -> tuple[AdapterSettings, Lora, torch.Tensor]:
    """Settings, a LoRA that does something, and what the base predicts with it, the face left out."""
    wan = load_wan(folder, ("transformer",))
    before = forward(wan)
    adapter = install_adapter(wan.transformer, request.param, EMBEDDING_DIM)
    train_a_little(adapter)
    tensors = adapter_tensors(adapter)
    adapter.set_block_strengths([0.0] * len(wan.transformer.blocks))
    with torch.no_grad():
        out = forward(wan, torch.zeros(2, EMBEDDING_DIM + 1))
    assert (out - before).abs().max() > 1e-3
    return request.param, lora_of_adapter(tensors, request.param.alpha), out


def written(trained, kind: str, tmp_path: Path) -> Path:
    write_lora(tmp_path / "lora.safetensors", trained[1], kind)
    return tmp_path / "lora.safetensors"


@READ_BACK_BY_TOOLS
@pytest.mark.parametrize("kind", ["diffusers", "comfyui", "kohya", "diffsynth"])
def test_what_is_written_is_read_back(trained, kind, tmp_path):
    lora, found = trained[1], read_lora(written(trained, kind, tmp_path))
    assert found.keys() == lora.keys()
    for layer in lora:
        assert torch.equal(found[layer].down, lora[layer].down)
        if kind == "diffsynth":  # has no alpha: the scale is in the tensors
            assert torch.allclose(found[layer].delta(), lora[layer].delta(), atol=1e-7)
        else:
            assert torch.equal(found[layer].up, lora[layer].up) and found[layer].alpha == lora[layer].alpha


@pytest.mark.promise(
    "the exported diffusers LoRA in WanVACEPipeline beside ours without the face",
    bar="latents within 1e-5",
    proof="model",
)
def test_diffusers_loads_it_and_predicts_the_same(trained, folder, tmp_path):
    wan = load_wan(folder)
    pipeline = WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)
    pipeline.load_lora_weights(written(trained, "diffusers", tmp_path))
    with torch.no_grad():
        assert (forward(wan) - trained[2]).abs().max() <= 1e-5


def original_weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load_wan(folder, ("transformer",)).transformer.state_dict()
    return {original_transformer_name(name): tensor.clone() for name, tensor in state.items()}


def predicts(folder: Path, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the base predicts with these weights, by original names."""
    wan = load_wan(folder, ("transformer",))
    state = {name: weights[original_transformer_name(name)] for name in wan.transformer.state_dict()}
    wan.transformer.load_state_dict(state)
    with torch.no_grad():
        return forward(wan)


# Of a weight's name what a tool looks for, and how the two halves end there.
RULES = {
    # comfy/lora.py: for each weight of the model, `diffusion_model.` and its name with the known endings.
    "comfyui": (lambda name: f"diffusion_model.{name}", "lora_B.weight", "lora_A.weight"),
    # musubi-tuner: `lora_unet_` and the module's name with underscores.
    "kohya": (lambda name: "lora_unet_" + name.replace(".", "_"), "lora_up.weight", "lora_down.weight"),
}


@READ_BACK_BY_TOOLS
@pytest.mark.parametrize("kind", RULES)
def test_the_rules_of_comfyui_and_kohya_take_every_key(kind, trained, folder, tmp_path):
    """Both add the product times alpha over rank."""
    find, up_end, down_end = RULES[kind]
    given, weights, taken = load_file(written(trained, kind, tmp_path)), original_weights(folder), set()
    for name in [name for name in weights if name.endswith(".weight")]:
        keys = [f"{find(name.removesuffix('.weight'))}.{end}" for end in (up_end, down_end, "alpha")]
        if keys[0] not in given:
            continue
        up, down, alpha = (given[key] for key in keys)
        weights[name] += (alpha.item() / down.shape[0]) * (up @ down)
        taken.update(keys)
    assert taken == given.keys()
    assert (predicts(folder, weights) - trained[2]).abs().max() <= 1e-5


@READ_BACK_BY_TOOLS
def test_diffsynth_s_rules_take_every_key(trained, folder, tmp_path):
    """DiffSynth-Studio's GeneralLoRALoader: drops `.default`, and adds the product as it is (alpha 1)."""
    given, weights, taken = load_file(written(trained, "diffsynth", tmp_path)), original_weights(folder), set()
    for key in [key for key in given if ".lora_B." in key]:
        keys = key.split(".")
        keys.pop(keys.index("lora_B"))
        keys.pop(keys.index("default"))
        down = key.replace(".lora_B.", ".lora_A.")
        weights[".".join(keys)] += given[key] @ given[down]
        taken |= {key, down}
    assert taken == given.keys()
    assert (predicts(folder, weights) - trained[2]).abs().max() <= 1e-5


@READ_BACK_BY_TOOLS
def test_a_musubi_lora_of_main_blocks_goes_through_diffusers_own_converter(folder, tmp_path):
    settings = AdapterSettings(**SMALL, lora_layers="linear")
    wan = load_wan(folder, ("transformer",))
    adapter = install_adapter(wan.transformer, settings, EMBEDDING_DIM)
    train_a_little(adapter)
    lora = lora_of_adapter(adapter_tensors(adapter), settings.alpha)
    write_lora(tmp_path / "kohya.safetensors", lora, "kohya")
    found = parse_lora(WanVACEPipeline.lora_state_dict(tmp_path / "kohya.safetensors"), "diffusers").lora
    assert found.keys() == lora.keys()
    assert all(torch.allclose(found[name].delta(), lora[name].delta(), atol=1e-6) for name in lora)


@READ_BACK_BY_TOOLS
@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_merged_weights_predict_the_same(trained, folder, layout, tmp_path):
    files = ModelFiles.find(folder)
    write_merged(LoraFile("x", trained[1]), files, tmp_path / "merged", layout, "file")
    if layout == "original":
        weights = load_file(tmp_path / "merged" / "diffusion_pytorch_model.safetensors")
        config = json.loads((tmp_path / "merged" / "config.json").read_text())
        assert config["model_type"] == "vace" and config["dim"] == 32
        out = predicts(folder, weights)
    else:
        for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
            (tmp_path / "base").mkdir(exist_ok=True)
            (tmp_path / "base" / part).symlink_to(folder / part)
        (tmp_path / "merged").rename(tmp_path / "base" / "transformer")
        with torch.no_grad():
            out = forward(load_wan(tmp_path / "base", ("transformer",)))
    assert (out - trained[2]).abs().max() <= 1e-5


def test_a_lora_of_another_base_is_not_merged(trained, folder, tmp_path):
    layer = next(iter(trained[1]))
    wrong = {layer.replace("blocks.0", "blocks.99"): trained[1][layer]}
    with pytest.raises(ModelError, match=r"blocks\.99\..*no such layer"):
        write_merged(LoraFile("x", wrong), ModelFiles.find(folder), tmp_path / "merged", "diffusers", "file")
    assert not (tmp_path / "merged").exists()


@PUBLISHED_LORAS
def test_training_begins_with_the_same_function(trained, folder):
    """Of another rank and alpha than the adapter's own."""
    settings = AdapterSettings(**{**SMALL, "lora_rank": 7}, lora_branch="both", lora_layers="linear", lora_alpha=3.0)
    wan = load_wan(folder, ("transformer",))
    adapter = install_adapter(wan.transformer, settings, EMBEDDING_DIM)
    start_with(trained[1], adapter, "init_lora=x")
    adapter.set_block_strengths([0.0] * len(wan.transformer.blocks))
    with torch.no_grad():
        assert (forward(wan, torch.zeros(2, EMBEDDING_DIM + 1)) - trained[2]).abs().max() <= 1e-5


def test_what_has_no_place_in_the_adapter_is_said(folder, trained):
    wan = load_wan(folder, ("transformer",))
    adapter = install_adapter(wan.transformer, AdapterSettings(**{**SMALL, "lora_rank": 2}), EMBEDDING_DIM)
    with pytest.raises(ConfigError, match=r"give --lora_(rank 4 or more|branch both --lora_layers linear)"):
        start_with(trained[1], adapter, "init_lora=x")


@PUBLISHED_LORAS
def test_published_loras_are_read_whole(real_data):
    shapes = json.loads((real_data / "wan" / "diffhdr_vace14b_lora_keys_shapes.json").read_text())
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    lora = parse_lora(tensors, "VACE-14B").lora
    assert 2 * len(lora) == len(tensors) == 160
    assert all(layer.startswith("vace_blocks.") and each.rank == 32 for layer, each in lora.items())
    path = real_data / "wan" / "mlxgen_wanvace_real_lora.safetensors"
    with safe_open(path, "pt") as file:
        count = len(list(file.keys()))
    lora = read_lora(path)
    assert 2 * len(lora) == count and {each.rank for each in lora.values()} == {4}
    # Names of other tools, as another project read them.
    table = json.loads((real_data / "wan" / "mlxgen_wanvace_lora_keys.json").read_text())
    in_blocks = {name: layer for name, layer in table.items() if "blocks." in name}
    for name, layer in in_blocks.items():
        tensors = {f"{name}.lora_A.weight": torch.zeros(2, 3), f"{name}.lora_B.weight": torch.zeros(4, 2)}
        assert list(parse_lora(tensors, "table").lora) == [layer]


@PUBLISHED_LORAS
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["blocks.0.self_attn.q.lora_A.weight"], "has no up tensor"),
        (["blocks.0.self_attn.q.lora_B.weight"], "has no down tensor"),
        (
            ["blocks.0.cross_attn.k_img.lora_A.weight"],
            r"no LoRA of a Wan model in it: 1 tensors, .*k_img\.lora_A\.weight",
        ),
        (["lora_unet_blocks_0_self_attn_x.alpha"], "no LoRA of a Wan model in it"),
        (["face_mapper.0.weight"], "no LoRA of a Wan model in it"),
        (
            ["blocks.0.self_attn.q.lora_A.weight", "transformer.blocks.0.attn1.to_q.lora_A.weight"],
            "two down tensors",
        ),
    ],
)
def test_a_key_that_does_not_fit_is_named(names, said, tmp_path):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=said) as error:
        read_lora(tmp_path / "x.safetensors", "init_lora")
    assert str(error.value).startswith(f"init_lora={tmp_path}/x.safetensors: ")


def a_lora(down: float, up: float, alpha: float = 2.0, dtype=torch.float32) -> Lora:
    """One small layer, all of one number."""
    return {
        "blocks.0.attn1.to_q": LoraLayer(
            torch.full((2, 3), down, dtype=dtype), torch.full((4, 2), up, dtype=dtype), alpha
        )
    }


@pytest.mark.parametrize(
    ("lora", "kind", "named"),
    [
        (a_lora(1.0, 1e35, 1e6), "diffsynth", "blocks.0.self_attn.q.lora_B.default.weight"),
        (a_lora(1e300, 1.0, dtype=torch.float64), "comfyui", "diffusion_model.blocks.0.self_attn.q.lora_A.weight"),
        (a_lora(1.0, 1e300, dtype=torch.float64), "diffusers", "transformer.blocks.0.attn1.to_q.lora_B.weight"),
    ],
)
def test_what_comes_out_too_large_is_not_written(tmp_path, lora, kind, named):
    with pytest.raises(ModelError, match=rf"{re.escape(named)} comes out with .* not finite in float32"):
        write_lora(tmp_path / "x.safetensors", lora, kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["diffusers", "comfyui", "diffsynth", "kohya"])
@pytest.mark.parametrize(("size", "dtype"), [(1e20, torch.float32), (1e20, torch.bfloat16), (300.0, torch.float16)])
def test_factors_whose_product_is_not_finite_are_not_written(tmp_path, size, dtype, kind):
    """Each is finite, and so is every tensor of the file; what a program adds to the base is not."""
    layer, lora = "blocks.0.attn1.to_q", a_lora(size, size, alpha=2.0, dtype=dtype)
    with pytest.raises(ModelError, match=rf"{layer}: the product of its factors comes out with \d+ of"):
        write_lora(tmp_path / "x.safetensors", lora, kind)
    assert not list(tmp_path.iterdir())
    # Where the bound is passed and the product is not: as large, and the parts take each other away.
    up = lora[layer].up.clone()
    up[:, 1::2] *= -1
    write_lora(tmp_path / "x.safetensors", {layer: LoraLayer(lora[layer].down, up, 2.0)}, kind)


@pytest.mark.parametrize("kind", ["diffusers", "comfyui", "diffsynth", "kohya"])
def test_equal_loras_are_equal_files(tmp_path, kind):
    """safetensors writes several keys of a header in any order: two files may be alike by chance, so it has one."""
    for number in range(2):
        write_lora(tmp_path / f"{number}.safetensors", a_lora(1.0, 1.0), kind)
        with safe_open(tmp_path / f"{number}.safetensors", "pt") as file:
            assert len(file.metadata() or {}) <= 1
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1
    assert b".faceid-" not in (tmp_path / "0.safetensors").read_bytes()


def test_a_product_that_is_too_large_is_not_merged(folder, tmp_path):
    files = ModelFiles.find(folder)
    out, wide = shapes_in_model(files.transformer)["blocks.0.attn1.to_q.weight"]
    layer = LoraLayer(torch.full((2, wide), 1e30), torch.full((out, 2), 1e30), 2.0)
    lora = LoraFile("lora=x", {"blocks.0.attn1.to_q": layer})
    with pytest.raises(ModelError, match=r"blocks\.0\.attn1\.to_q\.weight comes out with .* not finite"):
        write_merged(lora, files, tmp_path / "out", "diffusers", "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alpha", [torch.tensor(2 + 1j), torch.tensor(True)])
def test_an_alpha_that_is_no_number_is_named(alpha):
    name = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 3), f"{name}.lora_B.weight": torch.ones(4, 2)}
    with pytest.raises(ModelError, match=r"x: blocks\.0\.attn1\.to_q\.alpha is torch\.\w+, not a number"):
        parse_lora({**tensors, f"{name}.alpha": alpha}, "x")
    # Some tools write it as a whole number.
    assert parse_lora({**tensors, f"{name}.alpha": torch.tensor(4)}, "x").lora["blocks.0.attn1.to_q"].alpha == 4.0


def test_a_tensor_that_float32_cannot_hold_is_refused_when_read():
    name = "diffusion_model.blocks.0.self_attn.q"
    wide = torch.full((2, 3), 1e300, dtype=torch.float64)
    with pytest.raises(ModelError, match="numbers that are not finite"):
        parse_lora({f"{name}.lora_A.weight": wide, f"{name}.lora_B.weight": torch.ones(4, 2)}, "x")
