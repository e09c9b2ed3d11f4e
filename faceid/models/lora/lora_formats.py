"""Read a LoRA file of any tool.

The result is what the file adds to which layer, by diffusers' names, at the scale its maker meant. `lora_keys` holds
the tools' names and `lora_scales` their rules. `lora_writing` writes the formats of other tools. Files of step
distillation hold more than products: biases, norms and modulations, each added whole (`diffs`). Changes to layers that
no VACE model has are counted and named. They are left out only on request.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from faceid.errors import ConfigError, ModelError
from faceid.files.given_paths import why_no_file
from faceid.models.adapter.face_adapter import FaceAdapter, lora_targets
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_json import read_model_json
from faceid.models.base.weights import check_result, lifted
from faceid.models.lora.lora_keys import KeyKind, is_of_image_branch, other_method, parse_key
from faceid.models.lora.lora_scales import MOST_RANK, LoraScales, check_alpha, parse_scales, scales_in_header
from faceid.models.wan_vace.tensor_names import is_of_hint_block

log = logging.getLogger(__name__)

# peft keeps the scale of the first file in the second.
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
MERGE_HINT = "merge it into the base with tools/export_lora.py --lora FILE --lora_format merged"


@dataclass(frozen=True)
class LoraLayer:
    """The change of one layer: down [r, in], up [out, r]. up @ down * alpha / r is added to the layer's weight.

    For a convolution both have its further dimensions, and the product is of the flattened matrices.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """The factor of the product."""
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """The tensor that is added to the layer's weight, [out, in], float32."""
        return self.up.flatten(1).float() @ self.down.flatten(1).float() * self.scale


Lora = dict[str, LoraLayer]
"""Keys are layer names in diffusers: `blocks.0.attn1.to_q`."""


@dataclass(frozen=True)
class LoraFile:
    """The content of a LoRA file. diffs: tensors that are added to whole parameters, by their names in diffusers."""

    source: str
    lora: Lora
    diffs: dict[str, Tensor] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    """Keys of layers that no Wan VACE transformer has."""
    num_tensors: int = 0

    def without_outside(self, may_leave_out: bool) -> LoraFile:
        """Itself without the keys outside. Raises: ModelError with their number, unless they may be left out."""
        if not self.outside:
            return self
        images = sum(map(is_of_image_branch, self.outside))
        of_what = f", {images} of them of the image branch of an I2V model" if images else ""
        said = (
            f"{self.source}: {len(self.outside)} of its {self.num_tensors} tensors are on layers that a Wan VACE model "
            f"has not{of_what}, the first is {self.outside[0]}"
        )
        if not may_leave_out:
            raise ModelError(f"{said}; nothing of it was taken")
        log.warning("%s; they are left out", said)
        return LoraFile(self.source, self.lora, self.diffs, [], self.num_tensors)


def lora_of_adapter(tensors: Mapping[str, Tensor], alpha: float) -> Lora:
    """The LoRA in an adapter file's tensors, in their order."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("transformer.") and name.endswith(".lora_A.weight"):
            layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            found[layer] = LoraLayer(tensor, tensors[f"transformer.{layer}.lora_B.weight"], alpha)
    return found


def read_lora(path: Path, key: str = "lora") -> Lora:
    """Read a file that holds only products, with which an adapter can begin. key: the flag that gave the path.

    Raises: ModelError as in `read_lora_file`, or saying how much of the file is no product.
    """
    found = read_lora_file(path, key).without_outside(may_leave_out=False)
    if found.diffs:
        fits = found.num_tensors - len(found.diffs)
        raise ModelError(
            f"{found.source}: {fits} of its {found.num_tensors} tensors are low-rank pairs, which an adapter's LoRA "
            f"can take; {len(found.diffs)} change biases, norms or modulations whole, the first is "
            f"{next(iter(found.diffs))}; {MERGE_HINT}, and train on that"
        )
    return found.lora


def lora_file(path: Path) -> Path:
    """The file for a path: the path itself, or the file in a folder as peft saves it and the hub has it."""
    inside = path / PEFT_WEIGHTS
    return inside if inside.is_file() else path


def read_lora_file(path: Path, key: str = "lora") -> LoraFile:
    """Read all of a file in any of the formats, also with names of several mixed. key: the flag that gave the path.

    Raises: ModelError naming the file, and the key or tensor that cannot be used.
    """
    source = f"{key}={path}"
    path = lora_file(path)
    if (reason := why_no_file(path)) is not None:
        raise ModelError(f"{source}: {reason}" + (f", such as its {PEFT_WEIGHTS}" if path.is_dir() else ""))
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            names = list(file.keys())
            _refuse_other_methods(names, source)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{source}: cannot be read, damaged or another format: {error}") from error
    return parse_lora(tensors, source, scales_in_header(header, source) or _scales_beside(path, source))


def parse_lora(tensors: Mapping[str, Tensor], source: str, scales: LoraScales | None = None) -> LoraFile:
    """A LoRA from tensors by the names of any format. scales: what its description says, if it has one.

    Raises: ModelError when nothing belongs to a Wan model, or naming the first bad key. A key is bad when it is
    doubled, lacks its other half, has a wrong type or size, or is not finite.
    """
    _refuse_other_methods(tensors, source)
    layers: dict[str, dict[KeyKind, Tensor]] = defaultdict(dict)
    named: dict[str, str] = {}
    outside = []
    for name, tensor in tensors.items():
        found = parse_key(name)
        if found is None:
            outside.append(name)
            continue
        kinds = layers[found.layer]
        if found.kind in kinds:
            raise ModelError(
                f"{source}: {found.layer} has two {found.kind} tensors, {name} the second; nothing of it was taken"
            )
        kinds[found.kind] = tensor if found.kind == "alpha" else lifted(tensor, name, source)
        named[found.layer] = found.named
    if not layers:
        first = outside[0] if outside else "none"
        raise ModelError(f"{source}: no LoRA of a Wan model in it: {len(outside)} tensors, the first is {first}")
    lora: Lora = {}
    diffs: dict[str, Tensor] = {}
    for layer, kinds in layers.items():
        if kinds.keys() & {"down", "up", "alpha", "up_bias"}:
            lora[layer] = _product(layer, kinds, named[layer], source, scales)
        diffs |= _whole(layer, kinds, lora.get(layer), source)
    zeros = [name for name, diff in diffs.items() if not diff.any()]
    if zeros:
        log.info("%s: %d of its changes are zero, such as %s; they are left out", source, len(zeros), zeros[0])
    diffs = {name: diff for name, diff in diffs.items() if name not in zeros}
    if not lora and not diffs:
        raise ModelError(f"{source}: changes nothing: all of its {len(tensors)} tensors of a Wan model are zero")
    return LoraFile(source, lora, diffs, outside, len(tensors))


def check_fits(lora: Lora, settings: AdapterSettings, source: str) -> None:
    """Raises: ConfigError naming the setting with which an adapter would have a place for all of a LoRA."""
    targets = re.compile(lora_targets(settings))
    outside = sorted(layer for layer in lora if targets.fullmatch(layer) is None)
    if outside:
        said = f"{source}: {len(outside)} of its {len(lora)} layers have no place in the adapter, the first is "
        said += outside[0]
        anywhere = re.compile(lora_targets(AdapterSettings(lora_branch="both", lora_layers="linear")))
        nowhere = sorted(layer for layer in lora if anywhere.fullmatch(layer) is None)
        if nowhere:
            raise ConfigError(f"{said}; for {len(nowhere)} of them, such as {nowhere[0]}, no setting has: {MERGE_HINT}")
        branches = {"vace" if is_of_hint_block(layer) else "base" for layer in lora}
        branch = "both" if len(branches) > 1 else branches.pop()
        kind = "attention" if all(".attn" in layer for layer in lora) else "linear"
        raise ConfigError(f"{said}; give --lora_branch {branch} --lora_layers {kind}")
    rank = max(each.rank for each in lora.values())
    if rank > settings.lora_rank:
        raise ConfigError(f"{source}: of rank {rank}, lora_rank={settings.lora_rank}; give --lora_rank {rank} or more")


@torch.no_grad()
def start_with(lora: Lora, adapter: FaceAdapter, source: str) -> None:
    """Let a new adapter's LoRA begin as a given LoRA: the same function, whatever its rank and alpha.

    Raises: ConfigError as in `check_fits`; ModelError naming a layer of another size.
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
        # The further rows keep their random values. They begin to count when the zeros beside them change.
        down[: each.rank] = each.down.to(down)
        up.zero_()
        up[:, : each.rank] = check_result((each.up.float() * (each.scale / own_scale)).to(up), f"{layer}: up", source)


def _product(
    layer: str, kinds: Mapping[KeyKind, Tensor], named: str, source: str, scales: LoraScales | None
) -> LoraLayer:
    for needed in ("down", "up"):
        if needed not in kinds:
            raise ModelError(f"{source}: {layer} has no {needed} tensor; the file is not whole")
    down, up = kinds["down"], kinds["up"]
    rank = down.shape[0] if down.dim() else 0
    is_pair = down.dim() >= 2 and up.dim() >= 2 and up[0].numel() == rank
    if not is_pair or not 0 < rank <= MOST_RANK:
        raise ModelError(f"{source}: {layer} is {list(up.shape)} by {list(down.shape)}; these are no two halves")
    if down.shape[2:].numel() == 1:
        # Some tools store a linear layer's factors as those of a convolution of size 1.
        down, up = down.flatten(1), up.flatten(1)
    described = 1.0 if scales is None else scales.scale(named, rank)
    if "alpha" not in kinds:
        return LoraLayer(down, up, described * rank)
    if kinds["alpha"].numel() != 1:
        raise ModelError(f"{source}: {layer}.alpha is {list(kinds['alpha'].shape)}, not one number; damaged")
    if kinds["alpha"].is_complex() or kinds["alpha"].dtype == torch.bool:
        raise ModelError(f"{source}: {layer}.alpha is {kinds['alpha'].dtype}, not a number; damaged")
    alpha = check_alpha(f"{layer}.alpha", float(kinds["alpha"]), source)
    if described != 1.0:
        raise ModelError(
            f"{source}: {layer} has an alpha of its own and another scale in the description ({described:g}); "
            "diffusers would apply both, other tools one: keep one of the two"
        )
    return LoraLayer(down, up, alpha)


def _whole(layer: str, kinds: Mapping[KeyKind, Tensor], product: LoraLayer | None, source: str) -> dict[str, Tensor]:
    """The tensors that are added to whole parameters of a layer, by their names."""
    found = {}
    if "diff_m" in kinds:
        found[layer] = kinds["diff_m"]
    if "diff" in kinds:
        found[f"{layer}.weight"] = kinds["diff"]
    biases = [kinds[kind] for kind in ("diff_b", "up_bias") if kind in kinds]
    if len(biases) > 1:
        raise ModelError(f"{source}: {layer} has two biases, a diff_b and that of its LoRA; nothing of it was taken")
    if biases:
        scale = product.scale if product is not None and "up_bias" in kinds else 1.0
        found[f"{layer}.bias"] = biases[0] * scale
    return found


def _scales_beside(path: Path, source: str) -> LoraScales | None:
    if path.name != PEFT_WEIGHTS:
        return None
    if not (path.parent / PEFT_CONFIG).is_file():
        log.warning("%s: no %s beside it, which says its scale; it is taken for 1", source, PEFT_CONFIG)
        return None
    return parse_scales(read_model_json(path.parent / PEFT_CONFIG), f"{source}: {PEFT_CONFIG}")


def _refuse_other_methods(names: Iterable[str], source: str) -> None:
    others = [(method, name) for name in names if (method := other_method(name)) is not None]
    if others:
        raise ModelError(
            f"{source}: {len(others)} of its tensors are of {others[0][0]}, the first is {others[0][1]}; only a plain "
            "LoRA can be read: merge it with the tool that made it"
        )
