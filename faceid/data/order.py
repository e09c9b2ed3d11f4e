"""Compute the order of samples with pure functions: no state is saved, so none can be restored wrongly.

The order of an epoch and every random draw follow from (seed, position, purpose) alone. The number of processes,
workers or restarts cannot change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def epoch_order(seed: int, epoch: int, count: int) -> list[int]:
    """The order of an epoch."""
    return permutation(seed, epoch, "epoch order", count)


def permutation(seed: int, number: int, purpose: str, count: int) -> list[int]:
    """A permutation of range(count) for this purpose and number (such as an epoch's), the same on every machine."""
    # torch is imported here. A caller that needs only a seed (to split films, to draw poses) saves 190 MB and seconds.
    import torch

    generator = torch.Generator().manual_seed(seed_for(seed, number, purpose))
    return torch.randperm(count, generator=generator).tolist()


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` places spread evenly over range(count), first and last among them."""
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def hold_out(names: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of the names (dancers, performances) to keep for validation.

    They are drawn by hash, so that more clips of others change nothing.
    """
    return sorted(set(names), key=lambda name: (seed_for(seed, 0, f"hold out {name}"), name))[:count]


def seed_for(seed: int, global_index: int, purpose: str) -> int:
    """A 63-bit seed for one draw of one sample, such as its noise, timestep, dropout or crop."""
    digest = hashlib.sha256(f"{seed}/{global_index}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
