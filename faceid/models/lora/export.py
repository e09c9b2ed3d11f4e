"""Write whole bases, and transformers with a LoRA merged.

A base is written in the diffusers layout, and a merged transformer in either layout.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from faceid.errors import ModelError
from faceid.files.outputs import new_folder
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.model_part import Layout, Part
from faceid.models.base.wan import WanModel, load_part, load_wan
from faceid.models.base.weights import check_result, shapes_of
from faceid.models.lora.lora_formats import LoraFile, LoraLayer
from faceid.models.wan_vace.tensor_names import original_transformer_name
from faceid.models.wan_vace.transformer import PIPELINE, TRANSFORMER, original_transformer_config

log = logging.getLogger(__name__)

Precision = Literal["file", "bfloat16", "float32"]
"""file: the precision in which the weights are read."""
SHARD_SIZE = "5GB"


def dtype_of(precision: Precision) -> torch.dtype | None:
    """The dtype to convert to; None leaves weights as they are in the file."""
    return None if precision == "file" else getattr(torch, precision)


def write_diffusers(files: ModelFiles, folder: Path, precision: Precision) -> None:
    """Write a base in the diffusers layout, all parts and model_index.json, atomically.

    The weights stay in their mapped files until they are written. So only one shard is in memory at a time.
    """
    wan: WanModel = load_wan(files, dtype=dtype_of(precision))
    pipeline = PIPELINE(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)
    with new_folder(folder) as temporary:
        pipeline.save_pretrained(temporary, max_shard_size=SHARD_SIZE)


def write_merged(
    lora: LoraFile, files: ModelFiles, folder: Path, layout: Layout, precision: Precision, may_leave_out: bool = False
) -> None:
    """Write the transformer of a base with a LoRA merged into it: a folder of weights and config.json, atomically.

    The LoRA is added in float32. may_leave_out: leave out changes for which the base has no place, with a warning.
    Raises: ModelError saying how many changes the base has no place for, and the first of them.
    """
    # Checked before the base is read, which takes minutes.
    changes = changes_for(lora, shapes_in_model(files.transformer), str(files.path), may_leave_out)
    transformer = load_part(TRANSFORMER, files.transformer, "cpu", dtype_of(precision))
    merge(changes, transformer)
    with new_folder(folder, "output") as temporary:
        if layout == "diffusers":
            transformer.save_pretrained(temporary, max_shard_size=SHARD_SIZE)
        else:
            write_original_transformer(transformer.state_dict(), dict(transformer.config), temporary)


def shapes_in_model(part: Part) -> dict[str, tuple[int, ...]]:
    """Shapes of a part's tensors, by their names in the model."""
    return {part.names[name]: shape for name, shape in shapes_of(part.files).items()}


def changes_for(
    lora: LoraFile, shapes: Mapping[str, tuple[int, ...]], base: str, may_leave_out: bool = False
) -> dict[str, list[LoraLayer | Tensor]]:
    """The changes for each parameter. shapes: the base's. base: its name, for the message.

    may_leave_out: leave out changes for which the base has no place, with a warning.
    Raises: ModelError saying how many changes the base has no place for, and the first of them.
    """
    changes: dict[str, list[LoraLayer | Tensor]] = defaultdict(list)
    unfit = []
    everything: list[tuple[str, LoraLayer | Tensor]] = [(f"{name}.weight", each) for name, each in lora.lora.items()]
    for name, change in [*everything, *lora.diffs.items()]:
        if name not in shapes:
            unfit.append(f"{name}: the base has no such layer")
        elif not _fits(change, shapes[name]):
            unfit.append(f"{name} is of {_size(change)}, the base's of {list(shapes[name])}")
        else:
            changes[name].append(change)
    if unfit:
        count = len(lora.lora) + len(lora.diffs)
        said = f"{lora.source}: {len(unfit)} of its {count} changes have no place in {base}, the first is to {unfit[0]}"
        if not may_leave_out or not changes:
            raise ModelError(f"{said}; it was made for another model, nothing of it was merged")
        log.warning("%s; they are left out", said)
    return changes


def merge(changes: Mapping[str, list[LoraLayer | Tensor]], transformer: Any) -> None:
    """Add changes to a transformer's parameters for good, in float32. changes: from `changes_for`.

    Raises: ModelError naming a parameter that becomes NaN or infinite.
    """
    for name, parameter in transformer.named_parameters():
        for change in changes.get(name, ()):
            delta = change.delta() if isinstance(change, LoraLayer) else change.float()
            added = (parameter.data.float() + delta.reshape(parameter.shape)).to(parameter.dtype)
            parameter.data = check_result(added, name, "merged")


def _fits(change: LoraLayer | Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a change fits a parameter of this shape. Flattened dimensions, as of a convolution, count as the same."""
    if isinstance(change, LoraLayer):
        return bool(shape) and (change.up.shape[0], change.down[0].numel()) == (shape[0], math.prod(shape[1:]))
    return change.squeeze().shape == torch.Size(size for size in shape if size != 1)


def _size(change: LoraLayer | Tensor) -> list[int]:
    return [change.up.shape[0], change.down[0].numel()] if isinstance(change, LoraLayer) else list(change.shape)


def write_original_transformer(tensors: dict[str, Tensor], config: dict[str, Any], folder: Path) -> None:
    """Write weights (in shards where they are large) and config.json, as the Wan repositories have them."""
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
    """Compare every tensor of two bases.

    Raises: ModelError naming the first that differs more than precision allows.
    """
    for one, other in zip(read.parts, written.parts, strict=True):
        dtype = None if one.name == "vae" else dtype_of(precision)
        found = {other.names[name]: tensor for file in other.files for name, tensor in file.tensors()}
        for file in one.files:
            for name, tensor in file.tensors():
                new = one.names[name]
                # Some of them stay in float32 whatever is asked. So values are compared in the type that both can hold.
                expected = tensor if dtype is None else tensor.to(dtype)
                if new not in found or not torch.equal(found[new].to(expected.dtype), expected):
                    raise ModelError(f"{other.path}: {new} is not what was read; the disk or the memory is at fault")
