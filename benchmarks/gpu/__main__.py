"""What one GPU does with the real model's sizes: training, sampling, VAE and loader, beside their goals.

    python -m benchmarks.gpu                              # some minutes on an H200
    python -m benchmarks.gpu --only "[sampling, vae]" --frames "[65]"
    python -m benchmarks.gpu --tiny true                  # every line of it, on a CPU, at the toy's size

Random weights at the configuration of Wan2.1-VACE-1.3B; it says nothing of quality. Each variant is compared with the
plain one before it is timed. The record, benchmarks/records/gpu.json, is written again after each variant.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

# Before anything of Hugging Face is imported: nothing is fetched.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from benchmarks import RECORDS, REPOSITORY
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.loader import measure_loader
from benchmarks.gpu.model import REAL, TINY
from benchmarks.gpu.sampling import Predictions, measure_offload, measure_sampling, measure_video
from benchmarks.gpu.tables import print_goals
from benchmarks.gpu.training import References, measure_training
from benchmarks.gpu.vae import measure_vae
from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point

# In this order; the last four are of the first length alone.
SECTIONS = ("training", "sampling", "vae", "loader", "video", "offload")
OF_FIRST = SECTIONS[2:]


@dataclass(frozen=True)
class Settings:
    """What is measured, for how long, and where it is written."""

    only: list[str] = field(default_factory=list)
    """[a, b] of the sections training, sampling, vae, loader, video, offload; none: all."""
    frames: list[int] = field(default_factory=list)
    """Lengths of clips; none: 65 and 81."""
    repeats: Annotated[int, Field(gt=0)] = 4
    """Timed steps of each variant."""
    record: Path | None = None
    """The .json to write; by default benchmarks/records/gpu.json, of a tiny run outputs/gpu_tiny.json."""
    commit: str | None = None
    """What is measured, where there is no git to ask."""
    tiny: bool = False
    """Try everything on the CPU at the toy's size; its times mean nothing."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.only) - set(SECTIONS))
        if unknown:
            raise ConfigError(f"only={unknown[0]}: no such section; use {', '.join(SECTIONS)}")


def main(argv: list[str] | None = None) -> int:
    """Measure, print and record."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("benchmarks.gpu", __doc__ or "", [Settings], words)
    for library in ("diffusers", "DeepSpeed"):
        # Once per variant they would say that kernels may change, and casts.
        logging.getLogger(library).setLevel(logging.ERROR)
    bench = make_bench(settings)
    bench.about["command"] = ["benchmarks.gpu", *words]
    return _run(bench, settings)


def make_bench(settings: Settings) -> Bench:
    """Raises: ConfigError without a GPU, or when a tiny run would overwrite a real one's record."""
    if not settings.tiny and not torch.cuda.is_available():
        raise ConfigError("benchmarks.gpu: there is no GPU here; --tiny true tries it on the CPU")
    file = settings.record or (REPOSITORY / "outputs" / "gpu_tiny.json" if settings.tiny else RECORDS / "gpu.json")
    if settings.tiny and file.is_file() and not json.loads(file.read_text(encoding="utf-8")).get("is_tiny"):
        raise ConfigError(f"record={file}: is of a real run; a tiny one's goes elsewhere")
    scale, device = (TINY, "cpu") if settings.tiny else (REAL, "cuda:0")
    return Bench(scale, torch.device(device), file, settings.repeats, settings.commit)


def _run(bench: Bench, settings: Settings) -> int:
    lengths = settings.frames or list(bench.scale.frames)
    references, predictions = References(), Predictions()
    looks: dict[str, Callable[[int], Any]] = {
        "training": lambda frames: measure_training(bench, references, frames),
        "sampling": lambda frames: measure_sampling(bench, predictions, frames),
        "vae": lambda frames: measure_vae(bench, frames),
        "loader": lambda frames: measure_loader(bench, frames),
        "video": lambda frames: measure_video(bench, frames),
        "offload": lambda frames: measure_offload(bench, predictions, frames),
    }
    print(f"{bench.about['gpu']}, torch {torch.__version__}, record in {bench.file}", flush=True)
    with patch.object(torch, "compile", _traced_alone) if bench.scale.is_tiny else nullcontext():
        for section in settings.only or SECTIONS:
            for frames in lengths[:1] if section in OF_FIRST else lengths:
                looks[section](frames)
    bench.write(print_goals(bench))
    print(f"\nrecord in {bench.file}")
    return 0


_compile = torch.compile


def _traced_alone(*args: Any, **more: Any) -> Any:
    """torch.compile up to its graphs; which code they are turned into takes minutes on a CPU, and is torch's affair."""
    return _compile(*args, **{**more, "backend": "aot_eager"})


if __name__ == "__main__":
    run_entry_point(main)
