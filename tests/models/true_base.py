"""A base of VACE-1.3B's true sizes with random weights, in the layout of the Wan repositories and by its file names.

Transformer and VAE have every tensor of the published ones. The text encoder has the true width and one of its 24
layers, and the toy's tokenizer: the others would be 10 GB of noise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from original_layout import renamed, text_names, transformer_names, vae_names
from safetensors import TensorSpec, serialize_file
from torch import Tensor

from faceid.models.wan_vace.tensor_names import transformer_name
from faceid.toy.shipped import resolve_model_path

CONFIG = {
    "_class_name": "VaceWanModel",
    "dim": 1536,
    "eps": 1e-06,
    "ffn_dim": 8960,
    "freq_dim": 256,
    "in_dim": 16,
    "model_type": "vace",
    "num_heads": 12,
    "num_layers": 30,
    "out_dim": 16,
    "text_len": 512,
    "vace_in_dim": 96,
    "vace_layers": list(range(0, 30, 2)),
}
TRANSFORMER = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "num_layers": 30,
    "vace_layers": list(range(0, 30, 2)),
    "vace_in_channels": 96,
}
D_MODEL, D_FF, HEADS, VOCABULARY = 4096, 10240, 64, 384
TENSORS_PER_FILE = 330


def write_true_base(folder: Path) -> int:
    """Write it; the bytes of the transformer's weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    noise = Noise()
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in WanVACETransformer3DModel(**TRANSFORMER).state_dict().items()}
    names = transformer_names(30, 15)
    assert len(names) == len(shapes) == 1264
    weight_map, count, written = {}, -(-len(names) // TENSORS_PER_FILE), 0
    for number in range(count):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = names[number * TENSORS_PER_FILE : (number + 1) * TENSORS_PER_FILE]
        tensors = {name: noise.of(shapes[transformer_name(name)]) for name in part}
        written += sum(tensor.nbytes for tensor in tensors.values())
        # save_file wants tensors that share no memory.
        serialize_file({name: _spec(tensor) for name, tensor in tensors.items()}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": written}, "weight_map": weight_map}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))

    with torch.device("meta"):
        vae = AutoencoderKLWan()
    state = {name: noise.of(tensor.shape).float() for name, tensor in vae.state_dict().items()}
    torch.save(renamed(state, vae_names(), convert_wan_vae_to_diffusers), folder / "Wan2.1_VAE.pth")
    torch.save(dict(_text_tensors(noise)), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    shutil.copytree(resolve_model_path("toy") / "tokenizer", folder / "google" / "umt5-xxl")
    return written


class Noise:
    """bf16 numbers of N(0, 0.02): a pool of them, which every tensor begins to read at another place."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.period = 2**24 + 3
        self.pool = torch.empty(self.period).normal_(0, 0.02, generator=generator).bfloat16().repeat(4)
        self.at = 0

    def of(self, shape: Iterable[int]) -> Tensor:
        """A view: to copy 5 GB takes longer than to write them."""
        size = torch.Size(shape)
        self.at = (self.at + 7919) % self.period
        return self.pool[self.at : self.at + size.numel()].reshape(size)


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(dtype="bfloat16", shape=list(tensor.shape), data_ptr=tensor.data_ptr(), data_len=tensor.nbytes)


def _text_tensors(noise: Noise) -> Iterable[tuple[str, Tensor]]:
    sizes = {
        "token_embedding.weight": (VOCABULARY, D_MODEL),
        "blocks.0.pos_embedding.embedding.weight": (32, HEADS),
        "blocks.0.ffn.gate.0.weight": (D_FF, D_MODEL),
        "blocks.0.ffn.fc1.weight": (D_FF, D_MODEL),
        "blocks.0.ffn.fc2.weight": (D_MODEL, D_FF),
        **{f"blocks.0.attn.{layer}.weight": (D_MODEL, D_MODEL) for layer in "qkvo"},
    }
    for name in text_names(1):
        yield name, noise.of(sizes.get(name, (D_MODEL,))).clone()
