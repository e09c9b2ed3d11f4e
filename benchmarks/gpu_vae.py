"""Seconds and memory of the VAE: a clip to latents, latents to frames, as `encode_latents.py` and `sample.py` do it.

The product computes it in float32, which on a GPU means TF32 in convolutions, torch's default. What it does not offer
(bf16, tiles) is measured beside it, to say whether it should.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from gpu_bench import Bench, Figures, relative_error, spread
from gpu_model import random_vae
from torch import Tensor

from faceid.models.base.latent_codec import decode_latents, encode_pixels

SECTION = "vae"
REPEATS = 2
# Of what leaves the VAE, by that of the product's own float32.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Way:
    """How a VAE computes. is_offered: by the product."""

    name: str
    dtype: torch.dtype = torch.float32
    is_tiled: bool = False
    is_offered: bool = False


WAYS = (
    Way("float32", is_offered=True),
    Way("bf16, not offered", torch.bfloat16),
    Way("tiled, not offered", is_tiled=True),
)


def measure_vae(bench: Bench, frames: int) -> None:
    """All ways at the first length, the product's own at the others."""
    known: dict[str, Tensor] = {}
    for way in WAYS if frames == bench.scale.frames[0] else WAYS[:1]:
        for direction in ("encode", "decode"):
            bench.attempt(
                SECTION,
                f"{frames} frames, {direction}, {way.name}",
                functools.partial(_measure, bench, known, frames, way, direction),
                cap_s=60,
            )


@torch.no_grad()
def _measure(bench: Bench, known: dict[str, Tensor], frames: int, way: Way, direction: str) -> Figures:
    scale = bench.scale
    vae = random_vae(scale, bench.device, way.dtype)
    if way.is_tiled:
        vae.enable_tiling()
    generator = torch.Generator(bench.device).manual_seed(4)
    call: Callable[[], Tensor]
    if direction == "encode":
        shape = (1, 3, frames, scale.height, scale.width)
        pixels = torch.rand(shape, device=bench.device, generator=generator) * 2 - 1

        def call() -> Tensor:
            return encode_pixels(vae, pixels)
    else:
        latents = torch.randn((1, *scale.latent(frames)), device=bench.device, generator=generator)

        def call() -> Tensor:
            return decode_latents(vae, latents)

    found: list[Tensor] = []
    first_s = bench.seconds(lambda: found.append(call().cpu()))
    figures: Figures = {"first_s": round(first_s, 3)}
    if direction in known:
        figures["error"] = relative_error(found[0].float(), known[direction])
        figures["wrong"] = not figures["error"] <= TOLERANCE
    else:
        known[direction] = found[0].float()
        figures["wrong"] = not bool(torch.isfinite(found[0]).all())
    if figures["wrong"] and way.is_offered:
        return figures
    bench.forget_peak()
    times = [bench.seconds(call) for _ in range(REPEATS)]
    return {**figures, **spread(times, f"{direction}_s"), **bench.peak()}
