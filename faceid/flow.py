"""Flow matching as Wan uses it: the path, the target, and which noise levels are trained.

Legend: x0 clean latents; noise standard normal; sigma noise level in [0, 1]. x_t = (1 - sigma) x0 + sigma noise.
velocity = noise - x0 (Lipman et al. 2023, eq. 22, with time reversed). The model sees timestep = 1000 sigma.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Wan's transformer embeds noise levels on this scale (num_train_timesteps in the scheduler config).
NUM_TRAIN_TIMESTEPS = 1000

NoiseRange = tuple[float, float]
"""Lowest and highest sigma that a model denoises. Each of two experts has a part of the range."""
ALL_NOISE: NoiseRange = (0.0, 1.0)


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_t for one sigma per batch entry. x0, noise: [B, ...] float32; sigma: [B]."""
    sigma = sigma.view(-1, *[1] * (x0.ndim - 1))
    return (1.0 - sigma) * x0 + sigma * noise


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """The velocity: what the model predicts, at every sigma."""
    return noise - x0


def model_timestep(sigma: Tensor) -> Tensor:
    """Convert sigma [B] to the number that the transformer embeds, float32."""
    return sigma * NUM_TRAIN_TIMESTEPS


def shift_sigma(u: Tensor, shift: float) -> Tensor:
    """Move uniform levels towards noise: shift u / (1 + (shift - 1) u). Wan: 3 at 480p, 5 at 720p. 1 moves nothing."""
    return shift * u / (1.0 + (shift - 1.0) * u)


def stratified_sigmas(
    count: int, shift: float, logit_normal_share: float, generator: torch.Generator, noise: NoiseRange = ALL_NOISE
) -> Tensor:
    """Noise levels for one global batch, [count]: a share is logit-normal(0, 1), the rest shifted-uniform.

    Each kind is stratified over its own entries: one draw per equal slice of probability. So a batch covers the noise
    range and its loss is less noisy. A random permutation decides which entry gets which level. Every rank draws the
    whole batch's levels from the same generator and takes its own slots, so the world size cannot change them.
    noise: only levels in this range are drawn, for both kinds.
    """
    num_logit_normal = _rounded_share(count, logit_normal_share, generator)
    (low, high), (normal_low, normal_high) = (_shares_below(noise, shift, share) for share in (0, 1))
    uniform = shift_sigma(low + (high - low) * _stratified(count - num_logit_normal, generator), shift)
    places = normal_low + (normal_high - normal_low) * _stratified(num_logit_normal, generator)
    normal = torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6))
    sigmas = torch.cat([uniform, torch.sigmoid(normal)])
    # A level of exactly 0 has no noise to predict; 1e-4 is far below the lowest level ever sampled.
    return sigmas[torch.randperm(count, generator=generator)].clamp(1e-4, 1.0).float()


def sigma_quantiles(count: int, shift: float, logit_normal_share: float, noise: NoiseRange = ALL_NOISE) -> list[float]:
    """The middles of `count` equal slices of the training's noise levels, ascending: one for each noise band."""
    low, high = (torch.full((count,), end, dtype=torch.float64) for end in noise)
    of_uniform, of_normal = (_shares_below(noise, shift, share) for share in (0, 1))
    wanted = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    for _ in range(60):  # bisection, to the last bit of a double
        middle = (low + high) / 2
        uniform, normal = (
            (_share_below(middle, shift, share) - ends[0]) / (ends[1] - ends[0])
            for share, ends in ((0, of_uniform), (1, of_normal))
        )
        below = (1 - logit_normal_share) * uniform + logit_normal_share * normal
        low, high = torch.where(below < wanted, middle, low), torch.where(below < wanted, high, middle)
    return ((low + high) / 2).tolist()


def flow_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error in float32, kept per entry and cell: [B, C, f, h, w] to [B, f, h, w] (mean over channels)."""
    return (prediction.float() - target.float()).pow(2).mean(dim=1)


def _share_below(sigma: Tensor, shift: float, logit_normal_share: float) -> Tensor:
    """Share of the training's noise levels under sigma: `shift_sigma` inverted, and logit-normal's CDF."""
    uniform = sigma / (shift - (shift - 1.0) * sigma)
    return (1 - logit_normal_share) * uniform + logit_normal_share * torch.special.ndtr(torch.logit(sigma))


def _shares_below(noise: NoiseRange, shift: float, logit_normal_share: float) -> tuple[float, float]:
    """`_share_below` at both ends of a range: (low, high)."""
    low, high = _share_below(torch.tensor(noise, dtype=torch.float64), shift, logit_normal_share).tolist()
    return low, high


def _stratified(count: int, generator: torch.Generator) -> Tensor:
    jitter = torch.rand(count, generator=generator, dtype=torch.float64)
    return (torch.arange(count, dtype=torch.float64) + jitter) / max(count, 1)


def _rounded_share(count: int, share: float, generator: torch.Generator) -> int:
    """share * count, rounded at random. The share then holds on average even in a batch of one."""
    exact = count * share
    whole = int(exact)
    return whole + int(torch.rand(1, generator=generator).item() < exact - whole)
