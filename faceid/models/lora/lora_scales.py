"""Find the scale of a LoRA's product where its own tensors do not say it.

It is in diffusers' header or in peft's config. The rules are peft's (`LoraModel._create_and_replace`,
`LoraLayer.update_layer`): `alpha / r`, or with use_rslora `alpha / sqrt(r)`. A pattern that matches a layer's name
changes both for that layer. Some options make more of a LoRA than an added product (DoRA, PiSSA, trained biases). They
are refused by name. So is a key that peft does not know and that is set.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig

from faceid.errors import ModelError
from faceid.models.base.model_json import parse_model_json

log = logging.getLogger(__name__)

DIFFUSERS_METADATA = "lora_adapter_metadata"
MOST_RANK = 8192
# With a smaller alpha a layer is as good as switched off, which no maker of a file means.
_LEAST_ALPHA, _MOST_ALPHA = 1e-6, 1e6
# Some of LoraConfig's options would change the base's own weights at the start, or add to what a layer computes beside
# the product. These are their legal values.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_HAS_TO_BE: dict[str, tuple[Any, ...]] = {
    "init_lora_weights": _PLAIN_STARTS,
    "bias": (None, "none"),
    **dict.fromkeys(
        ("fan_in_fan_out", "use_qalora", "layer_replication", "modules_to_save", "target_parameters"), (None, False)
    ),
}
_VARIANTS = {field.name for field in dataclasses.fields(LoraConfig) if field.metadata.get("is_lora_variant")}
# Keys that peft writes into its files beside the fields of LoraConfig.
_KNOWN = {field.name for field in dataclasses.fields(LoraConfig)} | {"auto_mapping", "peft_version", "lora_ga_config"}
# A pattern is a regular expression from anybody's file. It must be short and have no repeats of repeats, which would
# take forever.
_MOST_PATTERNS, _MOST_PATTERN, _MOST_REPEATS = 4096, 500, 3

Patterns = tuple[tuple[re.Pattern[str], Any], ...]


@dataclass(frozen=True)
class LoraScales:
    """What a LoRA's description says. ranks, alphas: for layers whose names end as a pattern says."""

    source: str
    rank: int
    alpha: float
    ranks: Patterns
    alphas: Patterns
    is_rank_stabilised: bool

    def scale(self, layer: str, rank: int) -> float:
        """The scale of a layer by its name in the file, with tensors of `rank`. Raises: ModelError on another rank."""
        said = _first_match(self.ranks, layer, self.rank)
        if said != rank:
            raise ModelError(f"{self.source}: {layer} is of rank {rank}, r={said} says its description; damaged")
        alpha = _first_match(self.alphas, layer, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank


def scales_in_header(header: Mapping[str, str], source: str) -> LoraScales | None:
    """Read what diffusers wrote into a safetensors header; None without it. Raises: ModelError naming the key."""
    if DIFFUSERS_METADATA not in header:
        return None
    source = f"{source}: {DIFFUSERS_METADATA}"
    described = parse_model_json(header[DIFFUSERS_METADATA], source)
    of_transformer = {
        key.removeprefix("transformer."): value for key, value in described.items() if key.startswith("transformer.")
    }
    others = sorted(key for key in described if not key.startswith("transformer."))
    if of_transformer and others:
        # As in diffusers: the scales of a text encoder are for another loader.
        log.warning(
            "%s: %d of its keys are not of the transformer and have no effect, the first is %s",
            source,
            len(others),
            _short(others[0]),
        )
    return parse_scales(of_transformer or described, source)


def parse_scales(described: Mapping[str, Any], source: str) -> LoraScales:
    """Read a LoraConfig written as JSON. Raises: ModelError naming a key that cannot be used."""
    if described.get("peft_type", "LORA") != "LORA":
        raise ModelError(f"{source}: peft_type={_short(described['peft_type'])}; only a plain LORA can be read")
    for key, value in described.items():
        if key in _VARIANTS and value:
            raise ModelError(f"{source}: {key}={_short(value)} is more than a product that is added; it cannot be read")
        if key in _HAS_TO_BE and value not in _HAS_TO_BE[key] and value != []:
            raise ModelError(f"{source}: {key}={_short(value)} cannot be followed; only a plain LoRA can be read")
        if key not in _KNOWN and key != "peft_type" and value:
            raise ModelError(f"{source}: {_short(key)}={_short(value)}: unknown key, which may change what is computed")
    # A missing key has peft's default.
    return LoraScales(
        source=source,
        rank=_rank("r", described.get("r", LoraConfig.r), source),
        alpha=check_alpha("lora_alpha", described.get("lora_alpha", LoraConfig.lora_alpha), source),
        ranks=_patterns("rank_pattern", described, _rank, source),
        alphas=_patterns("alpha_pattern", described, check_alpha, source),
        is_rank_stabilised=_is_rank_stabilised(described, source),
    )


def check_alpha(key: str, value: Any, source: str) -> float:
    """An alpha as a float. Raises: ModelError when it is no sensible number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST_ALPHA <= value <= _MOST_ALPHA:
        raise ModelError(f"{source}: {key}={_short(value)}: must be a number, {_LEAST_ALPHA:g} to {_MOST_ALPHA:g}")
    return float(value)


def _rank(key: str, value: Any, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_RANK:
        raise ModelError(f"{source}: {key}={_short(value)}: must be a whole number, 1 to {MOST_RANK}")
    return value


def _is_rank_stabilised(described: Mapping[str, Any], source: str) -> bool:
    value = described.get("use_rslora") or False
    if not isinstance(value, bool):
        raise ModelError(f"{source}: use_rslora={_short(value)}: must be true or false")
    return value


def _patterns(key: str, described: Mapping[str, Any], check: Any, source: str) -> Patterns:
    values = described.get(key) or {}
    if not isinstance(values, dict) or len(values) > _MOST_PATTERNS:
        raise ModelError(f"{source}: {key}={_short(values)}: must be numbers by name, at most {_MOST_PATTERNS}")
    found = []
    for name, value in values.items():
        repeats = len(re.findall(r"(?<!\\)[*+?{]", name))
        if len(name) > _MOST_PATTERN or repeats > _MOST_REPEATS or re.search(r"\)\s*[*+{]|\\[1-9]", name):
            raise ModelError(f"{source}: {key}: {_short(name)}: too involved a pattern; give the layers by name")
        try:
            pattern = re.compile(rf"(?:.*\.)?(?:{name})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise ModelError(f"{source}: {key}: {_short(name)}: no pattern of names: {error}") from error
        found.append((pattern, check(f"{key}: {_short(name)}", value, source)))
    return tuple(found)


def _first_match(patterns: Patterns, layer: str, default: Any) -> Any:
    """Find the first pattern that matches the end of the name, as peft's `get_pattern_key` does."""
    return next((value for pattern, value in patterns if pattern.match(layer)), default)


def _short(value: Any) -> str:
    # repr keeps line breaks out, so that the message stays on one line.
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
