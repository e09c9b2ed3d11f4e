"""Where rendering computes and how, and what it keeps of what it has computed. Field names are flag names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.limits import MOST_PROCESSES


@dataclass(frozen=True)
class ComputeSettings:
    """How the models compute."""

    attention_backend: str | None = None
    """One of diffusers' attention kernels, such as _native_cudnn, flash or sage; torch's choice when not given."""
    compile: bool = False
    """Compile the blocks: faster on a GPU once the first video has taken its minutes."""
    context_parallel: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] = 1
    """Processes that render one video together, under accelerate launch: sooner, and with less memory each."""
    offload: bool = False
    """Keep the blocks in the CPU's memory and bring each to the GPU for its turn: for a small card; slower."""
    device: str | None = None
    """cpu, cuda, cuda:1. Default: cuda when there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""


@dataclass(frozen=True)
class CacheSettings:
    """What is kept for other runs."""

    cache_dir: str | None = None
    """Folder for text embeddings and pose latents, which other runs use too. Default: none; with --batch one within
    the output folder, until all is rendered."""
    cache_gb: Annotated[float, Field(ge=1e-9, le=1e6)] = 20.0
    """What the cache may hold; what was used longest ago goes first."""

    def unused(self, is_batch: bool) -> Iterator[Reason]:
        """Options that change nothing. is_batch: which has a cache of its own."""
        if self.cache_dir is None and not is_batch:
            yield "cache_gb", "without --cache_dir"
