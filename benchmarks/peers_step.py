"""One training step: ours, a plain diffusers and peft loop, and DiffSynth-Studio's modules, from the same weights.

Forward, backward and AdamW; a LoRA of the same rank on the same layers of the main blocks. Ours has the face mapper and
the face attention besides, which the others have not: their values begin at zero, so that losses and LoRA gradients can
be compared, and their work is in our times. Small sizes with the true share of self-attention (performance.md 1.2).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import peft
import torch
from data_speed import MissingError, cpu_seconds_by_turns
from peers_models import DIFFSYNTH, SUFFIXES, Model, Sizes, diffsynth, install_diffsynth, ours, plain
from peers_ratios import Ratio, costs_by_turns, give_freed_memory_back, in_a_fork, largest_error, least_and_median

from faceid.models.adapter_settings import AdapterSettings

# A head's width must be a multiple of 6: DiffSynth's rotary embedding splits others in a way of its own.
CONFIG: dict[str, Any] = {
    "num_attention_heads": 1,
    "attention_head_dim": 66,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 384,
    "num_layers": 6,
    "vace_layers": [0, 2, 4],
    "vace_in_channels": 96,
}
# 2,904 tokens: with so many, self-attention is two thirds of a block of this width.
LATENT, SMALL_LATENT = (4, 44, 66), (2, 16, 24)
SETTINGS = AdapterSettings(conditioning_dim=64, mapper_hidden_dim=64, num_tokens=4, lora_rank=8, mapper_dropout=0.0)
# Rotary embedding in float64 there and float32 here.
TOLERANCES = {"ours": 1e-5, "plain": 1e-5, "DiffSynth": 2e-4}
# Two halves on four layers of two attentions of each block.
NUM_LORA = 2 * 4 * 2 * CONFIG["num_layers"]


def compare_steps(folder: Path, rounds: int, is_small: bool) -> tuple[list[Ratio], dict[str, Any], dict[str, str]]:
    """Ratios, every figure, and the peers that are missing with the reason. folder: DiffSynth is installed there."""
    sizes = Sizes(CONFIG, SETTINGS, SMALL_LATENT if is_small else LATENT, text_tokens=32, face_dim=64)
    ways: dict[str, Callable[[], Model]] = {
        f"ours, {mode}": partial(ours, sizes, mode) for mode in ("none", "full", "attention")
    }
    ways |= {f"plain, {mode}": partial(plain, sizes, mode == "full") for mode in ("none", "full")}
    ways["plain by suffix, full"] = partial(plain, sizes, True, SUFFIXES)
    missing = {}
    try:
        install_diffsynth(folder)
        ways["DiffSynth, full"] = partial(diffsynth, sizes, True)
    except MissingError as error:
        missing["DiffSynth-Studio"] = str(error)
    errors = in_a_fork(partial(_compare_outputs, ways))
    seconds = in_a_fork(partial(_seconds, ways, rounds))
    costs = costs_by_turns({name: partial(_steps, make) for name, make in ways.items()}, 1)
    memory = {name: [round(cost.peak_anonymous_mib, 1) for cost in found] for name, found in costs.items()}
    pairs = [
        ("ours, none", "plain, none"),
        ("ours, full", "plain, full"),
        ("ours, attention", "plain, full"),
        ("ours, attention", "plain by suffix, full"),
        ("ours, full", "DiffSynth, full"),
        ("ours, attention", "DiffSynth, full"),
    ]
    ratios = []
    for mine, theirs in pairs:
        if theirs not in ways:
            continue
        what = f"{mine.split(', ')[1]} (ours), {theirs.split(', ')[1]} (theirs)"
        outputs = "another LoRA: not compared"
        if theirs in errors:
            outputs = f"loss and LoRA gradients {errors[theirs]:.0e} apart"
        for row, unit, found in (("A3", "CPU s a step", seconds), ("A11", "MiB at most, anonymous", memory)):
            figures = least_and_median(found[mine]), least_and_median(found[theirs])
            ratios.append(Ratio(row, f"one step, checkpointing {what}", _peer(theirs), *figures, unit, outputs))
    details = {"tokens": sizes.tokens, "config": CONFIG, "cpu_s": seconds, "memory_mib": memory, "errors": errors}
    return ratios, details, missing


def _peer(way: str) -> str:
    if way.startswith("DiffSynth"):
        return f"DiffSynth-Studio ({DIFFSYNTH}), VaceWanModel and WanModel"
    target = ", LoRA by suffix on both branches" if "suffix" in way else ""
    return f"plain loop: diffusers {diffusers.__version__}, peft {peft.__version__}{target}"


def _compare_outputs(ways: dict[str, Callable[[], Model]]) -> dict[str, float]:
    """The largest relative error of losses and LoRA gradients, beside the plain loop without checkpointing."""
    errors, first = {}, None
    # The first of both: against it all others are.
    for name in sorted(ways, key="plain, none".__ne__):
        if "suffix" in name:
            continue
        model = ways[name]()
        found = {"loss": model.loss()}
        found |= {layer: weight.grad for layer, weight in model.lora.items() if weight.grad is not None}
        first = first or found
        assert len(found) == 1 + NUM_LORA
        errors[name] = largest_error(found, first, TOLERANCES[name.split(",")[0]])
    return errors


def _seconds(ways: dict[str, Callable[[], Model]], rounds: int) -> dict[str, list[float]]:
    steps = {name: _step(make()) for name, make in ways.items()}
    for step in steps.values():
        step()  # Warm: the optimizer's moments.
    return cpu_seconds_by_turns(steps, rounds)


def _steps(make: Callable[[], Model]) -> Model:
    give_freed_memory_back()
    model = make()
    _step(model)()
    return model


def _step(model: Model) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.trained, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model.loss()
        optimizer.step()

    return step
