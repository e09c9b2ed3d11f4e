"""Encode a run's prompts.

Each text is encoded once, and the encoder is in memory only meanwhile. Wan's text encoder is larger than its 1.3B
transformer. So it is loaded before the transformer, for the texts that no worker has encoded yet, and then released.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from faceid.models.base.model_files import ModelFiles
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import load_wan
from faceid.sampling.one_video.result_cache import ResultCache

log = logging.getLogger(__name__)

KIND = "text"


class PromptEncoder:
    """Encodes texts to embeddings [L, D]. cache: where they are kept; those it cannot keep stay in memory."""

    def __init__(
        self, base: ModelFiles | Path, device: torch.device, dtype: torch.dtype, cache: ResultCache | None = None
    ) -> None:
        self.base, self.device, self.dtype, self.cache = base, device, dtype, cache
        self._known: dict[str, Tensor] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode all unknown texts, with the encoder loaded once, or not at all."""
        for _ in self._encode([text for text in dict.fromkeys(texts) if not self._is_known(text)]):
            pass

    def of(self, *texts: str) -> tuple[Tensor, ...]:
        """The embeddings of texts, on the CPU."""
        found = {text: embedding for text in texts if (embedding := self._find(text)) is not None}
        found |= self._encode([text for text in dict.fromkeys(texts) if text not in found])
        return tuple(found[text] for text in texts)

    def _is_known(self, text: str) -> bool:
        return text in self._known or (self.cache is not None and self.cache.has(KIND, {"text": text}))

    def _find(self, text: str) -> Tensor | None:
        if text in self._known or self.cache is None:
            return self._known.get(text)
        return self.cache.get(KIND, {"text": text})

    def _encode(self, texts: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        if not texts:
            return
        wan = load_wan(self.base, ("text",), self.device, self.dtype)
        for text in texts:
            embedding = encode_prompts(wan.tokenizer, wan.text_encoder, [text])[text].cpu()
            if self.cache is None or not self.cache.put(KIND, {"text": text}, embedding):
                self._known[text] = embedding
            yield text, embedding
        log.info("%d texts encoded", len(texts))
        del wan
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
