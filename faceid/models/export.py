"""Bases written whole: in the diffusers layout, or the transformer alone with a LoRA merged into it, in either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from faceid.errors import ModelError
from faceid.models.lora_formats import Lora
from faceid.models.model_files import ModelFiles
from faceid.models.model_part import Layout
from faceid.models.original_configs import original_transformer_config
from faceid.models.original_names import original_transformer_name
from faceid.models.wan import WanModel, load_part, load_wan
from faceid.outputs import new_folder

Precision = Literal["file", "bfloat16", "float32"]
"""file: as the weights are read."""
SHARD_SIZE = "5GB"


def dtype_of(precision: Precision) -> torch.dtype | None:
    """None for what is left as it is in the file."""
    return None if precision == "file" else getattr(torch, precision)


def write_diffusers(files: ModelFiles, folder: Path, precision: Precision) -> None:
    """Write a base in the diffusers layout, all parts and model_index.json, atomically.

    The weights stay in their mapped files until they are written, so that one shard is in memory at a time.
    """
    wan: WanModel = load_wan(files, dtype=dtype_of(precision))
    pipeline = WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)
    with new_folder(folder) as temporary:
        pipeline.save_pretrained(temporary, max_shard_size=SHARD_SIZE)


def write_merged(lora: Lora, files: ModelFiles, folder: Path, layout: Layout, precision: Precision) -> None:
    """Write the transformer of a base with a LoRA merged into it: a folder of weights and config.json, atomically.

    Added in float32. Raises: ModelError naming the first layer that the base has not, or that is of another size.
    """
    transformer = load_part(WanVACETransformer3DModel, files.transformer, "cpu", dtype_of(precision))
    merge(lora, transformer)
    with new_folder(folder, "output") as temporary:
        if layout == "diffusers":
            transformer.save_pretrained(temporary, max_shard_size=SHARD_SIZE)
        else:
            write_original_transformer(transformer.state_dict(), dict(transformer.config), temporary)


def merge(lora: Lora, transformer: Any) -> None:
    """Add a LoRA to a transformer's weights for good. Raises: ModelError as `write_merged`."""
    layers = dict(transformer.named_modules())
    for name, each in lora.items():
        if name not in layers:
            raise ModelError(f"{name}: the LoRA is on it, the base has no such layer; they are of different models")
        weight, delta = layers[name].weight, each.delta()
        if weight.shape != delta.shape:
            raise ModelError(f"{name}: the LoRA is of {list(delta.shape)}, the base's layer of {list(weight.shape)}")
        weight.data = (weight.data.float() + delta).to(weight.dtype)


def write_original_transformer(tensors: dict[str, Tensor], config: dict[str, Any], folder: Path) -> None:
    """Weights, in shards where they are large, and config.json, as the Wan repositories have them."""
    renamed = {}
    for name, tensor in tensors.items():
        original = original_transformer_name(name)
        if original is None:
            raise ModelError(f"{name}: has no name in the layout of the Wan repositories")
        renamed[original] = tensor.contiguous()
    (folder / "config.json").write_text(json.dumps(original_transformer_config(config), indent=2), encoding="utf-8")
    pattern = "diffusion_pytorch_model{suffix}.safetensors"
    save_torch_state_dict(renamed, folder, filename_pattern=pattern, max_shard_size=SHARD_SIZE)


def check_same_tensors(read: ModelFiles, written: ModelFiles, precision: Precision) -> None:
    """Compare every tensor of two bases. Raises: ModelError naming the first that differs beyond what was asked for."""
    for one, other in zip(read.parts, written.parts, strict=True):
        dtype = None if one.name == "vae" else dtype_of(precision)
        found = {other.names[name]: tensor for file in other.files for name, tensor in file.tensors()}
        for file in one.files:
            for name, tensor in file.tensors():
                new = one.names[name]
                # Some of them stay in float32 whatever is asked; compared is what both can hold.
                expected = tensor if dtype is None else tensor.to(dtype)
                if new not in found or not torch.equal(found[new].to(expected.dtype), expected):
                    raise ModelError(f"{other.path}: {new} is not what was read; the disk or the memory is at fault")
