"""Settings of the model files, of where and how they compute, and of which results are kept.

Field names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.limits import MOST_PROCESSES


@dataclass(frozen=True)
class ModelSettings:
    """The adapter and the base."""

    face_lora_path: str | None = None
    """The adapter: face_lora_*.safetensors or .pth, or toy. Without it the base renders, with no particular face."""
    model_path: str | None = None
    """Wan2.1-VACE folder, in either layout, or toy. Default: the base named in the adapter."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""


@dataclass(frozen=True)
class ComputeSettings:
    """How the models compute."""

    attention_backend: str | None = None
    """One of diffusers' attention kernels, such as _native_cudnn, flash or sage. Default: torch's choice."""
    compile: bool = False
    """Compile the blocks. This is faster on a GPU once the first video has taken its minutes."""
    context_parallel: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] = 1
    """Processes that render one video together, under accelerate launch. It is faster and takes each less memory."""
    offload: bool = False
    """Keep the blocks in the CPU's memory and bring each to the GPU for its turn. For a small card; slower."""
    device: str | None = None
    """cpu, cuda, cuda:1. Default: cuda when there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""


@dataclass(frozen=True)
class CacheSettings:
    """What is kept for other runs."""

    cache_dir: str | None = None
    """Folder for text embeddings and pose latents, which other runs use too. Default: none; with --batch a folder
    within the output folder, until all is rendered."""
    cache_gb: Annotated[float, Field(ge=1e-9, le=1e6)] = 20.0
    """Most GB in the cache. The results unused for longest go first."""

    def unused(self, is_batch: bool) -> Iterator[Reason]:
        """Options that change nothing. is_batch: a batch has a cache of its own."""
        if self.cache_dir is None and not is_batch:
            yield "cache_gb", "without --cache_dir"
