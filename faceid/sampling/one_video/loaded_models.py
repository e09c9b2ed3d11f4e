"""Find, check and load the base, the adapter and the device that the flags name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

import faceid
from faceid.device import pick_device
from faceid.models.adapter.adapter_file import AdapterMetadata, base_of, check_base, read_adapter
from faceid.models.base.model_files import ModelFiles
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling.one_video.model_settings import CacheSettings, ComputeSettings, ModelSettings
from faceid.sampling.one_video.prompt_encoder import PromptEncoder
from faceid.sampling.one_video.result_cache import ResultCache, describe_hardware
from faceid.toy.shipped import resolve_adapter_path, resolve_model_path

log = logging.getLogger(__name__)

# The text encoder is in memory only while prompts are encoded (PromptEncoder).
PARTS = ("transformer", "vae")
GB = 10**9


@dataclass(frozen=True)
class Models:
    """The base and adapter that render. name: the base's name, as given."""

    compute: ComputeSettings
    adapter: str | None
    metadata: AdapterMetadata | None
    name: str
    base: ModelFiles
    device: torch.device

    @classmethod
    def find(cls, paths: ModelSettings, compute: ComputeSettings) -> Models:
        """Raises: ModelError when one is missing or they do not belong together; ConfigError for the device."""
        adapter = resolve_adapter_path(paths.face_lora_path)
        metadata = read_adapter(Path(adapter))[1] if adapter is not None else None
        name = paths.model_path or (base_of(Path(str(adapter)), metadata) if metadata is not None else "")
        base = ModelFiles.find(resolve_model_path(name), paths.vae_path, paths.text_encoder_path)
        device = pick_device(compute.device)
        if compute.offload and device.type == "cpu":
            log.warning("offload: has no effect on the CPU, where the blocks are anyhow")
        found = cls(compute, adapter, metadata, name, base, device)
        if adapter is not None and metadata is not None:
            check_base(Path(adapter), metadata, name, base)
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The number format in which the transformer and the text encoder compute."""
        if self.compute.dtype == "auto":
            return torch.float32 if self.device.type == "cpu" else torch.bfloat16
        return getattr(torch, self.compute.dtype)

    def cache(self, folder: Path, limit_gb: float) -> ResultCache:
        """A folder of results of these models, up to a size."""
        made_by = {
            "program": faceid.__version__,
            "encoders": self.base.latents_fingerprint,
            "dtype": str(self.dtype),
            "hardware": describe_hardware(self.device),
        }
        return ResultCache(folder, int(limit_gb * GB), made_by)

    def kept_cache(self, settings: CacheSettings, private: bool) -> ResultCache | None:
        """The cache of --cache_dir, for other runs too; None without it. Raises: DataError when it cannot be one."""
        if settings.cache_dir is None:
            return None
        cache = self.cache(Path(settings.cache_dir), settings.cache_gb)
        cache.claim(private=private)
        return cache

    def prompts(self, cache: ResultCache | None) -> PromptEncoder:
        """The encoder from prompts to embeddings."""
        return PromptEncoder(self.base, self.device, self.dtype, cache)

    def load(self) -> FaceIdentityPipeline:
        """Load the pipeline without the text encoder."""
        pipeline = FaceIdentityPipeline.from_pretrained(
            self.base, self.adapter, str(self.device), self.dtype, self.name, PARTS, self.compute.offload
        )
        pipeline.set_execution(self.compute.attention_backend, self.compute.compile)
        return pipeline
