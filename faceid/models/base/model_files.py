"""Find a base's files on disk.

The files tell the base's layout, where each part's weights and config are, and what names them. Two layouts are read.
The diffusers layout has a folder for each part. The original layout, of the Wan repositories, has the transformer's
weights beside its config.json, `models_t5_umt5-xxl-enc-bf16.pth`, `Wan2.1_VAE.pth` and the tokenizer in
`google/umt5-xxl/`. All files are checked, and an error names what is missing or wrong, before anything large is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from faceid.errors import ConfigError, ModelError
from faceid.files.given_paths import why_no_folder
from faceid.files.provenance import sha256_json
from faceid.flow import ALL_NOISE, NoiseRange
from faceid.geometry import Geometry
from faceid.models.base.latent_codec import LatentStatistics, statistics_of
from faceid.models.base.model_json import read_model_json
from faceid.models.base.model_part import PARTS, WEIGHTS_STEM, Part, PartName
from faceid.models.base.prompts import text_length
from faceid.models.base.weights import sharded_files
from faceid.models.wan_vace import transformer as wan_vace

TOKENIZER_CONFIG = "tokenizer_config.json"
ExpertName = Literal["high", "low"]
"""One of two transformers: the one that denoises high noise levels, or the one for low levels."""
ORIGINAL_TEXT_ENCODER, ORIGINAL_VAE, ORIGINAL_TOKENIZER = (
    "models_t5_umt5-xxl-enc-bf16.pth",
    "Wan2.1_VAE.pth",
    "google/umt5-xxl",
)
# The boundary of Wan2.2's A14B (wan/configs/wan_t2v_A14B.py, and VideoX-Fun's config of the VACE one).
ORIGINAL_BOUNDARY = 0.875


@dataclass(frozen=True)
class Experts:
    """The two transformers of a Wan2.2 base. boundary: the lowest sigma that `high` denoises."""

    high: Part
    low: Part
    boundary: float


@dataclass(frozen=True)
class ModelFiles:
    """A base on disk: its parts, and its properties without loading it."""

    path: Path
    transformer: Part
    vae: Part
    text_encoder: Part
    tokenizer: Path
    scheduler: Path | None
    """None in the original layout, which has no file for it: UniPC with a flow shift of 3, as diffusers converts it."""
    experts: Experts | None = None
    """For a base with two transformers. `transformer` is then the high one, until `of_expert` chooses."""
    expert: ExpertName | None = None
    """Which of the two was chosen."""
    noise: NoiseRange = ALL_NOISE
    """The noise levels that the transformer denoises."""

    @classmethod
    def find(
        cls, path: Path, vae_path: str | Path | None = None, text_encoder_path: str | Path | None = None
    ) -> ModelFiles:
        """Look at a folder, in either layout. vae_path, text_encoder_path: places of those parts outside the folder.

        Raises: ModelError naming the flag, the folder and what is missing in it.
        """
        if (reason := why_no_folder(path)) is not None:
            raise ModelError(f"model_path={path}: {reason}; give a Wan2.1-VACE folder, or toy")
        if (path / "high_noise_model").is_dir():
            found = _find_original(path, vae_path is None, text_encoder_path is None, "high_noise_model")
            low = replace(found.transformer, path=path / "low_noise_model")
            found = replace(found, experts=Experts(found.transformer, low, ORIGINAL_BOUNDARY))
        elif (path / "transformer").is_dir() or (path / "model_index.json").is_file():
            found = _find_diffusers(path, vae_path is None, text_encoder_path is None)
        elif (path / "config.json").is_file():
            found = _find_original(path, vae_path is None, text_encoder_path is None)
        else:
            raise ModelError(
                f"model_path={path}: neither transformer/ (the diffusers layout) nor config.json and "
                f"{WEIGHTS_STEM}.safetensors (the original layout) in it; give a whole Wan2.1-VACE folder, or toy"
            )
        if vae_path is not None:
            found = replace(found, vae=_given_part("vae", Path(vae_path)))
        if text_encoder_path is not None:
            part = _given_part("text_encoder", Path(text_encoder_path))
            found = replace(found, text_encoder=part, tokenizer=_tokenizer_beside(part.path) or found.tokenizer)
        _check(found)
        return found

    def of_expert(self, name: ExpertName | None) -> ModelFiles:
        """The base with one of its two transformers; itself when it has one. Raises: ConfigError for a wrong choice."""
        if self.experts is None:
            if name is not None:
                raise ConfigError(f"expert={name}: {self.path} has one transformer, for all noise; leave --expert out")
            return self
        boundary = self.experts.boundary
        if name is None:
            raise ConfigError(
                f"expert: missing; {self.path} has two transformers, for noise above {boundary:g} and below: give "
                "--expert high or low, and train an adapter for each"
            )
        noise = (boundary, 1.0) if name == "high" else (0.0, boundary)
        chosen = self.experts.high if name == "high" else self.experts.low
        return replace(self, transformer=chosen, experts=None, expert=name, noise=noise)

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """Transformer, VAE, text encoder."""
        return self.transformer, self.vae, self.text_encoder

    @cached_property
    def geometry(self) -> Geometry:
        """Every size, derived from the configs the way WanVACEPipeline does it (`vae_scale_factor_*`)."""
        downsample = self.vae.config["temperal_downsample"]
        patch_t, patch_h, patch_w = self.transformer.config["patch_size"]
        geometry = Geometry(
            spatial_factor=2 ** len(downsample),
            temporal_factor=2 ** sum(downsample),
            latent_channels=self.vae.config["z_dim"],
            patch_thw=(patch_t, patch_h, patch_w),
        )
        wan_vace.check_control(self.transformer.config, geometry, self.path)
        return geometry

    @cached_property
    def text_tokens(self) -> int:
        """L, the text tokens that the base reads, as its tokenizer states it."""
        file = self.tokenizer / TOKENIZER_CONFIG
        return text_length(read_model_json(file).get("model_max_length") if file.is_file() else None)

    @property
    def statistics(self) -> LatentStatistics:
        """The latent statistics of the VAE."""
        return statistics_of(self.vae.config)

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 naming the transformer or transformers and the VAE, which an adapter has to fit.

        The hash is over the transformers' values as bfloat16. Wan's own files are float32, and most copies of them are
        rounded to bfloat16. Training and rendering on a GPU also use bfloat16.
        """
        rounded = {"transformer": torch.bfloat16}
        return self._fingerprint(lambda part: part.described(rounded.get(part.name, torch.float32)))

    @cached_property
    def exact_fingerprint(self) -> str:
        """The same hash without rounding. Bases with equal ones compute the same."""
        return self._fingerprint(Part.described)

    def _fingerprint(self, describe: Callable[[Part], list[Any]]) -> str:
        described: dict[str, Any] = {part.name: describe(part) for part in (self.transformer, self.vae)}
        if self.experts is not None:
            described["low_noise"] = [self.experts.boundary, *describe(self.experts.low)]
        return sha256_json(described)

    @cached_property
    def latents_fingerprint(self) -> str:
        """Hex sha256 naming the VAE and the text encoder, which make latents and prompt embeddings.

        Bases that share them share latents (the 1.3B and the 14B do).
        """
        return sha256_json({part.name: part.described() for part in (self.vae, self.text_encoder)})


def _find_diffusers(path: Path, needs_vae: bool, needs_text_encoder: bool) -> ModelFiles:
    needed = {"transformer": True, "vae": needs_vae, "text_encoder": needs_text_encoder}
    needed |= {"tokenizer": needs_text_encoder, "scheduler": True}
    for part, is_needed in needed.items():
        if is_needed and not (path / part).is_dir():
            raise ModelError(
                f"model_path={path}: no {part}/ in it; a diffusers Wan2.1-VACE folder has transformer, vae, "
                "text_encoder, tokenizer and scheduler"
            )
    transformer, vae, text_encoder = (Part(name, "diffusers", path / name) for name in PARTS)
    found = ModelFiles(path, transformer, vae, text_encoder, path / "tokenizer", path / "scheduler")
    if not (path / "transformer_2").is_dir():
        return found
    boundary = read_model_json(path / "model_index.json").get("boundary_ratio")
    if not isinstance(boundary, float) or not 0 < boundary < 1:
        raise ModelError(f"{path / 'model_index.json'}: boundary_ratio={boundary}: must say where transformer_2 begins")
    low = replace(found.transformer, path=path / "transformer_2")
    return replace(found, experts=Experts(found.transformer, low, boundary))


def _find_original(path: Path, needs_vae: bool, needs_text_encoder: bool, transformer: str = ".") -> ModelFiles:
    vae, text_encoder, tokenizer = path / ORIGINAL_VAE, path / ORIGINAL_TEXT_ENCODER, path / ORIGINAL_TOKENIZER
    needed = {vae: needs_vae, text_encoder: needs_text_encoder, tokenizer: needs_text_encoder}
    for file, is_needed in needed.items():
        if is_needed and not file.exists():
            raise ModelError(
                f"model_path={path}: no {file.relative_to(path)} in it; a Wan2.1-VACE folder of the Wan repositories "
                f"has config.json, {WEIGHTS_STEM}.safetensors (or shards), {ORIGINAL_TEXT_ENCODER}, {ORIGINAL_VAE} and "
                f"{ORIGINAL_TOKENIZER}/"
            )
    return ModelFiles(
        path=path,
        transformer=Part("transformer", "original", path / transformer),
        vae=Part("vae", "original", vae),
        text_encoder=Part("text_encoder", "original", text_encoder),
        tokenizer=tokenizer,
        scheduler=None,
    )


def _given_part(name: PartName, path: Path) -> Part:
    """A part that a flag names: its folder, its one file of the original layout, or a base that contains it."""
    file = ORIGINAL_VAE if name == "vae" else ORIGINAL_TEXT_ENCODER
    if path.is_file():
        return Part(name, "original", path)
    for folder in (path, path / name):
        if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
            return Part(name, "diffusers", folder)
    if (path / file).is_file():
        return Part(name, "original", path / file)
    raise ModelError(f"{name}_path={path}: neither a folder with config.json and .safetensors, nor {file}")


def _tokenizer_beside(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    found = [p for p in (folder.parent / "tokenizer", folder / "tokenizer", folder / ORIGINAL_TOKENIZER) if p.is_dir()]
    return found[0] if found else None


def _check(found: ModelFiles) -> None:
    """Open every file. This reads nothing large."""
    low = [] if found.experts is None else [found.experts.low]
    for part in (found.transformer, *low):
        wan_vace.check_class(part.config, found.path)
    for part in (*found.parts, *low):
        for index in part.path.glob("*.safetensors.index.json") if part.layout == "diffusers" else ():
            sharded_files(part.path, index.name.removesuffix(".safetensors.index.json"))
        _ = part.names, part.config
