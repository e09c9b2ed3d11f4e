"""A transformer with the face adapter on it: where and how it computes, and how the adapter is replaced.

A base has one of them. Wan2.2's base has two, each for a part of the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from faceid.models.adapter.adapter_file import AdapterMetadata, install_tensors, load_tensors
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.base.wan import WanModel, load_wan
from faceid.models.compute.context_parallel import TokenShare, share_tokens
from faceid.models.compute.execution import allow_variants, offload_blocks, set_attention_backend


class Denoiser:
    """The transformer of a loaded base, and the adapter on it. A transformer that is loaded anew goes into the base."""

    def __init__(
        self, wan: WanModel, adapter: FaceAdapter | None = None, metadata: AdapterMetadata | None = None
    ) -> None:
        self.wan, self.adapter, self.metadata = wan, adapter, metadata
        self.share: TokenShare | None = None
        # Whether nothing is installed on the transformer. An adapter that was refused half-way leaves its modules
        # there.
        self.is_bare = adapter is None
        self._execution: tuple[str | None, bool] = (None, False)
        self._offloaded_from: torch.device | None = None

    @classmethod
    def load_offloaded(cls, wan: WanModel, device: torch.device, dtype: torch.dtype) -> Denoiser:
        """Load the missing transformer of `wan` into the CPU's memory. `place_blocks` brings it to its device."""
        found = cls(wan)
        found._offloaded_from = device
        wan.transformer = load_wan(wan.files, ("transformer",), "cpu", dtype, wan.name).transformer
        return found

    def place_blocks(self) -> None:
        """Move each block to its device for its turn, where the transformer is offloaded."""
        if self._offloaded_from is not None:
            offload_blocks(self.wan.transformer, self._offloaded_from)

    def set_execution(self, attention_backend: str | None, is_compiled: bool) -> None:
        """Set how it computes, now and after it is loaded anew. Raises: ConfigError for an unknown kernel."""
        self._execution = (attention_backend, is_compiled)
        if attention_backend is not None:
            set_attention_backend(self.wan.transformer, attention_backend)
        if is_compiled:
            allow_variants()
            self.wan.transformer.compile_repeated_blocks()

    def compute_together(self, rank: int, count: int) -> None:
        """Share the tokens with other processes. Raises: ConfigError when the heads cannot be shared among so many."""
        self.share = share_tokens(self.wan.transformer, rank, count)
        if self.adapter is not None:
            self.adapter.set_share(self.share)

    def set_adapter(self, tensors: Mapping[str, Tensor], metadata: AdapterMetadata | None, source: Path | None) -> None:
        """Use these tensors of an adapter file from now on; with metadata None, use no adapter.

        An adapter of the same sizes takes the place of the last one. For other sizes the transformer is loaded anew.
        Raises: ModelError when they do not fit.
        """
        transformer = self.wan.transformer
        last = self.metadata if self.adapter is not None else None
        if metadata is not None and last is not None and _sizes(metadata) == _sizes(last):
            assert self.adapter is not None
            load_tensors(self.adapter, dict(tensors), str(source))
            self.metadata = metadata
            return
        # From here on the last adapter is gone, even if this one fails.
        self.adapter = self.metadata = None
        if not self.is_bare:
            device = "cpu" if self._offloaded_from is not None else transformer.device
            loaded = load_wan(self.wan.files, ("transformer",), device, transformer.dtype, self.wan.name)
            self.wan.transformer = loaded.transformer
            self.is_bare = True
        if metadata is not None:
            self.is_bare = False
            self.adapter = install_tensors(self.wan.transformer, dict(tensors), metadata, str(source))
            # transformer.dtype looks through all modules, so it is read once.
            dtype = self.wan.transformer.dtype
            for parameter in self.adapter.parameters().values():
                parameter.data = parameter.data.to(dtype)
            self.metadata = metadata
        if self.wan.transformer is not transformer:
            self.set_execution(*self._execution)
            self.place_blocks()
            if self.share is not None:
                self.share = share_tokens(self.wan.transformer, self.share.rank, self.share.count)
        if self.adapter is not None and self.share is not None:
            self.adapter.set_share(self.share)


def _sizes(metadata: AdapterMetadata) -> tuple[object, int]:
    return metadata.settings, metadata.face_embedding_dim
