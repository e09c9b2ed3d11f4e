"""Prompt embeddings of a run: each text is encoded once, and the encoder is in memory only meanwhile.

Wan's text encoder is larger than its 1.3B transformer: it is loaded before the transformer, for the texts that no
worker has encoded yet, and let go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from faceid.models.prompts import encode_prompts
from faceid.models.wan import load_wan
from faceid.sampling.result_cache import ResultCache

log = logging.getLogger(__name__)

KIND = "text"
# Of those that the disk has as well; a thousand prompts of Wan's are 4 GB.
KEPT_IN_MEMORY = 64


class Texts:
    """Texts to embeddings [L, D]. cache: where they are kept beside; None for memory alone."""

    def __init__(self, base: Path, device: torch.device, dtype: torch.dtype, cache: ResultCache | None = None) -> None:
        self.base, self.device, self.dtype, self.cache = base, device, dtype, cache
        self._known: dict[str, Tensor] = {}
        self._on_disk: set[str] = set()

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode all that are not known yet, with the encoder loaded once, or not at all."""
        missing = [text for text in dict.fromkeys(texts) if not self._find(text)]
        if not missing:
            return
        wan = load_wan(self.base, ("text",), self.device, self.dtype)
        for text in missing:
            self._keep(text, encode_prompts(wan.tokenizer, wan.text_encoder, [text])[text].cpu())
        log.info("%d texts encoded", len(missing))
        del wan
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def of(self, *texts: str) -> tuple[Tensor, ...]:
        """The embeddings of texts, on the CPU."""
        self.prepare(texts)
        return tuple(self._known[text] for text in texts)

    def _find(self, text: str) -> bool:
        if text not in self._known and self.cache is not None:
            kept = self.cache.get(KIND, {"text": text})
            if kept is not None:
                self._remember(text, kept, is_on_disk=True)
        return text in self._known

    def _keep(self, text: str, embedding: Tensor) -> None:
        is_on_disk = self.cache is not None and self.cache.put(KIND, {"text": text}, embedding)
        self._remember(text, embedding, is_on_disk)

    def _remember(self, text: str, embedding: Tensor, is_on_disk: bool) -> None:
        self._known[text] = embedding
        if not is_on_disk:
            return
        self._on_disk.add(text)
        for other in [one for one in self._known if one in self._on_disk][:-KEPT_IN_MEMORY]:
            del self._known[other]
            self._on_disk.discard(other)
