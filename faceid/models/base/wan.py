"""Load a Wan2.1-VACE base: transformer, VAE, text encoder and scheduler, and the sizes they ask for.

Everything comes from a local folder, in diffusers' layout or that of the Wan repositories. Nothing is fetched. A tensor
is read from the mapped file straight to where it is used, so that no second copy of the weights is made. The base is
never changed: its fingerprint travels in every adapter, and loading an adapter checks it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from faceid.errors import ModelError
from faceid.files.documents import is_file_name
from faceid.geometry import Geometry
from faceid.models.base.latent_codec import LatentStatistics
from faceid.models.base.model_files import TOKENIZER_CONFIG, ModelFiles
from faceid.models.base.model_json import read_model_json
from faceid.models.base.model_part import Part
from faceid.models.base.original_configs import SCHEDULER
from faceid.models.base.small_convolutions import convolve_in_onednn
from faceid.models.base.weights import FiniteCheck, shapes_of
from faceid.models.wan_vace.transformer import TRANSFORMER

log = logging.getLogger(__name__)

PARTS = ("transformer", "vae", "text")
# Keys of a tokenizer's config. transformers opens the files that they name.
_NAMES_OF_FILES = {"vocab_file", "merges_file", "spm_file", "tokenizer_file", "fast_tokenizer_files"}


@dataclass
class WanModel:
    """One base in memory. A part that was not requested is None."""

    name: str
    files: ModelFiles
    transformer: Any = None
    vae: Any = None
    tokenizer: Any = None
    text_encoder: Any = None
    scheduler: Any = None

    @property
    def geometry(self) -> Geometry:
        """Which sizes are legal, and how pixels become tokens."""
        return self.files.geometry

    @property
    def statistics(self) -> LatentStatistics:
        """The statistics of the VAE's latents."""
        return self.files.statistics

    @property
    def fingerprint(self) -> str:
        """Names the transformer and the VAE, which an adapter has to fit."""
        return self.files.fingerprint

    @property
    def latents_fingerprint(self) -> str:
        """Names VAE and text encoder. Bases that share them share latents (the 1.3B and the 14B do)."""
        return self.files.latents_fingerprint


def load_wan(
    base: ModelFiles | Path,
    parts: Collection[str] = PARTS,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    name: str | None = None,
) -> WanModel:
    """Load the requested parts of a base, frozen and in eval mode.

    The VAE stays float32: it is small, and a bfloat16 encode is visibly worse. name: the name that adapters record for
    their base (default: the path as given). dtype: None leaves every tensor, the VAE's too, as it is in the file.
    Raises: ModelError naming the folder and the missing piece, or the first tensor that is missing or left over.
    """
    files = ModelFiles.find(base) if isinstance(base, Path) else base
    if not sys.stderr.isatty():
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
    model = WanModel(name=name or str(files.path), files=files)
    if "transformer" in parts and files.experts is not None:
        raise ModelError(f"model_path={files.path}: has two transformers, of which one must be chosen (--expert)")
    if "transformer" in parts:
        model.transformer = load_part(TRANSFORMER, files.transformer, device, dtype)
    if "vae" in parts:
        model.vae = load_part(AutoencoderKLWan, files.vae, device, torch.float32 if dtype else None)
        convolve_in_onednn(model.vae)
    if "text" in parts:
        model.tokenizer = _load_tokenizer(files.tokenizer)
        model.text_encoder = _load_text_encoder(files.text_encoder, dtype).to(device).requires_grad_(False).eval()
        _check_encoder(model.text_encoder, files.text_encoder)
    if files.scheduler is not None:
        model.scheduler = UniPCMultistepScheduler.from_pretrained(
            files.scheduler, local_files_only=True, trust_remote_code=False
        )
    else:
        model.scheduler = UniPCMultistepScheduler(**SCHEDULER)
    log.info("loaded %s of base %s", ", ".join(parts), model.name)
    return model


def load_part(kind: Any, part: Part, device: str | torch.device, dtype: torch.dtype | None) -> Any:
    """Load a diffusers model from a part's files, as `kind.from_pretrained` would give it, frozen and in eval mode.

    kind: the class. dtype: None leaves each tensor as it is in the file.
    Raises: ModelError naming the first tensor that is missing, left over, or of another shape.
    """
    with torch.device("meta"):
        model = kind.from_config(part.config)
    names, expected = part.names, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check_tensors(part, {names[name]: shape for name, shape in shapes_of(part.files).items()}, expected)
    kept = model._keep_in_fp32_modules or () if dtype in (torch.bfloat16, torch.float16) else ()
    finite = FiniteCheck(str(part.path))
    for file in part.files:
        for name, tensor in file.tensors():
            new = names[name]
            as_used = torch.float32 if set(kept) & set(new.split(".")) else dtype
            placed = tensor.to(device, as_used)
            finite.add(name, placed)
            _put(model, new, placed)
    finite.finish()
    if hasattr(model, "rope"):
        # The rotary embedding is computed, so it is in no file. It is in float64 on the CPU whatever the device.
        rope = model.rope
        model.rope = type(rope)(rope.attention_head_dim, rope.patch_size, rope.max_seq_len).to(device)
    return model.requires_grad_(False).eval()


def _load_text_encoder(part: Part, dtype: torch.dtype | None) -> Any:
    if part.layout == "diffusers":
        given: dict[str, Any] = {"pretrained_model_name_or_path": part.path, "local_files_only": True}
    else:
        tensors = {part.names[name]: tensor for file in part.files for name, tensor in file.tensors()}
        config = UMT5Config(**part.config)
        given = {"pretrained_model_name_or_path": None, "config": config, "state_dict": tensors}
    try:
        encoder, found = UMT5EncoderModel.from_pretrained(
            **given,
            dtype=dtype or "auto",
            output_loading_info=True,
            trust_remote_code=False,
            # Without safetensors files, transformers would otherwise unpickle another file.
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{part.path}: not a UMT5 encoder that can be loaded: {error}") from error
    for what, names in (("missing", found["missing_keys"]), ("left over", found["unexpected_keys"])):
        if names:
            raise ModelError(f"{part.path}: {len(names)} tensors {what}, the first is {min(names)}; not a UMT5 encoder")
    return encoder


def _check_encoder(encoder: Any, part: Part) -> None:
    finite = FiniteCheck(str(part.path))
    for name, parameter in encoder.named_parameters():
        finite.add(name, parameter)
    finite.finish()


def _load_tokenizer(folder: Path) -> Any:
    file = folder / TOKENIZER_CONFIG
    config = read_model_json(file) if file.is_file() else {}
    for key in _NAMES_OF_FILES & config.keys():
        names = config[key] if isinstance(config[key], list) else [config[key]]
        if not all(name is None or is_file_name(name) for name in names):
            raise ModelError(f"{file}: {key}={str(config[key])[:80]!r}: must be the name of a file in this folder")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: not a tokenizer that can be loaded: {error}") from error


def _check_tensors(part: Part, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    for what, names in (("missing", expected.keys() - found.keys()), ("left over", found.keys() - expected.keys())):
        if names:
            raise ModelError(
                f"{part.path}: {len(names)} tensors {what}, the first is {min(names)}; "
                f"its config.json and weights belong to different models, or the download is not whole"
            )
    for name, shape in found.items():
        if shape != expected[name]:
            raise ModelError(
                f"{part.path}: {name} is {list(shape)}, its config asks for {list(expected[name])}; "
                "config and weights belong to different models"
            )


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
