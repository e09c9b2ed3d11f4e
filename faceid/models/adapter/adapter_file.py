"""Read and write adapter files, in safetensors or .pth form.

One file holds all tensors of an adapter, and its description. `face_lora_*.safetensors` carries the metadata as JSON in
its header. `face_lora_*.pth` is `{"tensors", "metadata"}` of tensors and plain types, and loads under
`weights_only=True`. Loading fails on any key left unused or missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceid.errors import ConfigError, ModelError
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import staged_file
from faceid.models.adapter.adapter_metadata import LOW_NOISE, MOST_BYTES, AdapterMetadata, parse_metadata
from faceid.models.adapter.adapter_shapes import check_shapes
from faceid.models.adapter.face_adapter import FaceAdapter, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.local_places import EMBEDDED
from faceid.models.base.model_files import ExpertName, ModelFiles
from faceid.models.base.model_json import parse_model_json
from faceid.models.base.wan import WanModel
from faceid.models.base.weights import lifted
from faceid.tensor_files import TensorFileError, load_plain, save_plain

__all__ = ["AdapterMetadata", "base_of", "check_base", "load_adapter", "read_adapter", "save_adapter"]


def save_adapter(path: Path, tensors: dict[str, Tensor], metadata: AdapterMetadata) -> None:
    """Write an adapter file atomically. The suffix (.safetensors or .pth) says which kind.

    Raises: ModelError for an empty or non-finite tensor, which no loader should ever meet.
    """
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or not torch.isfinite(tensor).all():
            raise ModelError(f"{path.name}: {name} is {'empty' if tensor.numel() == 0 else 'not finite'}; not saved")
    described = metadata.published()
    with staged_file(path) as temporary:
        if path.suffix == ".pth":
            save_plain(temporary, {"tensors": tensors, "metadata": described})
        else:
            # The header has one key only. safetensors writes several in any order, and equal adapters must give equal
            # files.
            header = {"faceid": json.dumps(described, sort_keys=True)}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)


def read_adapter(path: Path, key: str = "face_lora_path") -> tuple[dict[str, Tensor], AdapterMetadata]:
    """Read an adapter file. key: the flag that gave the path.

    Raises: ModelError when the file is missing, damaged, or not one of ours.
    """
    if (reason := why_no_file(path)) is not None:
        raise ModelError(f"{key}={path}: {reason}")
    try:
        if path.suffix == ".pth":
            tensors, described = _load_pth(path, key)
            metadata = parse_metadata(path, described, key)
            check_shapes(path, metadata, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, key)
        else:
            with safe_open(path, "pt") as file:
                header = (file.metadata() or {}).get("faceid")
                if header is None:
                    raise ModelError(f"{key}={path}: not a faceid adapter (no faceid metadata in its header)")
                metadata = parse_metadata(path, parse_model_json(header, f"{key}={path}: metadata", MOST_BYTES), key)
                names = list(file.keys())
                check_shapes(path, metadata, {name: tuple(file.get_slice(name).get_shape()) for name in names}, key)
                tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{key}={path}: cannot be read, damaged or another format: {said}") from error
    return {name: lifted(tensor, name, f"{key}={path}") for name, tensor in tensors.items()}, metadata


def load_adapter(path: Path, wan: WanModel) -> tuple[FaceAdapter, AdapterMetadata]:
    """Install the adapter of a file on a loaded base.

    Raises: ModelError when the adapter was made for another base, a tensor's shape differs from its metadata, or a key
    is missing or left unused.
    """
    tensors, metadata = read_adapter(path)
    check_base(path, metadata, wan.name, wan.files)
    return install_tensors(wan.transformer, tensors, metadata, str(path)), metadata


def install_tensors(
    transformer: Any, tensors: dict[str, Tensor], metadata: AdapterMetadata, source: str
) -> FaceAdapter:
    """Install an adapter of these tensors on a transformer, frozen. Raises: ModelError when they do not fit."""
    adapter = install_adapter(transformer, metadata.settings, metadata.face_embedding_dim)
    load_tensors(adapter, tensors, source)
    for parameter in adapter.parameters().values():
        parameter.requires_grad_(False)
    transformer.eval()
    return adapter


def join_experts(high: Path, low: Path, files: ModelFiles, name: str) -> tuple[dict[str, Tensor], AdapterMetadata]:
    """Join two adapter files, one for each transformer of a base, into one adapter. name: the base's name.

    Raises: ModelError naming what does not fit together.
    """
    (tensors, metadata), (others, other) = read_adapter(high, "high"), read_adapter(low, "low")
    check_base(high, metadata, name, files.of_expert("high"), "high")
    check_base(low, other, name, files.of_expert("low"), "low")
    for what in ("encoder_fingerprint", "face_embedding_dim"):
        if getattr(metadata, what) != getattr(other, what):
            raise ModelError(f"low={low}: {what} is {getattr(other, what)}, of high={high} {getattr(metadata, what)}")
    if replace(metadata.settings, mapper_dropout=0.0) != replace(other.settings, mapper_dropout=0.0):
        raise ModelError(f"low={low}: trained with other adapter settings than high={high}; train both alike")
    joined = {**tensors, **{f"{LOW_NOISE}{key}": tensor for key, tensor in others.items()}}
    return joined, replace(metadata, base_name=name, base_fingerprint=files.fingerprint, expert="both")


def expert_tensors(tensors: Mapping[str, Tensor], expert: ExpertName) -> dict[str, Tensor]:
    """The tensors for one transformer, by their usual names, from those of a file for both."""
    if expert == "high":
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(LOW_NOISE)}
    return {name.removeprefix(LOW_NOISE): t for name, t in tensors.items() if name.startswith(LOW_NOISE)}


def check_base(
    path: Path, metadata: AdapterMetadata, name: str, files: ModelFiles, key: str = "face_lora_path"
) -> None:
    """Raises: ModelError naming both bases when the adapter was trained on another base than `name`."""
    if metadata.base_fingerprint != files.fingerprint:
        raise ModelError(
            f"{key}={path}: trained on base {metadata.base_name} ({metadata.base_fingerprint[:12]}), "
            f"but {name} is {files.fingerprint[:12]}; give --model_path of the base it was trained on"
        )


def base_of(path: Path, metadata: AdapterMetadata) -> str:
    """Where the base of an adapter lies on this machine. Raises: ModelError when that is unknown here."""
    name = metadata.base_name
    if name != EMBEDDED and not Path(name).is_dir():
        raise ModelError(
            f"model_path: missing; {path} was trained on {name} ({metadata.base_fingerprint[:12]}), which is neither "
            "in models/ nor named by a config.yaml beside it: give --model_path of that base"
        )
    return name


def check_settings(path: Path, metadata: AdapterMetadata, settings: AdapterSettings, key: str) -> None:
    """Raises: ConfigError naming every setting in which the file's adapter differs from `settings`.

    The dropout may differ, since no weight depends on it, and so may what a target has of their own.
    """
    trained = metadata.settings
    both = {field.name: (getattr(trained, field.name), getattr(settings, field.name)) for field in fields(trained)}
    # Of alpha only the LoRA's weight matters, which is 1 by default whatever the rank.
    same_weight = trained.alpha / trained.lora_rank == settings.alpha / settings.lora_rank
    both["lora_alpha"] = (None, None) if same_weight else (trained.alpha, settings.alpha)
    for name in ("mapper_dropout", "target_tokens", "target_words"):
        both.pop(name)
    other = {name: values for name, values in both.items() if values[0] != values[1]}
    if other:
        ours = ", ".join(f"{name}={value}" for name, (_, value) in other.items())
        theirs = " ".join(f"--{name} {value}" for name, (value, _) in other.items())
        raise ConfigError(f"{ours}: {key}={path} was trained otherwise; give {theirs}, or leave out --{key}")


def load_tensors(adapter: FaceAdapter, tensors: dict[str, Tensor], source: str) -> None:
    """Copy tensors into an installed adapter. Raises: ModelError naming the first key or shape that does not fit."""
    parameters = adapter.parameters()
    missing, unused = sorted(set(parameters) - set(tensors)), sorted(set(tensors) - set(parameters))
    for kind, names in (("missing", missing), ("unknown", unused)):
        if names:
            raise ModelError(
                f"{source}: {len(names)} {kind} keys, the first is {names[0]}; not an adapter of this shape"
            )
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            what = "rank or size" if "lora" in name else "size"
            raise ModelError(
                f"{source}: {name} is {list(tensors[name].shape)}, this model needs {list(parameter.shape)}; "
                f"the adapter has another {what}; take the file as its training run wrote it"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name].to(parameter.device, parameter.dtype))


def _load_pth(path: Path, key: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors by name, and the description as it stands in the file."""
    try:
        content = load_plain(path)
    except (TensorFileError, OSError) as error:
        raise ModelError(
            f"{key}={path}: cannot be read: damaged, or holds more than tensors and plain types, which is never loaded "
            f"({error})"
        ) from error
    if not isinstance(content, dict) or set(content) != {"tensors", "metadata"}:
        raise ModelError(f"{key}={path}: not a faceid adapter (no tensors and metadata in it)")
    tensors = content["tensors"]
    if not isinstance(tensors, dict) or not all(
        isinstance(t, Tensor) and isinstance(n, str) for n, t in tensors.items()
    ):
        raise ModelError(f"{key}={path}: not a faceid adapter (its tensors are no list by name)")
    # A tensor may be a view that claims any size over the few numbers that are stored.
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > path.stat().st_size:
        raise ModelError(f"{key}={path}: cannot be read, damaged: its tensors are larger than the file")
    return tensors, content["metadata"]
