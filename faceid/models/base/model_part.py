"""One part of a base on disk: transformer, VAE or text encoder; its weights opened, its config read or made.

What the configs of the original layout do not say is read off the shapes of the tensors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch

from faceid.errors import ModelError
from faceid.models.base import original_names
from faceid.models.base.original_configs import FROM_SHAPES, Shapes, transformer_config
from faceid.models.base.read_json import read_config
from faceid.models.base.weights import WeightsFile, digest_of, shapes_of, sharded_files

Layout = Literal["diffusers", "original"]
PartName = Literal["transformer", "vae", "text_encoder"]
PARTS: tuple[PartName, ...] = ("transformer", "vae", "text_encoder")
# Of the transformer's files in the original layout.
WEIGHTS_STEM = "diffusion_pytorch_model"
# What its tensors' shapes leave open, and what comes out depends on.
NOT_IN_SHAPES: dict[PartName, tuple[str, ...]] = {
    "transformer": ("num_attention_heads", "patch_size", "vace_layers", "qk_norm", "cross_attn_norm", "eps"),
    "vae": ("latents_mean", "latents_std", "temperal_downsample", "attn_scales"),
    "text_encoder": ("num_heads", "relative_attention_max_distance", "feed_forward_proj", "layer_norm_epsilon"),
}
# One tensor by two names, which transformers writes or leaves out.
_ALIASES = {"encoder.embed_tokens.weight": "shared.weight"}
# Enough of a weights file to tell two fine-tunes of one architecture apart, in milliseconds instead of a minute.
_FINGERPRINT_PIECES, _FINGERPRINT_PIECE_BYTES = 16, 65536


@dataclass(frozen=True)
class Part:
    """One part of a base. path: its folder, or its one file (VAE and text encoder in the original layout)."""

    name: PartName
    layout: Layout
    path: Path

    @cached_property
    def files(self) -> list[WeightsFile]:
        """Its weights, opened. Raises: ModelError naming a file that is missing, cut short or of another format."""
        return [WeightsFile.open(path) for path in self._paths()]

    @cached_property
    def config(self) -> dict[str, Any]:
        """As diffusers (of the text encoder: transformers) writes it. Raises: ModelError naming what is not in it."""
        if self.layout == "diffusers":
            return read_config(self.path / "config.json")
        return self.config_from(shapes_of(self.files))

    def config_from(self, shapes: Shapes) -> dict[str, Any]:
        """Of a part in the original layout whose tensors have these shapes."""
        if self.name == "transformer":
            return transformer_config(read_config(self.path / "config.json"), shapes, self.path)
        return FROM_SHAPES[self.name](shapes, self.path)

    @cached_property
    def names(self) -> dict[str, str]:
        """What is in its files, and what that is called in the model. Raises: ModelError for an unknown tensor."""
        shapes = shapes_of(self.files)
        if self.layout == "diffusers":
            return {name: name for name in shapes}
        rules: dict[str, original_names.Translate] = {
            "transformer": original_names.transformer_name,
            "vae": partial(original_names.vae_name, num_res_blocks=self.config.get("num_res_blocks", 0)),
            "text_encoder": original_names.text_encoder_name,
        }
        return original_names.translate(shapes, rules[self.name], str(self.path))

    def described(self, dtype: torch.dtype = torch.float32) -> list[Any]:
        """What its fingerprint is of, the same in either layout: config, and tensors, their values rounded to dtype."""
        config = {key: self.config.get(key) for key in NOT_IN_SHAPES[self.name]}
        names = {old: _ALIASES.get(new, new) for old, new in self.names.items()}
        return [config, digest_of(self.files, names, dtype)]

    def formerly_described(self) -> list[Any]:
        """What its fingerprint was of: config, and size, head and spread pieces of each weights file."""
        config = {key: value for key, value in self.config.items() if not key.startswith("_")}
        return [config, *([path.name, path.stat().st_size, _sample_digest(path)] for path in self._paths())]

    def _paths(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if self.layout == "original":
            return sharded_files(self.path, WEIGHTS_STEM)
        found = sorted(self.path.glob("*.safetensors"))
        if not found:
            raise ModelError(f"{self.path}: no .safetensors weights in it")
        return found


def _sample_digest(file: Path) -> str:
    size = file.stat().st_size
    step = max(size // _FINGERPRINT_PIECES, _FINGERPRINT_PIECE_BYTES)
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for offset in range(0, size, step):
            stream.seek(offset)
            digest.update(stream.read(_FINGERPRINT_PIECE_BYTES))
        stream.seek(max(size - _FINGERPRINT_PIECE_BYTES, 0))
        digest.update(stream.read())
    return digest.hexdigest()
