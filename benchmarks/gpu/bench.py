"""What every part of the GPU benchmark measures with: a device, a clock, and the record that it fills.

A variant that raises is recorded with its error in one line, one that computes something else as wrong; the others go
on. The record is written again after each variant.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.model import Scale
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.training.measuring.meter import peak_tflops

# What a bf16 matrix product of 8192 reached on an H200 and on an H100: a nearer ceiling
# than the data sheet's.
REACHED_TFLOPS = 788.0
# Where there is no GPU a utilisation means nothing, but the line that works it out is to be run.
NO_PEAK_TFLOPS = 0.1
GB = 1e9

Figures = dict[str, Any]


@dataclass(eq=False)
class Bench:
    """One run of the benchmark. repeats: timed steps of a variant, after one that is not timed."""

    scale: Scale
    device: torch.device
    file: Path
    repeats: int
    commit: str | None = None
    began: float = field(default_factory=time.perf_counter)
    rows: list[Figures] = field(default_factory=list)
    about: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.about = {**describe_provenance(), "gpu": describe_gpu(self.device), "is_tiny": self.scale.is_tiny}
        if self.commit is not None:
            self.about["commit"] = self.commit

    @property
    def peak_tflops(self) -> float:
        """Of the device, by its data sheet."""
        return peak_tflops(self.device) or NO_PEAK_TFLOPS

    def attempt(self, section: str, name: str, look: Callable[[], Figures]) -> Figures:
        """The row of one variant. look: gives its figures; `wrong` among them when it computes something else."""
        row: Figures = {"section": section, "name": name}
        began = time.perf_counter()
        try:
            figures = look()
            row |= {"status": "wrong" if figures.get("wrong") else "ok", **figures}
        except Exception as error:  # noqa: BLE001 - kernels fail in ways of their own, and the others are to run
            row |= {"status": "error", "error": one_line(error)}
        free(self.device)
        row["seconds"] = round(time.perf_counter() - began, 1)
        self.rows.append(row)
        self.write()
        print(f"[{time.perf_counter() - self.began:5.0f} s] {section}: {name}: {say(row)}", flush=True)
        return row

    def find(self, section: str, name: str) -> Figures:
        """The row of that name; empty when there is none, or nothing could be measured."""
        found = [row for row in self.rows if (row["section"], row["name"]) == (section, name) and row["status"] == "ok"]
        return found[-1] if found else {}

    def write(self, more: Figures | None = None) -> None:
        """Write all that is known."""
        seconds = round(time.perf_counter() - self.began, 1)
        write_json(self.file, {**self.about, "seconds": seconds, "rows": self.rows, **(more or {})})

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], Any]) -> float:
        """Of one call, to its end on the device."""
        self.wait()
        began = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - began

    def forget_peak(self) -> None:
        """Count the peak of memory from here on."""
        if self.device.type == "cuda":
            self.wait()
            # What the making of a model left to torch would count as kept by the step.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> Figures:
        """Most memory since `forget_peak`: in tensors, and with what torch keeps for the next ones."""
        if self.device.type != "cuda":
            return {"peak_gb": None, "reserved_gb": None}
        return {
            "peak_gb": round(torch.cuda.max_memory_allocated(self.device) / GB, 2),
            "reserved_gb": round(torch.cuda.max_memory_reserved(self.device) / GB, 2),
        }


def spread(seconds: Sequence[float], name: str) -> Figures:
    """The median of some times, and how far they are apart."""
    figures = {name: statistics.median(seconds), f"{name}_min": min(seconds), f"{name}_max": max(seconds)}
    return {key: round(value, 5) for key, value in figures.items()}


def free(device: torch.device) -> None:
    """Forget models and compiled graphs: the next variant begins as the first did."""
    # A graph made for 65 frames would be made anew for any number of frames when 81 come.
    torch._dynamo.reset()
    gc.collect()
    # After an illegal access every call fails: each variant is to say so, and the table is to come.
    with suppress(RuntimeError):
        if device.type == "cuda":
            torch.cuda.empty_cache()


def one_line(error: BaseException) -> str:
    """An error's type and the beginning of what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def say(row: Figures) -> str:
    """A row's figures in one line."""
    told = [row["status"]] if row["status"] != "ok" else []
    for key, value in row.items():
        if key not in ("section", "name", "status", "wrong") and isinstance(value, (int, float, str)):
            told.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return ", ".join(told)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|; not a number when one has such."""
    found, expected = found.detach().double(), expected.detach().double().to(found.device)
    return ((found - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def largest_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two numbers."""
    return (found.detach().double() - expected.detach().double().to(found.device)).abs().max().item()


def describe_gpu(device: torch.device) -> Figures:
    """Card, driver's CUDA and cuDNN; the processor where there is none."""
    if device.type != "cuda":
        return {"name": f"none ({platform.processor() or platform.machine()})"}
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_gb": round(found.total_memory / GB, 1),
        "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
