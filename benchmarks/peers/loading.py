"""Loading a base: `load_wan` beside diffusers' `from_pretrained`, and in the original layout beside `from_single_file`.

The base has random weights of a middle size and is written in both layouts with their true names. A load ends when
every page of its weights has been read once: what is mapped from a file costs nothing before. The page cache is warm.
All tensors are compared first. transformers has no reader of the original text encoder: there the peer is a script of
torch.load, names replaced and load_state_dict, once as most are written and once with care.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import original_layout
import torch
import transformers
from diffusers import AutoencoderKLWan, WanVACEPipeline, WanVACETransformer3DModel
from torch import Tensor
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from benchmarks.costs import Cost, by_turns, cost_of, in_a_fork, least_and_median
from benchmarks.peers.layouts import DTYPE, FOLDERS, TINY, Base
from benchmarks.peers.ratios import Ratio, largest_error, touch
from faceid.models.base.wan import load_wan

PARTS = ("transformer", "vae", "text")
Loaded = dict[str, Any]
_KINDS: dict[str, tuple[Any, torch.dtype]] = {
    "transformer": (WanVACETransformer3DModel, DTYPE),
    "vae": (AutoencoderKLWan, torch.float32),
}


def compare_loading(base: Base, rounds: int) -> tuple[list[Ratio], dict[str, Any]]:
    """CPU seconds and peak memory of each part and of all, in both layouts; and every measurement."""
    ratios: list[Ratio] = []
    details: dict[str, Any] = {"mib": base.mib, "dtype": "bfloat16, the VAE float32", "page_cache": "warm"}
    for layout, part, peer, theirs in _peers(base):
        parts, folder = PARTS if part == "whole base" else (part,), getattr(base, layout)
        ways: dict[str, Callable[[], Loaded]] = {"ours": partial(_by_ours, folder, parts), "theirs": theirs}
        outputs = in_a_fork(partial(_compare_tensors, ways))
        costs = by_turns({name: partial(_load_and_touch, way) for name, way in ways.items()}, rounds, cost_of)
        what = f"{part}, {layout} layout ({sum(base.mib[name] for name in parts)} MiB)"
        details[f"{what}, {peer}"] = {name: [vars(cost) for cost in found] for name, found in costs.items()}
        ratios += _ratios(what, peer, costs, outputs)
    return ratios, details


def import_all(folder: Path) -> None:
    """Go each way once, here, with a base of no size: what diffusers imports late is nobody's cost."""
    base = Base.write(folder, TINY)
    for path in (base.diffusers, base.original):
        _by_ours(path, PARTS)
    for *_, theirs in _peers(base):
        theirs()


def _ratios(what: str, peer: str, costs: dict[str, list[Cost]], outputs: str) -> list[Ratio]:
    # Anonymous memory stays in the record: where both map their files it is a few MiB, and its ratio says nothing.
    kinds = (("loading", "cpu_s", "CPU s"), ("A11", "peak_mib", "MiB at most"))
    found = []
    for row, field, unit in kinds:
        ours, theirs = ([getattr(cost, field) for cost in costs[name]] for name in ("ours", "theirs"))
        found.append(Ratio(row, f"load: {what}", peer, least_and_median(ours), least_and_median(theirs), unit, outputs))
    return found


def _peers(base: Base) -> Iterator[tuple[str, str, str, Callable[[], Loaded]]]:
    """Layout, part, peer with its version, and the way itself."""
    library, other = f"diffusers {diffusers.__version__}", f"transformers {transformers.__version__}"
    for part in ("transformer", "vae"):
        yield "diffusers", part, f"{library} from_pretrained", partial(_from_pretrained, base, part)
    yield "diffusers", "text", f"{other} from_pretrained", partial(_from_pretrained, base, "text")
    pipeline = f"{library} WanVACEPipeline.from_pretrained"
    yield "diffusers", "whole base", pipeline, partial(_pipeline_from_pretrained, base)
    for part in ("transformer", "vae"):
        yield "original", part, f"{library} from_single_file", partial(_from_single_file, base, part)
    short, careful = "torch.load, rename, load_state_dict", "the same with mmap, meta device and assign"
    yield "original", "text", f"a script: {short} ({other})", partial(_text_by_a_script, base, is_careful=False)
    yield "original", "text", f"a script: {careful} ({other})", partial(_text_by_a_script, base, is_careful=True)
    both = f"{library} from_single_file, and the careful script"
    yield "original", "whole base", both, partial(_whole_original, base)


def _load_and_touch(way: Callable[[], Loaded]) -> Loaded:
    loaded = way()
    touch(*loaded.values())
    return loaded


def _compare_tensors(ways: Mapping[str, Callable[[], Loaded]]) -> str:
    """All that is in the files must be the same to the bit; how far what is computed is apart is said."""
    ours, theirs = (way() for way in ways.values())
    for read in (_parameters, _saved_buffers):
        largest_error(read(ours), read(theirs), 0.0)
    pairs = zip(_parameters(ours).values(), _parameters(theirs).values(), strict=True)
    rounded = sum(mine.dtype != other.dtype for mine, other in pairs)
    computed = largest_error(_computed_buffers(ours), _computed_buffers(theirs), 1e-2)
    said = f"all {len(_parameters(ours))} tensors equal to the bit"
    said += f", {rounded} of them in bfloat16 there and float32 here" if rounded else ""
    return said + (f"; the peer's rotary table, cast to bfloat16, is {computed:.1e} off" if computed else "")


def _parameters(loaded: Loaded) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, module in loaded.items() for name, tensor in module.named_parameters()}


def _saved_buffers(loaded: Loaded) -> dict[str, Tensor]:
    found = {
        f"{part}.{name}": tensor for part, module in loaded.items() for name, tensor in module.state_dict().items()
    }
    return {name: tensor for name, tensor in found.items() if name not in _parameters(loaded)}


def _computed_buffers(loaded: Loaded) -> dict[str, Tensor]:
    found = {f"{part}.{name}": tensor for part, module in loaded.items() for name, tensor in module.named_buffers()}
    return {name: tensor for name, tensor in found.items() if name not in _saved_buffers(loaded)}


def _by_ours(folder: Path, parts: tuple[str, ...]) -> Loaded:
    wan = load_wan(folder, parts, dtype=DTYPE)
    return {part: getattr(wan, FOLDERS[part]) for part in parts}


def _from_pretrained(base: Base, part: str) -> Loaded:
    folder = base.diffusers / FOLDERS[part]
    if part == "text":
        AutoTokenizer.from_pretrained(base.diffusers / "tokenizer", local_files_only=True)
        return {part: UMT5EncoderModel.from_pretrained(folder, dtype=DTYPE)}
    kind, dtype = _KINDS[part]
    return {part: kind.from_pretrained(folder, dtype=dtype, local_files_only=True)}


def _pipeline_from_pretrained(base: Base) -> Loaded:
    """As diffusers' documentation has it, the VAE in float32."""
    vae = _from_pretrained(base, "vae")["vae"]
    pipeline = WanVACEPipeline.from_pretrained(base.diffusers, vae=vae, dtype=DTYPE, local_files_only=True)
    return {"transformer": pipeline.transformer, "vae": pipeline.vae, "text": pipeline.text_encoder}


def _from_single_file(base: Base, part: str) -> Loaded:
    file = base.original / ("diffusion_pytorch_model.safetensors" if part == "transformer" else "Wan2.1_VAE.pth")
    kind, dtype = _KINDS[part]
    # Without a config it would ask the network for the 1.3B's.
    given = {"config": str(base.diffusers), "subfolder": part, "local_files_only": True}
    return {part: kind.from_single_file(str(file), dtype=dtype, **given)}


def _whole_original(base: Base) -> Loaded:
    parts = (_from_single_file(base, "transformer"), _from_single_file(base, "vae"), _text_by_a_script(base, True))
    return {name: module for part in parts for name, module in part.items()}


def _text_by_a_script(base: Base, is_careful: bool) -> Loaded:
    AutoTokenizer.from_pretrained(base.original / "google" / "umt5-xxl", local_files_only=True)
    config = UMT5Config.from_pretrained(base.diffusers / "text_encoder")
    names, file = original_layout.text_names(config.num_layers), base.original / "models_t5_umt5-xxl-enc-bf16.pth"
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_careful)
    with torch.device("meta" if is_careful else "cpu"):
        encoder = UMT5EncoderModel(config).to(DTYPE)
    encoder.load_state_dict({names[old]: tensor for old, tensor in state.items()}, strict=False, assign=is_careful)
    encoder.tie_weights()
    return {"text": encoder.eval()}
