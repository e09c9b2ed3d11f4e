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

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Figures, spread
from benchmarks.gpu.model import FACE_DIM
from benchmarks.gpu.run import (
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
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.costs.flops import step_flops
from faceid.training.build import Run
from faceid.training.measuring.sample_counts import SampleCounts
from faceid.training.step import train_step
from faceid.training.world.watchdog import Watchdog

SECTION = "training"
PRECISION = "float32 beside bf16, a short clip"
# bf16 itself is off by about this; a variant may be off by twice what the plain one is, and at least by this.
LEAST_TOLERANCE = 2e-2


# Everything made again; what the experiment's file says, without compiling and with it.
PLAIN, KEPT = Mode("full"), Mode("attention")
MODES = (PLAIN, KEPT, replace(KEPT, is_compiled=True))


@dataclass
class References:
    """Loss and gradients of the plain mode, by length, in the host's memory; and how far others may be."""

    known: dict[int, tuple[float, dict[str, Tensor]]] = field(default_factory=dict)
    tolerance: float = LEAST_TOLERANCE

    def compare(self, key: int, loss: float, adapter: FaceAdapter) -> Figures:
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
    """All modes, of clips of that many frames."""
    if PRECISION not in {row["name"] for row in bench.rows}:
        bench.attempt(SECTION, PRECISION, lambda: _precision(bench, references))
    for mode in MODES:
        look = functools.partial(_measure, bench, references, frames, mode)
        bench.attempt(SECTION, f"{frames} frames, {mode.name}", look)


def _measure(bench: Bench, references: References, frames: int, mode: Mode) -> Figures:
    run = make_run(bench, mode)
    samples = make_samples(bench.scale, frames, bench.device)
    losses: list[float] = []
    first_s = bench.seconds(lambda: losses.append(first_loss(run, samples[0].to(bench.device))))
    figures = {"first_pass_s": round(first_s, 2), "dtypes": dtypes_of(run.adapter), **graphs_made()}
    figures |= references.compare(frames, losses[0], run.adapter)
    run.transformer.zero_grad(set_to_none=True)
    if figures["wrong"]:
        return figures
    batches, counts, watchdog = stream(samples), SampleCounts(), Watchdog(0, Path())
    bench.forget_peak()
    times = [
        bench.seconds(functools.partial(train_step, run, step, batches, counts, watchdog))
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
        run.sections.execution.gradient_checkpointing,
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
