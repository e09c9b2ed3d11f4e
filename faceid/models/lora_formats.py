"""A LoRA by the names that other tools give it, written and read.

Inside it is known by diffusers' names of the layers. Formats (sources: facts/peers.md 5, and the loaders named):
- `diffusers`: `transformer.LAYER.lora_A.weight`, alpha and rank in the header; WanVACEPipeline.load_lora_weights.
- `comfyui`: `diffusion_model.ORIGINAL_LAYER.lora_A.weight` and `.alpha`; ComfyUI's LoraLoader (comfy/lora.py).
- `diffsynth`: `ORIGINAL_LAYER.lora_A.default.weight`, which DiffSynth-Studio adds as it is: the scale is multiplied in.
- `kohya`: `lora_unet_ORIGINAL_LAYER.lora_down.weight` and `.alpha`, with underscores; musubi-tuner and ComfyUI.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceid.errors import ConfigError, ModelError
from faceid.models.adapter import FaceAdapter, lora_targets
from faceid.models.original_names import BLOCK_LAYERS, VACE_LAYERS, layer_name, original_layer_name
from faceid.models.settings import AdapterSettings
from faceid.outputs import staged_file

LoraFormat = Literal["diffusers", "comfyui", "diffsynth", "kohya"]
_DIFFUSERS_METADATA = "lora_adapter_metadata"
_KOHYA_PREFIX = "lora_unet_"
# Tools write them before a layer's name, at times several.
_PREFIXES = ("base_model.model.", "model.", "diffusion_model.", "transformer.")
# What is after a layer's name: which of the two matrices, or how much they weigh.
_ENDINGS = re.compile(
    r"\.(?:(?P<down>lora_A(?:\.\w+)?\.weight|lora_down\.weight|lora\.down\.weight)"
    r"|(?P<up>lora_B(?:\.\w+)?\.weight|lora_up\.weight|lora\.up\.weight)"
    r"|(?P<alpha>alpha))$"
)


@dataclass(frozen=True)
class LoraLayer:
    """One layer's: down [r, in], up [out, r]; added to the layer's weight is up @ down * alpha / r."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """r."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What the product is multiplied with."""
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """What is added to the layer's weight, [out, in], float32."""
        return self.up.float() @ self.down.float() * self.scale


Lora = dict[str, LoraLayer]
"""By the layer's name in diffusers: `blocks.0.attn1.to_q`."""


def lora_of_adapter(tensors: Mapping[str, Tensor], alpha: float) -> Lora:
    """The LoRA of an adapter file's tensors, in their order."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("transformer.") and name.endswith(".lora_A.weight"):
            layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            found[layer] = LoraLayer(tensor, tensors[f"transformer.{layer}.lora_B.weight"], alpha)
    return found


def write_lora(path: Path, lora: Lora, kind: LoraFormat) -> None:
    """Write a safetensors file, atomically. Raises: ModelError for a format that is none."""
    if kind not in get_args(LoraFormat):
        raise ModelError(f"format={kind}: unknown; use one of {', '.join(get_args(LoraFormat))}")
    tensors = dict(_WRITERS[kind](lora))
    header = {"format": "pt"}
    if kind == "diffusers":
        header[_DIFFUSERS_METADATA] = json.dumps(_peft_metadata(lora), sort_keys=True)
    with staged_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)


def read_lora(path: Path, key: str = "lora") -> Lora:
    """Read a file in any of the formats, also with names of both layouts mixed. key: the flag it was given by.

    Raises: ModelError naming the file and the first key that is no part of a Wan LoRA, or whose other half is missing.
    """
    if not path.is_file():
        raise ModelError(f"{key}={path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safe_open is no dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{key}={path}: cannot be read, damaged or another format: {error}") from error
    return parse_lora(tensors, f"{key}={path}", _alpha_in(header, f"{key}={path}"))


def parse_lora(tensors: Mapping[str, Tensor], source: str, alpha: float | None = None) -> Lora:
    """A LoRA from tensors by the names of any format. alpha: of the layers that have none of their own; None: the rank.

    Raises: ModelError naming the first key that is unknown, doubled, or without its other half.
    """
    halves: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        layer, which = _parse_key(name) or (None, "")
        if layer is None:
            raise ModelError(f"{source}: {name} is no key of a Wan LoRA; nothing of it was taken")
        if which in halves[layer]:
            raise ModelError(f"{source}: {layer} has two {which} tensors, {name} the second; nothing of it was taken")
        halves[layer][which] = tensor
    found = {}
    for layer, parts in halves.items():
        for needed in ("down", "up"):
            if needed not in parts:
                raise ModelError(f"{source}: {layer} has no {needed} tensor; the file is not whole")
        down, up = parts["down"], parts["up"]
        if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
            raise ModelError(f"{source}: {layer} is {list(up.shape)} by {list(down.shape)}; these are no two halves")
        own = float(parts["alpha"]) if "alpha" in parts else alpha
        found[layer] = LoraLayer(down, up, float(down.shape[0]) if own is None else own)
    if not found:
        raise ModelError(f"{source}: no LoRA in it")
    return found


def check_fits(lora: Lora, settings: AdapterSettings, source: str) -> None:
    """Raises: ConfigError naming the setting with which an adapter would have a place for all of a LoRA."""
    targets = re.compile(lora_targets(settings))
    outside = sorted(layer for layer in lora if targets.fullmatch(layer) is None)
    if outside:
        branches = {"vace" if layer.startswith("vace_blocks.") else "base" for layer in lora}
        branch = "both" if len(branches) > 1 else branches.pop()
        kind = "attention" if all(".attn" in layer for layer in lora) else "linear"
        raise ConfigError(
            f"{source}: {len(outside)} of its {len(lora)} layers have no place in the adapter, the first is "
            f"{outside[0]}; give --lora_branch {branch} --lora_layers {kind}"
        )
    rank = max(each.rank for each in lora.values())
    if rank > settings.lora_rank:
        raise ConfigError(f"{source}: of rank {rank}, lora_rank={settings.lora_rank}; give --lora_rank {rank} or more")


@torch.no_grad()
def start_with(lora: Lora, adapter: FaceAdapter, source: str) -> None:
    """Let a new adapter's LoRA begin as another: the same function, whatever its rank and alpha.

    Raises: ConfigError as `check_fits`; ModelError naming the layer that is of another size.
    """
    check_fits(lora, adapter.settings, source)
    parameters, own_scale = adapter.parameters(), adapter.settings.alpha / adapter.settings.lora_rank
    for layer, each in lora.items():
        down, up = (parameters[f"transformer.{layer}.lora_{half}.weight"] for half in "AB")
        if (up.shape[0], down.shape[1]) != (each.up.shape[0], each.down.shape[1]):
            raise ModelError(
                f"{source}: {layer} is of {[each.up.shape[0], each.down.shape[1]]}, the base's layer of "
                f"{[up.shape[0], down.shape[1]]}; it was made for another base"
            )
        # The further rows stay as they were drawn: they begin to count when the zeros beside them do.
        down[: each.rank] = each.down.to(down)
        up.zero_()
        up[:, : each.rank] = (each.up.float() * (each.scale / own_scale)).to(up)


def _parse_key(name: str) -> tuple[str, str] | None:
    """Layer and which of its tensors; None for what is none."""
    ending = _ENDINGS.search(name)
    if ending is None:
        return None
    layer = _parse_layer(name[: ending.start()])
    return None if layer is None else (layer, str(ending.lastgroup))


def _parse_layer(name: str) -> str | None:
    if name.startswith(_KOHYA_PREFIX):
        found = re.fullmatch(r"((?:vace_)?blocks)_(\d+)_(\w+)", name.removeprefix(_KOHYA_PREFIX))
        if found is None or found[3] not in _KOHYA_INNER:
            return None
        return layer_name(f"{found[1]}.{found[2]}.{_KOHYA_INNER[found[3]]}")
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return layer_name(name) or (name if original_layer_name(name) is not None else None)


def _original(layer: str) -> str:
    name = original_layer_name(layer)
    if name is None:
        raise ModelError(f"{layer}: not a layer of a block; only those can be exported")
    return name


def _as_diffusers(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        yield f"transformer.{layer}.lora_A.weight", each.down
        yield f"transformer.{layer}.lora_B.weight", each.up


def _as_comfyui(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = f"diffusion_model.{_original(layer)}"
        yield f"{name}.lora_A.weight", each.down
        yield f"{name}.lora_B.weight", each.up
        yield f"{name}.alpha", torch.tensor(each.alpha)


def _as_diffsynth(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = _original(layer)
        yield f"{name}.lora_A.default.weight", each.down
        yield f"{name}.lora_B.default.weight", each.up * each.scale


def _as_kohya(lora: Lora) -> Iterator[tuple[str, Tensor]]:
    for layer, each in lora.items():
        name = _KOHYA_PREFIX + _original(layer).replace(".", "_")
        yield f"{name}.lora_down.weight", each.down
        yield f"{name}.lora_up.weight", each.up
        yield f"{name}.alpha", torch.tensor(each.alpha)


def _peft_metadata(lora: Lora) -> dict[str, Any]:
    """As peft would describe it, so that the loader has alpha and rank: those of most layers, the others by name."""
    ranks, alphas = ([getattr(each, what) for each in lora.values()] for what in ("rank", "alpha"))
    rank, alpha = max(set(ranks), key=ranks.count), max(set(alphas), key=alphas.count)
    described = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {layer: each.rank for layer, each in lora.items() if each.rank != rank},
        "alpha_pattern": {layer: each.alpha for layer, each in lora.items() if each.alpha != alpha},
        "target_modules": sorted(lora),
    }
    return {f"transformer.{key}": value for key, value in described.items()}


def _alpha_in(header: Mapping[str, str], source: str) -> float | None:
    if _DIFFUSERS_METADATA not in header:
        return None
    try:
        described = json.loads(header[_DIFFUSERS_METADATA])
        patterns = [value for key, value in described.items() if key.endswith("alpha_pattern") and value]
        alpha = next((float(value) for key, value in described.items() if key.endswith("lora_alpha")), None)
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{source}: its {_DIFFUSERS_METADATA} cannot be read: {error}") from error
    if patterns:
        raise ModelError(f"{source}: layers of several alphas (alpha_pattern); only one for all is read")
    return alpha


_WRITERS = {"diffusers": _as_diffusers, "comfyui": _as_comfyui, "diffsynth": _as_diffsynth, "kohya": _as_kohya}
_KOHYA_INNER = {inner.replace(".", "_"): inner for inner in (*BLOCK_LAYERS, *VACE_LAYERS)}
