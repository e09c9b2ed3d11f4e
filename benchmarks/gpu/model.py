"""Wan2.1-VACE-1.3B with random weights and the face adapter on it, made on the device; and the toy's, to try it on.

Weights are normal with a spread of 0.02, never zeros: on zeros a card is measurably faster. What a model loaded by
`faceid.models.base.wan.load_wan` keeps in float32 is in float32 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks import REPOSITORY
from faceid.config import build_sections
from faceid.geometry import Geometry
from faceid.models.adapter.face_adapter import FaceAdapter, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base import wan
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.model_part import PARTS, Part
from faceid.models.costs.sizes import transformer_of
from faceid.toy.shipped import BASE_CONFIGS
from faceid.training.checks.run_sections import SECTIONS, RunSections

# Of Wan-AI/Wan2.1-VACE-1.3B-diffusers (transformer/config.json); its VAE has diffusers' default sizes.
VACE_1_3B: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "num_layers": 30,
    "vace_layers": list(range(0, 30, 2)),
    "vace_in_channels": 96,
    "qk_norm": "rms_norm_across_heads",
    "cross_attn_norm": True,
    "eps": 1e-6,
}
EXPERIMENT = REPOSITORY / "configs" / "wan_vace_1_3b.yaml"
FACE_DIM = 768
SPREAD = 0.02


# Compared by identity: two of the same sizes would be one world's.
@dataclass(frozen=True, eq=False)
class Scale:
    """The sizes of a run. check_frames: of a clip so short that float32 can be computed beside bf16."""

    is_tiny: bool
    transformer: dict[str, Any]
    vae: dict[str, Any]
    geometry: Geometry
    height: int
    width: int
    frames: tuple[int, ...]
    check_frames: int
    text_tokens: int

    def latent(self, frames: int) -> tuple[int, int, int, int]:
        """[C, f, h, w] of a clip."""
        return self.geometry.latent_shape(frames, self.height, self.width)

    def tokens(self, frames: int) -> int:
        """Of a clip, in the transformer."""
        return self.geometry.tokens(frames, self.height, self.width)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What the experiment's file says."""
        return yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))

    def adapter_settings(self) -> AdapterSettings:
        """The experiment's adapter."""
        return self.sections().adapter

    def sections(self, **changes: Any) -> RunSections:
        """The experiment's, with one sample a step; of inputs that nobody reads."""
        nothing = dict.fromkeys(("model_path", "output_dir", "face_embedding", "latents"), ".")
        values = {**nothing, **self.recipe, "batch_size": 1, "mixed_precision": "bf16", **changes}
        return RunSections(*build_sections(SECTIONS, values))


REAL = Scale(
    is_tiny=False,
    transformer=VACE_1_3B,
    vae={},
    geometry=Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2)),
    height=480,
    width=832,
    frames=(65, 81),
    check_frames=9,
    text_tokens=512,
)
TINY = Scale(
    is_tiny=True,
    transformer=BASE_CONFIGS["transformer"],
    vae=BASE_CONFIGS["vae"],
    geometry=Geometry(spatial_factor=4, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2)),
    height=32,
    width=32,
    frames=(9, 13),
    check_frames=5,
    text_tokens=16,
)


def random_transformer(scale: Scale, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Any:
    """Frozen. The same numbers in every dtype: those that bf16 can hold."""
    with torch.device(device):
        transformer = transformer_of(scale.transformer)
    kept = set(transformer._keep_in_fp32_modules or ())
    for name, parameter in transformer.named_parameters():
        # As diffusers chooses them when it loads.
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    randomise(transformer, device)
    return transformer.requires_grad_(False).eval()


def random_adapter(scale: Scale, transformer: Any) -> FaceAdapter:
    """The experiment's adapter as it is installed, with nothing in it that is zero as at the start of a training.

    The same numbers on a base of every dtype: those that bf16 can hold.
    """
    adapter = install_adapter(transformer, scale.adapter_settings(), FACE_DIM)
    generator = torch.Generator(transformer.device).manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            noise = _normal(parameter.shape, parameter.device, generator)
            parameter.copy_((parameter.bfloat16().float() + noise).bfloat16())
    return adapter


def random_vae(scale: Scale, device: torch.device) -> Any:
    """Frozen, in float32 as the product's."""
    with torch.device(device):
        vae = wan.AutoencoderKLWan(**scale.vae)
    randomise(vae, device)
    return vae.requires_grad_(False).eval()


def model_around(scale: Scale, transformer: Any, vae: Any = None) -> wan.WanModel:
    """What the product computes with, as if it had been loaded."""
    with torch.device("meta"):
        config = wan.AutoencoderKLWan(**scale.vae).config
    parts: dict[str, Any] = {name: Part(name, "diffusers", Path()) for name in PARTS}
    files = ModelFiles(Path(), **parts, tokenizer=Path(), scheduler=None)
    # Nothing is on disk: what is read there is said here.
    vars(files).update(geometry=scale.geometry, fingerprint="", latents_fingerprint="")
    vars(parts["vae"])["config"] = dict(config)
    return wan.WanModel(
        name="random weights",
        files=files,
        transformer=transformer,
        vae=vae,
        # The real model's scheduler has these settings and diffusers' defaults.
        scheduler=wan.UniPCMultistepScheduler(**BASE_CONFIGS["scheduler"]),
    )


@torch.no_grad()
def randomise(module: nn.Module, device: torch.device) -> None:
    """Every weight normal; a norm's around 1, so that what flows through many blocks stays of one size."""
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        noise = _normal(parameter.shape, device, generator)
        is_norm = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        # Rounded, so that a float32 twin has the same numbers.
        parameter.copy_((1 + noise if is_norm else noise).bfloat16())


def _normal(shape: torch.Size, device: torch.device, generator: torch.Generator) -> Tensor:
    return SPREAD * torch.randn(shape, device=device, generator=generator)
