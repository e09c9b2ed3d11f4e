"""A base with random weights of a chosen size, written in both layouts with their true names, for peers.loading.

tests/original_layout.py writes it. Its names are asked of diffusers' converters, not of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from original_layout import Sizes, write_both

from benchmarks.costs import in_a_fork

DTYPE = torch.bfloat16
FOLDERS = {"transformer": "transformer", "vae": "vae", "text": "text_encoder"}


def sizes(width: int, heads: int, layers: int, vae_dim: int, text_layers: int, vocabulary: int) -> Sizes:
    """Of a base. width: of the transformer and of the text encoder."""
    transformer: dict[str, Any] = {"num_attention_heads": heads, "attention_head_dim": width // heads}
    transformer |= {"text_dim": width, "ffn_dim": 4 * width, "freq_dim": 256, "num_layers": layers}
    transformer |= {"vace_layers": list(range(0, layers, 2)), "vace_in_channels": 96}
    text: dict[str, Any] = {"vocab_size": vocabulary, "d_model": width, "d_ff": width * 5 // 2}
    text |= {"d_kv": width // 16, "num_heads": 16, "num_layers": text_layers, "feed_forward_proj": "gated-gelu"}
    return Sizes(transformer, text, vae_dim, spread=0.02, dtype=DTYPE)


MIDDLE = sizes(width=1024, heads=8, layers=10, vae_dim=48, text_layers=8, vocabulary=65_536)
TINY = sizes(width=96, heads=2, layers=2, vae_dim=8, text_layers=1, vocabulary=384)


@dataclass(frozen=True)
class Base:
    """The same weights in both layouts. mib: of each part's files in the diffusers layout."""

    diffusers: Path
    original: Path
    mib: dict[str, int]

    @classmethod
    def write(cls, folder: Path, size: Sizes) -> Base:
        """About ten seconds for MIDDLE; in a process of its own, so that nothing of it is left in this one."""
        ours, theirs = in_a_fork(partial(write_both, folder, sizes=size))
        return cls(ours, theirs, {part: _bytes(ours / sub) >> 20 for part, sub in FOLDERS.items()})


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
