"""A base with random weights of a chosen size, written in both layouts with their true names, for peers_loading.

The names are those that the tests write (tests/original_layout.py): asked of diffusers' converters, not of ours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import original_layout
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from safetensors.torch import save_file
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from benchmarks.costs import in_a_fork
from faceid.toy.shipped import resolve_model_path

DTYPE = torch.bfloat16
FOLDERS = {"transformer": "transformer", "vae": "vae", "text": "text_encoder"}


@dataclass(frozen=True)
class BaseSize:
    """Of the base that is written. width: of the transformer and of the text encoder."""

    width: int
    heads: int
    ffn_dim: int
    layers: int
    vae_dim: int
    text_layers: int
    vocabulary: int


MIDDLE = BaseSize(width=1024, heads=8, ffn_dim=4096, layers=10, vae_dim=48, text_layers=8, vocabulary=65_536)
TINY = BaseSize(width=96, heads=2, ffn_dim=192, layers=2, vae_dim=8, text_layers=1, vocabulary=384)


@dataclass(frozen=True)
class Base:
    """The same weights in both layouts. mib: of each part's files in the diffusers layout."""

    diffusers: Path
    original: Path
    mib: dict[str, int]

    @classmethod
    def write(cls, folder: Path, size: BaseSize) -> Base:
        """About ten seconds for MIDDLE; in a process of its own, so that nothing of it is left in this one."""
        ours, theirs = folder / "diffusers", folder / "original"
        in_a_fork(partial(_write, ours, theirs, size))
        return cls(ours, theirs, {part: _bytes(ours / sub) >> 20 for part, sub in FOLDERS.items()})


def _write(ours: Path, theirs: Path, size: BaseSize) -> None:
    torch.manual_seed(0)
    tokenizer = resolve_model_path("toy") / "tokenizer"
    vace_layers = list(range(0, size.layers, 2))
    transformer = _random(
        lambda: WanVACETransformer3DModel(
            num_attention_heads=size.heads,
            attention_head_dim=size.width // size.heads,
            text_dim=size.width,
            ffn_dim=size.ffn_dim,
            num_layers=size.layers,
            vace_layers=vace_layers,
            vace_in_channels=96,
        ),
        DTYPE,
    )
    vae = _random(lambda: AutoencoderKLWan(base_dim=size.vae_dim), torch.float32)
    config = UMT5Config(
        vocab_size=size.vocabulary,
        d_model=size.width,
        d_kv=size.width // 16,
        num_heads=16,
        d_ff=size.width * 5 // 2,
        num_layers=size.text_layers,
        feed_forward_proj="gated-gelu",
    )
    encoder = _random(lambda: UMT5EncoderModel(config), DTYPE)
    for part, module in (("transformer", transformer), ("vae", vae), ("text_encoder", encoder)):
        module.save_pretrained(ours / part)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    WanVACEPipeline(AutoTokenizer.from_pretrained(tokenizer), encoder, vae, scheduler, transformer).save_pretrained(
        ours
    )
    shutil.copytree(tokenizer, theirs / "google" / "umt5-xxl")
    original: dict[str, Any] = {
        "dim": size.width,
        "ffn_dim": size.ffn_dim,
        "num_heads": size.heads,
        "num_layers": size.layers,
    }
    original |= {"vace_layers": vace_layers, "freq_dim": 256}
    (theirs / "config.json").write_text(json.dumps({**original_layout.ORIGINAL_CONFIG, **original}), encoding="utf-8")
    known = original_layout.transformer_names(size.layers, len(vace_layers))
    state = original_layout.renamed(transformer.state_dict(), known, convert_wan_transformer_to_diffusers)
    save_file(state, theirs / "diffusion_pytorch_model.safetensors")
    torch.save(
        original_layout.renamed(vae.state_dict(), original_layout.vae_names(), convert_wan_vae_to_diffusers),
        theirs / "Wan2.1_VAE.pth",
    )
    tensors = encoder.state_dict()
    text = {old: tensors[new] for old, new in original_layout.text_names(size.text_layers).items()}
    torch.save(text, theirs / "models_t5_umt5-xxl-enc-bf16.pth")


def _random(make: Callable[[], Any], dtype: torch.dtype) -> Any:
    """A module whose weights are normal, in `dtype`; never zeros."""
    with torch.device("meta"):
        module = make().to(dtype)
    module.to_empty(device="cpu")
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    for tensor in module.parameters():
        tensor.data.normal_(0, 0.02)
    return module


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
