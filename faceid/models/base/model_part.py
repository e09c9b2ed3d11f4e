"""One part of a base on disk (transformer, VAE or text encoder): open its weights, read or make its config.

Where a config of the original layout is silent, the shapes of the tensors give the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch

from faceid.errors import ModelError
from faceid.models.base import original_names
from faceid.models.base.model_json import read_config
from faceid.models.base.original_configs import FROM_SHAPES
from faceid.models.base.weights import WeightsFile, digest_of, shapes_of, sharded_files
from faceid.models.tensor_shapes import Shapes
from faceid.models.wan_vace import transformer as wan_vace
from faceid.models.wan_vace.tensor_names import transformer_name

Layout = Literal["diffusers", "original"]
PartName = Literal["transformer", "vae", "text_encoder"]
PARTS: tuple[PartName, ...] = ("transformer", "vae", "text_encoder")
# The name of the transformer's files in the original layout.
WEIGHTS_STEM = "diffusion_pytorch_model"
# Config keys that the tensors' shapes leave open, and on which the output depends.
NOT_IN_SHAPES: dict[PartName, tuple[str, ...]] = {
    "transformer": wan_vace.NOT_IN_SHAPES,
    "vae": ("latents_mean", "latents_std", "temperal_downsample", "attn_scales"),
    "text_encoder": ("num_heads", "relative_attention_max_distance", "feed_forward_proj", "layer_norm_epsilon"),
}
# One tensor by two names, which transformers writes or leaves out.
_ALIASES = {"encoder.embed_tokens.weight": "shared.weight"}


@dataclass(frozen=True)
class Part:
    """One part of a base. path: its folder, or its one file (VAE and text encoder in the original layout)."""

    name: PartName
    layout: Layout
    path: Path

    @cached_property
    def files(self) -> list[WeightsFile]:
        """The weights, opened. Raises: ModelError naming a file that is missing, cut short or of another format."""
        return [WeightsFile.open(path) for path in self._paths()]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as diffusers (text encoder: transformers) writes it. Raises: ModelError naming a missing key."""
        if self.layout == "diffusers":
            return read_config(self.path / "config.json")
        return self.config_from(shapes_of(self.files))

    def config_from(self, shapes: Shapes) -> dict[str, Any]:
        """The config for a part in the original layout whose tensors have these shapes."""
        if self.name == "transformer":
            return wan_vace.transformer_config(read_config(self.path / "config.json"), shapes, self.path)
        return FROM_SHAPES[self.name](shapes, self.path)

    @cached_property
    def names(self) -> dict[str, str]:
        """The names of its tensors in the model, by their names in the files.

        Raises: ModelError for an unknown tensor.
        """
        shapes = shapes_of(self.files)
        if self.layout == "diffusers":
            return {name: name for name in shapes}
        rules: dict[str, original_names.Translate] = {
            "transformer": transformer_name,
            "vae": partial(original_names.vae_name, num_res_blocks=self.config.get("num_res_blocks", 0)),
            "text_encoder": original_names.text_encoder_name,
        }
        return original_names.translate(shapes, rules[self.name], str(self.path))

    def described(self, dtype: torch.dtype = torch.float32) -> list[Any]:
        """The content of its fingerprint, equal in both layouts: config, and tensors with values rounded to dtype."""
        config = {key: self.config.get(key) for key in NOT_IN_SHAPES[self.name]}
        names = {old: _ALIASES.get(new, new) for old, new in self.names.items()}
        return [config, digest_of(self.files, names, dtype)]

    def _paths(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if self.layout == "original":
            return sharded_files(self.path, WEIGHTS_STEM)
        found = sorted(self.path.glob("*.safetensors"))
        if not found:
            raise ModelError(f"{self.path}: no .safetensors weights in it")
        return found
