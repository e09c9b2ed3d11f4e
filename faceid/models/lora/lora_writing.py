"""Write a LoRA under the names that other tools use.

Formats, with the loader that reads each:
- `diffusers`: `transformer.LAYER.lora_A.weight`, alpha and rank in the header; WanVACEPipeline.load_lora_weights.
- `comfyui`: `diffusion_model.ORIGINAL_LAYER.lora_A.weight` and `.alpha`; ComfyUI's LoraLoader (comfy/lora.py).
- `diffsynth`: `ORIGINAL_LAYER.lora_A.default.weight`, with the scale multiplied in; DiffSynth-Studio adds it as it is.
- `kohya`: `lora_unet_ORIGINAL_LAYER.lora_down.weight` and `.alpha`, with underscores; musubi-tuner and ComfyUI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from faceid.errors import ModelError
from faceid.files.outputs import staged_file
from faceid.models.base.weights import check_result
from faceid.models.lora.lora_formats import Lora, LoraLayer
from faceid.models.lora.lora_keys import KOHYA_PREFIX
from faceid.models.lora.lora_scales import DIFFUSERS_METADATA
from faceid.models.wan_vace.tensor_names import original_transformer_name

LoraFormat = Literal["diffusers", "comfyui", "diffsynth", "kohya"]


def write_lora(path: Path, lora: Lora, kind: LoraFormat, diffs: Mapping[str, Tensor] | None = None) -> None:
    """Write a safetensors file, atomically.

    diffs: tensors that are added to whole parameters (LoraFile). Raises: ModelError for an unknown format, or with
    the number of diffs without a place in the format. Raises it also for a tensor that becomes NaN or infinite.
    """
    if kind not in get_args(LoraFormat):
        raise ModelError(f"format={kind}: unknown; use one of {', '.join(get_args(LoraFormat))}")
    tensors = dict(_WRITERS[kind](lora))
    # diffusers' format has a place for a bias only in a layer with a product. Only ComfyUI's has a place for the rest.
    biases = {name: diff for name, diff in (diffs or {}).items() if name.removesuffix(".bias") in lora}
    biases = biases if kind == "diffusers" else {}
    if kind == "comfyui":
        tensors |= dict(_diffs_for_comfyui(diffs or {}))
    elif left := sorted(set(diffs or {}) - set(biases)):
        raise ModelError(
            f"lora_format={kind}: has no place for {len(left)} of the {len(lora) + len(diffs or {})} changes, the "
            f"first is to {left[0]}; use comfyui, or merge them into the base"
        )
    for name, diff in biases.items():
        layer = name.removesuffix(".bias")
        tensors[f"transformer.{layer}.lora_B.bias"] = diff / lora[layer].scale
    for name, tensor in tensors.items():
        check_result(tensor, name, f"lora_format={kind}")
    for layer, each in lora.items():
        _refuse_infinite_product(each, layer, f"lora_format={kind}")
    # The header has one key only. safetensors writes several in any order, and equal LoRAs must give equal files.
    header = {"format": "pt"}
    if kind == "diffusers":
        header = {DIFFUSERS_METADATA: json.dumps(_peft_metadata(lora, bool(biases)), sort_keys=True)}
    with staged_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)


def _refuse_infinite_product(layer: LoraLayer, name: str, source: str) -> None:
    """Raises: ModelError when the product added to the base is not finite, although both of its factors are."""
    # Programs compute the product in the type of its factors. Bases are bfloat16, with float32's range to within 1 %.
    narrow = [half.dtype for half in (layer.up, layer.down) if half.element_size() == 2]
    dtype = torch.float16 if torch.float16 in narrow else torch.bfloat16
    up, down = layer.up.flatten(1).double(), layer.down.flatten(1).double()
    # No number of the product is larger than this (Cauchy and Schwarz). It costs nothing beside the product.
    most = float(up.norm(dim=1).max() * down.norm(dim=0).max()) * layer.scale
    if not most <= torch.finfo(dtype).max:
        check_result((up @ down * layer.scale).to(dtype), f"{name}: the product of its factors", source)


def _as_diffusers(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        yield f"transformer.{layer}.lora_A.weight", each.down
        yield f"transformer.{layer}.lora_B.weight", each.up


def _as_comfyui(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = f"diffusion_model.{_original(layer)}"
        yield f"{name}.lora_A.weight", each.down
        yield f"{name}.lora_B.weight", each.up
        yield f"{name}.alpha", torch.tensor(each.alpha)


def _as_diffsynth(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = _original(layer)
        yield f"{name}.lora_A.default.weight", each.down
        yield f"{name}.lora_B.default.weight", each.up * each.scale


def _as_kohya(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = KOHYA_PREFIX + _original(layer).replace(".", "_")
        yield f"{name}.lora_down.weight", each.down
        yield f"{name}.lora_up.weight", each.up
        yield f"{name}.alpha", torch.tensor(each.alpha)


def _diffs_for_comfyui(diffs: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names as in comfy/weight_adapter: `.diff` for a weight or a parameter by its whole name, `.diff_b` for a bias."""
    for name, diff in diffs.items():
        stem, _, leaf = str(original_transformer_name(name)).rpartition(".")
        ending = {"weight": f"{stem}.diff", "bias": f"{stem}.diff_b"}.get(leaf, f"{stem}.{leaf}.diff")
        yield f"diffusion_model.{ending}", diff


def _original(layer: str) -> str:
    name = original_transformer_name(f"{layer}.weight")
    if name is None:
        raise ModelError(f"{layer}: not a layer of a Wan VACE transformer; only those can be exported")
    return name.removesuffix(".weight")


def _peft_metadata(lora: Lora, has_bias: bool) -> dict[str, Any]:
    """Describe the LoRA as peft would, so that the loader has alpha and rank. Layers unlike most are listed by name."""
    ranks, alphas = ([getattr(each, what) for each in lora.values()] for what in ("rank", "alpha"))
    rank, alpha = max(set(ranks), key=ranks.count), max(set(alphas), key=alphas.count)
    described = {
        "r": rank,
        "lora_alpha": alpha,
        # Anchored at the beginning: `proj_out` alone would also match that of every VACE block.
        "rank_pattern": {f"^{layer}": each.rank for layer, each in lora.items() if each.rank != rank},
        "alpha_pattern": {f"^{layer}": each.alpha for layer, each in lora.items() if each.alpha != alpha},
        "target_modules": sorted(lora),
    }
    if has_bias:
        described["lora_bias"] = True
    return {f"transformer.{key}": value for key, value in described.items()}


_WRITERS = {"diffusers": _as_diffusers, "comfyui": _as_comfyui, "diffsynth": _as_diffsynth, "kohya": _as_kohya}
