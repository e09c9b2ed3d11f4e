"""A tiny Wan2.1-VACE base with random weights in both layouts, the original one written by names of its own.

Which tensor is which is asked of diffusers' converters (of the text encoder: a table), not of faceid.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACETransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

from faceid.toy.shipped import resolve_model_path

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 48,
    "num_layers": 4,
    "vace_layers": [0, 2],
    "vace_in_channels": 96,
}
# As the Wan repositories write it.
ORIGINAL_CONFIG = {
    "_class_name": "VaceWanModel",
    "_diffusers_version": "0.30.0",
    "dim": 32,
    "eps": 1e-06,
    "ffn_dim": 48,
    "freq_dim": 32,
    "in_dim": 16,
    "model_type": "vace",
    "num_heads": 2,
    "num_layers": 4,
    "out_dim": 16,
    "text_len": 512,
    "vace_in_dim": 96,
    "vace_layers": [0, 2],
}
TEXT_ENCODER = {
    "vocab_size": 512,
    "d_model": 24,
    "d_kv": 6,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
TEXT_BLOCK = {
    "norm1.weight": "layer.0.layer_norm.weight",
    "attn.q.weight": "layer.0.SelfAttention.q.weight",
    "attn.k.weight": "layer.0.SelfAttention.k.weight",
    "attn.v.weight": "layer.0.SelfAttention.v.weight",
    "attn.o.weight": "layer.0.SelfAttention.o.weight",
    "pos_embedding.embedding.weight": "layer.0.SelfAttention.relative_attention_bias.weight",
    "norm2.weight": "layer.1.layer_norm.weight",
    "ffn.gate.0.weight": "layer.1.DenseReluDense.wi_0.weight",
    "ffn.fc1.weight": "layer.1.DenseReluDense.wi_1.weight",
    "ffn.fc2.weight": "layer.1.DenseReluDense.wo.weight",
}


def write_both(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """The same weights in the diffusers layout and in the original one: the two folders."""
    torch.manual_seed(seed)
    transformer, vae = WanVACETransformer3DModel(**TRANSFORMER), AutoencoderKLWan(base_dim=8)
    encoder = UMT5EncoderModel(UMT5Config(**TEXT_ENCODER))
    for model in (transformer, vae, encoder):
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.1)
    ours, theirs = folder / "diffusers", folder / "original"
    transformer.save_pretrained(ours / "transformer")
    vae.save_pretrained(ours / "vae")
    encoder.save_pretrained(ours / "text_encoder")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.save_pretrained(ours / "scheduler")
    tokenizer = resolve_model_path("toy") / "tokenizer"
    shutil.copytree(tokenizer, ours / "tokenizer")

    shutil.copytree(tokenizer, theirs / "google" / "umt5-xxl")
    (theirs / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    state = renamed(transformer.state_dict(), transformer_names(4, 2), convert_wan_transformer_to_diffusers)
    save_file(state, theirs / "diffusion_pytorch_model.safetensors")
    torch.save(renamed(vae.state_dict(), vae_names(), convert_wan_vae_to_diffusers), theirs / "Wan2.1_VAE.pth")
    tensors = encoder.state_dict()
    tensors.pop("encoder.embed_tokens.weight", None)
    text = {old: tensors.pop(new) for old, new in text_names(2).items()}
    assert not tensors, sorted(tensors)
    torch.save(text, theirs / "models_t5_umt5-xxl-enc-bf16.pth")
    return ours, theirs


def renamed(state: dict[str, torch.Tensor], names: list[str], converter) -> dict[str, torch.Tensor]:
    """Tensors by their original names."""
    old_of = {new: old for old, new in asked(names, converter).items()}
    assert old_of.keys() == state.keys()
    return {old_of[name]: tensor.clone() for name, tensor in state.items()}


def asked(names: list[str], converter) -> dict[str, str]:
    """What diffusers calls them."""
    found = {}
    for name in names:
        (found[name],) = converter({name: torch.zeros(1)})
    return found


def transformer_names(layers: int, vace_layers: int) -> list[str]:
    """All of the original's."""
    names = ["patch_embedding", "vace_patch_embedding", "time_embedding.0", "time_embedding.2", "time_projection.1"]
    names += ["text_embedding.0", "text_embedding.2", "head.head"]
    both = [f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")] + ["head.modulation"]
    for kind, count in (("blocks", layers), ("vace_blocks", vace_layers)):
        for number in range(count):
            inner = [f"{attn}.{layer}" for attn in ("self_attn", "cross_attn") for layer in "qkvo"]
            inner += ["ffn.0", "ffn.2", "norm3"]
            if kind == "vace_blocks":
                inner += ["after_proj", *(["before_proj"] if number == 0 else [])]
            both += [f"{kind}.{number}.{name}.{leaf}" for name in inner for leaf in ("weight", "bias")]
            both += [f"{kind}.{number}.{attn}.norm_{x}.weight" for attn in ("self_attn", "cross_attn") for x in "qk"]
            both.append(f"{kind}.{number}.modulation")
    return both


def vae_names() -> list[str]:
    """All of Wan2.1's VAE: four stages of two residual blocks, of three in the decoder."""
    names = ["conv1", "conv2"]
    plain, shortcut = ("residual.2", "residual.6"), ("residual.2", "residual.6", "shortcut")
    norms = []
    for half in ("encoder", "decoder"):
        names += [f"{half}.conv1", f"{half}.head.2"]
        norms += [f"{half}.head.0", f"{half}.middle.1.norm"]
        names += [f"{half}.middle.1.to_qkv", f"{half}.middle.1.proj"]
        for place in (0, 2):
            names += [f"{half}.middle.{place}.{conv}" for conv in plain]
            norms += [f"{half}.middle.{place}.residual.{norm}" for norm in (0, 3)]
    for half, per_stage, widening, timed in (("downsamples", 2, (3, 6), (5, 8)), ("upsamples", 3, (4,), (3, 7))):
        start = "encoder" if half == "downsamples" else "decoder"
        for place in range(4 * (per_stage + 1) - 1):
            here = f"{start}.{half}.{place}"
            if place % (per_stage + 1) == per_stage:
                names += [f"{here}.resample.1", *([f"{here}.time_conv"] if place in timed else [])]
            else:
                names += [f"{here}.{conv}" for conv in (shortcut if place in widening else plain)]
                norms += [f"{here}.residual.{norm}" for norm in (0, 3)]
    return [f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")] + [f"{name}.gamma" for name in norms]


def text_names(layers: int) -> dict[str, str]:
    """Original to transformers, all of the UMT5 encoder's."""
    found = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
    for number in range(layers):
        found |= {f"blocks.{number}.{old}": f"encoder.block.{number}.{new}" for old, new in TEXT_BLOCK.items()}
    return found
