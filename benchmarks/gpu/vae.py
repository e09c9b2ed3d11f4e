"""Seconds and memory of the VAE: a clip to latents, latents to frames, as `encode_latents.py` and `sample.py` do it.

The product computes it in float32, which on a GPU means TF32 in convolutions, torch's default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from benchmarks.gpu.bench import Bench, Figures, spread
from benchmarks.gpu.model import random_vae
from faceid.models.base.latent_codec import decode_latents, encode_pixels

SECTION = "vae"
REPEATS = 2


def measure_vae(bench: Bench, frames: int) -> None:
    """Both ways."""
    for direction in ("encode", "decode"):
        look = functools.partial(_measure, bench, frames, direction)
        bench.attempt(SECTION, f"{frames} frames, {direction}, float32", look)


@torch.no_grad()
def _measure(bench: Bench, frames: int, direction: str) -> Figures:
    scale, vae = bench.scale, random_vae(bench.scale, bench.device)
    generator = torch.Generator(bench.device).manual_seed(4)
    call: Callable[[], torch.Tensor]
    if direction == "encode":
        shape = (1, 3, frames, scale.height, scale.width)
        call = functools.partial(
            encode_pixels, vae, torch.rand(shape, device=bench.device, generator=generator) * 2 - 1
        )
    else:
        latents = torch.randn((1, *scale.latent(frames)), device=bench.device, generator=generator)
        call = functools.partial(decode_latents, vae, latents)
    found: list[torch.Tensor] = []
    figures: Figures = {"first_s": round(bench.seconds(lambda: found.append(call().cpu())), 3)}
    if not bool(torch.isfinite(found[0]).all()):
        return {**figures, "wrong": True}
    bench.forget_peak()
    times = [bench.seconds(call) for _ in range(REPEATS)]
    return {**figures, **spread(times, f"{direction}_s"), **bench.peak()}
