"""Seconds, memory and utilisation of the product's own training step, in each of its modes.

`train_step` is what `train.py` runs: base, face adapter and LoRA, flow loss, clipping, fused AdamW, averaged weights.
Another sample each step, in the host's memory.
A mode's loss and gradients are compared before it is timed: with the plain one's (eager, everything made again), and
that with float32 on a short clip.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench, Figures, relative_error, spread
from gpu_ceilings import is_chosen
from gpu_model import FACE_DIM
from gpu_run import (
    Mode,
    dtypes_of,
    first_loss,
    gradient_error,
    gradients_of,
    make_plain_run,
    make_run,
    make_samples,
    stream,
)
from torch import Tensor

from faceid.data.stream.training_set import TrainingSample
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.costs.flops import step_flops
from faceid.training.build import Run
from faceid.training.measuring.sample_counts import Drawn
from faceid.training.step import train_step
from faceid.training.world.watchdog import Watchdog

SECTION, MORE = "training", "more_training"
PRECISION = "float32 beside bf16, a short clip"
# bf16 itself is off by about this; a variant may be off by twice what the plain one is, and at least by this.
LEAST_TOLERANCE = 2e-2


PLAIN, KEPT = Mode("full"), Mode("attention")
COMPILED = replace(KEPT, is_compiled=True)
# The experiment's default, the one for 24 GB cards, and what makes that fast. Of longer clips the first and the last.
MODES = (PLAIN, KEPT, COMPILED, replace(COMPILED, backend="_native_cudnn"))
MORE_MODES = (
    replace(KEPT, backend="_native_cudnn"),
    replace(KEPT, backend="_native_flash"),
    Mode("full", is_compiled=True),
    Mode("none"),
    Mode("none", is_compiled=True),
    Mode("full", lora_branch="both"),
)


@dataclass
class References:
    """Loss and gradients of the plain mode, by length and branch, in the host's memory; and how far others may be."""

    known: dict[Any, tuple[float, dict[str, Tensor]]] = field(default_factory=dict)
    tolerance: float = LEAST_TOLERANCE

    def compare(self, key: Any, loss: float, adapter: FaceAdapter) -> Figures:
        """How far this loss and these gradients are from the reference; the first of a key becomes it."""
        if key not in self.known:
            self.known[key] = (loss, gradients_of(adapter))
            return {"loss": loss, "is_reference": True, "wrong": not loss < float("inf")}
        expected_loss, expected = self.known[key]
        error, same = gradient_error(adapter, expected)
        off = abs(loss - expected_loss) / abs(expected_loss)
        # Turned round, so that what is not a number is wrong.
        is_right = error <= self.tolerance and off <= self.tolerance
        figures = {"loss_error": off, "gradient_error": error, "same_to_the_bit": same}
        return {**figures, "tolerance": self.tolerance, "wrong": not is_right}


def measure_training(bench: Bench, references: References, frames: int) -> None:
    """The modes that matter most, of clips of that many frames."""
    if PRECISION not in {row["name"] for row in bench.rows}:
        bench.attempt(SECTION, PRECISION, lambda: _precision(bench, references), needs_s=25)
    for mode in MODES if frames == bench.scale.frames[0] else (PLAIN,):
        _attempt(bench, references, frames, mode, SECTION)


def measure_more_training(bench: Bench, references: References, frames: int) -> None:
    """The other modes, and pieces of the step; of longer clips the mode that should be fastest."""
    is_first = frames == bench.scale.frames[0]
    if is_first:
        bench.attempt(MORE, "the update alone", lambda: _update(bench))
    modes = MORE_MODES if is_first else (COMPILED,)
    for mode in modes if (frames, "base") in references.known else (PLAIN, *modes):
        _attempt(bench, references, frames, mode, MORE)
    if not is_first:
        return
    bench.attempt(
        MORE,
        f"{frames} frames, {KEPT.name}, adapter in bf16, not offered: forward and backward",
        lambda: _in_bf16(bench, references, frames),
        needs_s=30,
    )


def _attempt(bench: Bench, references: References, frames: int, mode: Mode, section: str) -> None:
    name = f"{frames} frames, {mode.name}"
    if is_chosen(bench, mode.backend, bench.scale.tokens(frames), learns=True):
        bench.leave_out(section, name, "it is torch's own choice")
        return
    bench.attempt(
        section,
        name,
        lambda: _measure(bench, references, frames, mode),
        needs_s=60 if mode.is_compiled else 30,
    )


def _measure(bench: Bench, references: References, frames: int, mode: Mode) -> Figures:
    run = make_run(bench, mode)
    samples = make_samples(bench.scale, frames, bench.device)
    losses: list[float] = []
    first_s = bench.seconds(lambda: losses.append(first_loss(run, samples[0].to(bench.device))))
    figures = {"first_pass_s": round(first_s, 2), "dtypes": dtypes_of(run.adapter), **graphs_made()}
    figures |= references.compare((frames, mode.lora_branch), losses[0], run.adapter)
    run.transformer.zero_grad(set_to_none=True)
    if figures["wrong"]:
        return figures
    batches, drawn, watchdog = stream(samples), Drawn(), Watchdog(0, Path())
    bench.forget_peak()
    times = [
        bench.seconds(functools.partial(train_step, run, step, batches, drawn, watchdog))
        for step in range(1 + bench.repeats)
    ]
    return {**figures, **spread(times[1:], "step_s"), **bench.peak(), **utilisation(bench, run, frames, times[1:])}


def utilisation(bench: Bench, run: Run, frames: int, times: list[float]) -> Figures:
    """Rates by the product's own bill: MFU counts nothing twice, HFU what is executed."""
    seconds = sorted(times)[len(times) // 2]
    bill = step_flops(
        bench.scale.transformer,
        run.adapter.settings,
        bench.scale.tokens(frames),
        run.settings.checkpointing,
        FACE_DIM,
        bench.scale.text_tokens,
    )
    useful, executed = bill.useful / seconds / 1e12, bill.total / seconds / 1e12
    return {
        "useful_tflop": round(bill.useful / 1e12, 3),
        "executed_tflop": round(bill.total / 1e12, 3),
        "tflops": round(executed, 1),
        "mfu": round(useful / bench.peak_tflops, 4),
        "hfu": round(executed / bench.peak_tflops, 4),
    }


def graphs_made() -> Figures:
    """How often torch's compiler looked at code, and how many graphs came of it; nothing in eager mode."""
    counters = torch._dynamo.utils.counters
    found = {"graphs": counters["stats"]["unique_graphs"], "breaks": sum(counters["graph_break"].values())}
    counters.clear()
    return found if found["graphs"] else {}


def _update(bench: Bench) -> Figures:
    """Clipping, AdamW and averaging, and AdamW as it is without the fused kernel, to compare with."""
    run = make_run(bench, PLAIN)
    parameters = list(run.adapter.parameters().values())
    generator = torch.Generator(bench.device).manual_seed(6)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, device=bench.device, generator=generator).to(parameter.dtype)
    twins = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    for twin, parameter in zip(twins, parameters, strict=True):
        twin.grad = parameter.grad
    chosen: dict[str, Any] = {"lr": run.settings.learning_rate, "weight_decay": run.settings.weight_decay}
    plain = torch.optim.AdamW(twins, fused=False, foreach=False, **chosen)
    norm = torch.tensor(1.0, device=bench.device)
    run.sharded.skip_unless_finite(norm)
    run.optimizer.step()
    plain.step()
    error = max(relative_error(one, twin) for one, twin in zip(parameters, twins, strict=True))
    figures: Figures = {"error": error, "dtypes": dtypes_of(run.adapter)}
    if not error <= (1e-5 if set(figures["dtypes"]) == {"float32"} else LEAST_TOLERANCE):
        return {**figures, "wrong": True}
    accelerator = run.world.accelerator
    return {
        **figures,
        "trained": sum(parameter.numel() for parameter in parameters),
        "clip_s": bench.seconds_each(lambda: accelerator.clip_grad_norm_(run.transformer.parameters(), 1.0), 1),
        "adamw_s": bench.seconds_each(run.optimizer.step, 1),
        "adamw_unfused_s": bench.seconds_each(plain.step, 1),
        "average_s": bench.seconds_each(lambda: run.sharded.average(1), 1),
    }


def _in_bf16(bench: Bench, references: References, frames: int) -> Figures:
    """What float32 adapters under autocast cost: the same without both. No update: nothing keeps float32 masters."""
    sample = make_samples(bench.scale, frames, bench.device)[0].to(bench.device)
    offered = _loss_times(bench, make_run(bench, KEPT), sample)
    plain = make_plain_run(bench, torch.bfloat16, KEPT.checkpointing)
    for parameter in plain.adapter.parameters().values():
        parameter.data = parameter.data.bfloat16()
    loss = first_loss(plain, sample)
    figures = references.compare((frames, "base"), loss, plain.adapter)
    if figures["wrong"]:
        return figures
    bench.forget_peak()
    times = _loss_times(bench, plain, sample)
    return {**figures, **spread(offered, "as_offered_s"), **spread(times, "in_bf16_s"), **bench.peak()}


def _loss_times(bench: Bench, run: Any, sample: TrainingSample) -> list[float]:
    """Of forward and backward passes; gradients add up in place, as nothing takes them."""
    times = [bench.seconds(lambda: first_loss(run, sample)) for _ in range(1 + bench.repeats)]
    return times[1:]


def _precision(bench: Bench, references: References) -> Figures:
    """What bf16 costs: prediction, loss and gradients of one short clip, by float32 of the same weights.

    Sets the tolerance of all that follows.
    """
    sample = make_samples(bench.scale, bench.scale.check_frames, bench.device)[0].to(bench.device)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact = make_plain_run(bench, torch.float32, PLAIN.checkpointing)
        exact_loss = first_loss(exact, sample)
        expected = gradients_of(exact.adapter)
    del exact
    run = make_run(bench, PLAIN)
    loss = first_loss(run, sample)
    error, _ = gradient_error(run.adapter, expected)
    references.tolerance = max(LEAST_TOLERANCE, 2 * error)
    off = abs(loss - exact_loss) / exact_loss
    return {
        "loss": exact_loss,
        "loss_error": off,
        "gradient_error": error,
        "tolerance": references.tolerance,
        # More is no rounding.
        "wrong": not (error < 0.2 and off < 0.05),
    }
