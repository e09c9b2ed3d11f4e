"""Caches that leave out denoising steps, on the toy WanVACE: ours, and diffusers' FirstBlockCache and MagCache.

A repeated input must be answered as before without a block: whatever differs is the cache's own error. And what ours
costs in fidelity: videos of people with the shipped adapter at several thresholds, beside those without a cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig
from sampling_renders import Rendered
from torch import Tensor

from faceid.models.base.wan import WanModel, load_wan
from faceid.models.rendering.step_cache import StepCache
from faceid.toy.shipped import resolve_model_path

THRESHOLD = 0.05


@dataclass(frozen=True)
class Repeated:
    """The second of two forward passes with the same input: its error beside the first's, and the blocks that ran."""

    relative_error: float
    vace_calls: int
    main_calls: int


@torch.no_grad()
def repeat_input() -> dict[str, Repeated]:
    """Each cache on a base of its own."""
    return {
        "StepCache": _repeat(_by_ours),
        "FirstBlockCache": _repeat(_by_diffusers(FirstBlockCacheConfig(threshold=THRESHOLD))),
        # Calibrated magnitudes of 1 say that nothing changes from step to step; it may skip from the first on.
        "MagCache": _repeat(
            _by_diffusers(MagCacheConfig(threshold=THRESHOLD, retention_ratio=0.0, mag_ratios=torch.ones(28)))
        ),
    }


# Makes a transformer's next forward passes cached ones: a context around each.
Caching = Callable[[Any], Callable[[], AbstractContextManager[Any]]]


def _by_ours(transformer: Any) -> Callable[[], AbstractContextManager[Any]]:
    cache = StepCache(transformer, THRESHOLD)

    def context() -> AbstractContextManager[None]:
        cache.begin("one", may_skip=True)
        return nullcontext()

    return context


def _by_diffusers(config: Any) -> Caching:
    def caching(transformer: Any) -> Callable[[], AbstractContextManager[Any]]:
        transformer.enable_cache(config)
        return lambda: transformer.cache_context("cond")

    return caching


def _repeat(caching: Caching) -> Repeated:
    wan = load_wan(resolve_model_path("toy"), ("transformer",))
    given = _inputs(wan)
    plain = wan.transformer(**given)[0]
    context = caching(wan.transformer)
    with context():
        first = wan.transformer(**given)[0]
    if not torch.allclose(first, plain, atol=1e-5):
        raise RuntimeError("the first pass with a cache is not what it is without")
    calls: Counter[str] = Counter()
    for kind in ("vace_blocks", "blocks"):
        for block in getattr(wan.transformer, kind):
            block.attn1.register_forward_hook(lambda *_, kind=kind: calls.update({kind: 1}))
    with context():
        again = wan.transformer(**given)[0]
    error = float((again - plain).norm() / plain.norm())
    return Repeated(error, calls["vace_blocks"], calls["blocks"])


def _inputs(wan: WanModel) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    config = wan.transformer.config

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": normal(1, config.in_channels, 3, 16, 16),
        "timestep": torch.full((1,), 500.0),
        "encoder_hidden_states": normal(1, 16, config.text_dim),
        "control_hidden_states": normal(1, config.vace_in_channels, 3, 16, 16),
        "return_dict": False,
    }


@dataclass(frozen=True)
class Gated:
    """Renders with the cache beside those without. skipped: share of forward passes."""

    threshold: float
    skipped: float
    psnr_db: float
    """Of all pixels together; inf for the same."""
    pose_error_ratio: float
    similarity_change: float


def gate(thresholds: Sequence[float], plain: Rendered, found: Sequence[Rendered]) -> list[Gated]:
    """Figures of each threshold. plain: without a cache. found: with each threshold, in their order."""
    rows = []
    for threshold, cached in zip(thresholds, found, strict=True):
        squares = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(cached.videos, plain.videos, strict=True)]
        square = float(np.mean(squares))
        rows.append(
            Gated(
                threshold=threshold,
                skipped=round(1 - cached.passes_computed / cached.passes, 3),
                psnr_db=round(10 * math.log10(255**2 / square), 2) if square else math.inf,
                pose_error_ratio=round(cached.pose_error / plain.pose_error, 4),
                similarity_change=round(cached.similarity - plain.similarity, 4),
            )
        )
    return rows
