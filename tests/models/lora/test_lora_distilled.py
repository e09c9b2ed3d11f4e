"""Files of step distillation, as LightX2V and Kijai publish them: all of it is merged, what does not fit is counted."""

from __future__ import annotations

import pytest
import torch
from calling import call, refused
from diffusers import WanVACEPipeline
from safetensors.torch import load_file, save_file
from test_lora_scales import merged_by_peft, merged_by_us, tiny

from faceid.errors import ConfigError, ModelError
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.models.lora.export import changes_for
from faceid.models.lora.lora_formats import check_fits, read_lora, read_lora_file
from faceid.models.lora.lora_writing import write_lora
from faceid.models.wan_vace.tensor_names import original_transformer_name
from faceid.toy.shipped import resolve_model_path

pytestmark = pytest.mark.fault("A2")

# In a T2V model, on which they are made, there is no VACE branch.
LINEAR = [
    *(f"blocks.{n}.{a}_attn.{o}" for n in (0, 1) for a in ("self", "cross") for o in "qkvo"),
    *(f"blocks.{n}.ffn.{place}" for n in (0, 1) for place in (0, 2)),
    *("time_embedding.0", "time_embedding.2", "text_embedding.0", "text_embedding.2", "time_projection.1"),
]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) / 4


def originals() -> dict[str, torch.Tensor]:
    return {str(original_transformer_name(name)): tensor for name, tensor in tiny().state_dict().items()}


def distilled(prefix: str = "diffusion_model.", rank: int = 3, alpha: float = 2.0) -> dict[str, torch.Tensor]:
    """What lightx2v's t2v files hold: products and biases of every linear layer, zero norms, the head whole."""
    weights, found = originals(), {}
    for layer in LINEAR:
        rows, columns = weights[f"{layer}.weight"].shape
        found[f"{prefix}{layer}.lora_down.weight"] = drawn(rank, columns)
        found[f"{prefix}{layer}.lora_up.weight"] = drawn(rows, rank)
        # diffusers takes an alpha of a block's layers alone.
        if layer.startswith("blocks."):
            found[f"{prefix}{layer}.alpha"] = torch.tensor(alpha)
        found[f"{prefix}{layer}.diff_b"] = drawn(rows)
    for number in (0, 1):
        found[f"{prefix}blocks.{number}.norm3.diff"] = torch.zeros(16)
        found[f"{prefix}blocks.{number}.self_attn.norm_q.diff"] = torch.zeros(16)
    rows, columns = weights["head.head.weight"].shape
    return {**found, f"{prefix}head.head.diff": drawn(rows, columns), f"{prefix}head.head.diff_b": drawn(rows)}


def whole_changes(prefix: str = "diffusion_model.") -> dict[str, torch.Tensor]:
    """What diffusers leaves out: modulations, norms that did move, and the patch embedding, a convolution."""
    weights = originals()
    rows, *rest = weights["patch_embedding.weight"].shape
    return {
        f"{prefix}blocks.0.diff_m": drawn(*weights["blocks.0.modulation"].shape),
        f"{prefix}blocks.1.modulation.diff": drawn(*weights["blocks.1.modulation"].shape),
        f"{prefix}head.diff_m": drawn(*weights["head.modulation"].shape),
        f"{prefix}blocks.0.norm3.diff": drawn(16),
        f"{prefix}blocks.0.norm3.diff_b": drawn(16),
        f"{prefix}patch_embedding.lora_down.weight": drawn(3, *rest),
        f"{prefix}patch_embedding.lora_up.weight": drawn(rows, 3, 1, 1, 1),
    }


def by_comfyui(given: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The base with a file merged as comfy/lora.py and LightX2V's loader do it, by original names."""
    weights, taken = {name: tensor.clone() for name, tensor in originals().items()}, set()
    for name in weights:
        stem, _, leaf = name.rpartition(".")
        keys = {
            "weight": (f"{prefix}{stem}.diff",),
            "bias": (f"{prefix}{stem}.diff_b",),
            "modulation": (f"{prefix}{stem}.diff_m", f"{prefix}{name}.diff"),
        }[leaf]
        down, up = f"{prefix}{stem}.lora_down.weight", f"{prefix}{stem}.lora_up.weight"
        if leaf == "weight" and down in given:
            alpha = given.get(f"{prefix}{stem}.alpha", torch.tensor(float(given[down].shape[0])))
            product = given[up].flatten(1) @ given[down].flatten(1)
            weights[name] += (product * alpha / given[down].shape[0]).reshape(weights[name].shape)
            taken |= {down, up, f"{prefix}{stem}.alpha"} & given.keys()
        for key in [key for key in keys if key in given]:
            weights[name] += given[key]
            taken.add(key)
    assert taken == given.keys()
    return weights


def assert_equal_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """ours: by diffusers' names. theirs: by the original ones."""
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[str(original_transformer_name(name))], atol=1e-5), name


def test_what_diffusers_takes_of_such_a_file_we_take_alike(tmp_path):
    save_file(distilled(), tmp_path / "x.safetensors")
    pipeline = WanVACEPipeline(None, None, None, None, model := tiny())
    pipeline.load_lora_weights(tmp_path / "x.safetensors")
    ours, theirs = merged_by_us(read_lora_file(tmp_path / "x.safetensors")), merged_by_peft(model)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name


@pytest.mark.parametrize("prefix", ["diffusion_model.", "", "pipe.dit.", "model.diffusion_model."])
def test_all_of_it_is_merged_whatever_stands_before_the_names(prefix, tmp_path):
    given = {**distilled(prefix), **whole_changes(prefix)}
    save_file(given, tmp_path / "x.safetensors")
    found = read_lora_file(tmp_path / "x.safetensors")
    assert found.outside == [] and found.num_tensors == len(given)
    assert_equal_weights(merged_by_us(found), by_comfyui(given, prefix))


def test_written_for_comfyui_nothing_of_it_is_lost(tmp_path):
    given = {**distilled(), **whole_changes()}
    save_file(given, tmp_path / "x.safetensors")
    found = read_lora_file(tmp_path / "x.safetensors")
    write_lora(tmp_path / "y.safetensors", found.lora, "comfyui", found.diffs)
    assert_equal_weights(
        merged_by_us(read_lora_file(tmp_path / "y.safetensors")), by_comfyui(given, "diffusion_model.")
    )
    with pytest.raises(
        ModelError, match=r"lora_format=kohya: has no place for \d+ of the \d+ changes, the first is to"
    ):
        write_lora(tmp_path / "z.safetensors", found.lora, "kohya", found.diffs)
    assert not (tmp_path / "z.safetensors").exists()


def test_two_names_of_one_change_are_not_added_twice(tmp_path):
    save_file({**whole_changes(), "blocks.0.modulation.diff": torch.ones(1, 6, 16)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"blocks\.0\.scale_shift_table has two diff_m tensors"):
        read_lora_file(tmp_path / "x.safetensors")


def test_an_adapter_says_how_much_of_it_it_could_take(tmp_path):
    save_file(distilled() | whole_changes(), tmp_path / "x.safetensors")
    with pytest.raises(ModelError) as error:
        read_lora(tmp_path / "x.safetensors", "init_lora")
    count = len(distilled() | whole_changes())
    assert f"of its {count} tensors are low-rank pairs" in str(error.value) and "export_lora.py" in str(error.value)
    # Products alone, some of them where no adapter has a LoRA.
    products = {name: tensor for name, tensor in distilled().items() if ".diff" not in name}
    save_file(products, tmp_path / "y.safetensors")
    with pytest.raises(ConfigError, match=r"9 of its 25 layers have no place.*for 5 of them, such as condition_"):
        check_fits(read_lora(tmp_path / "y.safetensors"), AdapterSettings(), "init_lora=y")


def test_what_an_i2v_model_s_file_has_more_is_counted(tmp_path):
    image = {
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": drawn(3, 16),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": drawn(16, 3),
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": drawn(16),
        "diffusion_model.img_emb.proj.1.diff_b": drawn(16),
    }
    given = {**distilled(), **image}
    save_file(given, tmp_path / "x.safetensors")
    found = read_lora_file(tmp_path / "x.safetensors", "lora")
    first = r"k_img\.lora_(down|up)\.weight|norm_k_img|img_emb"
    with pytest.raises(ModelError, match=rf"4 of its {len(given)} tensors .* 4 of them of the image branch.*({first})"):
        found.without_outside(may_leave_out=False)
    assert_equal_weights(
        merged_by_us(found.without_outside(may_leave_out=True)), by_comfyui(distilled(), "diffusion_model.")
    )


def test_changes_of_another_model_are_counted_before_the_base_is_read(tmp_path):
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny().state_dict().items()}
    given = distilled() | {"blocks.9.self_attn.q.diff_b": drawn(16), "patch_embedding.diff": drawn(16, 36, 1, 2, 2)}
    save_file(given, tmp_path / "x.safetensors")
    found = read_lora_file(tmp_path / "x.safetensors")
    with pytest.raises(
        ModelError, match=r"2 of its \d+ changes have no place in tiny, the first is to (blocks\.9|patch)"
    ):
        changes_for(found, shapes, "tiny")
    assert len(changes_for(found, shapes, "tiny", may_leave_out=True)) > 40


def test_the_command_merges_such_a_file_into_a_base(tmp_path):
    base = resolve_model_path("toy")
    shape = load_wan(base, ("transformer",)).transformer.scale_shift_table.shape
    given = {
        "diffusion_model.head.diff_m": torch.ones(shape),
        "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(128),
        "diffusion_model.blocks.0.cross_attn.v_img.diff_b": torch.ones(128),
    }
    save_file(given, tmp_path / "x.safetensors")
    words = ("--lora", tmp_path / "x.safetensors", "--lora_format", "merged", "--model_path", "toy", "--output")
    refused(call("tools/export_lora.py", *words, tmp_path / "merged"), "1 of its 3 tensors", "v_img.diff_b")
    assert not (tmp_path / "merged").exists()
    ended = call("tools/export_lora.py", *words, tmp_path / "merged", "--allow_partial")
    assert ended.code == 0 and "they are left out" in ended.screen
    (file,) = ModelFiles.find(base).transformer.files
    before = load_file(file.path)
    after = load_file(tmp_path / "merged" / "diffusion_pytorch_model.safetensors")
    moves = {name: after[name].float() - tensor.float() for name, tensor in before.items()}
    moved = {name: move.unique().tolist() for name, move in moves.items() if move.any()}
    assert moved.keys() == {"scale_shift_table", "blocks.0.attn1.to_q.bias"}
    assert all(abs(value - 1) < 1e-2 for values in moved.values() for value in values)
