"""The path, the target, and which noise levels are drawn."""

import pytest
import torch

from faceid.flow import (
    add_noise,
    flow_loss,
    model_timestep,
    shift_sigma,
    sigma_quantiles,
    stratified_sigmas,
    velocity_target,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_path_runs_from_clean_to_noise_and_its_slope_is_the_target():
    x0, noise = torch.randn(2, 16, 3, 4, 4), torch.randn(2, 16, 3, 4, 4)
    assert torch.equal(add_noise(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(add_noise(x0, noise, torch.ones(2)), noise)
    low, high = torch.tensor([0.25, 0.5]), torch.tensor([0.5, 0.75])
    slope = (add_noise(x0, noise, high) - add_noise(x0, noise, low)) / 0.25
    torch.testing.assert_close(slope, velocity_target(x0, noise))


def test_shift_is_the_schedulers(toy_path):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler.from_pretrained(toy_path / "scheduler", flow_shift=3.0)
    scheduler.set_timesteps(8)
    unshifted = UniPCMultistepScheduler.from_pretrained(toy_path / "scheduler", flow_shift=1.0)
    unshifted.set_timesteps(8)
    ours = shift_sigma(unshifted.sigmas[:-1].double(), 3.0)
    torch.testing.assert_close(ours, scheduler.sigmas[:-1].double(), atol=1e-6, rtol=0)
    # The scheduler cuts timesteps to integers; ours keep their fraction.
    assert torch.equal(model_timestep(scheduler.sigmas[:-1]).floor().long(), scheduler.timesteps)


def test_sigmas_are_stratified():
    """One draw in each of 64 equal slices of probability, in any order: impossible for independent draws."""
    sigmas = stratified_sigmas(64, shift=3.0, logit_normal_share=0.0, generator=generator())
    u = sigmas.double() / (3.0 - 2.0 * sigmas.double())  # the inverse of shift 3
    assert sorted((u * 64).long().tolist()) == list(range(64))
    assert not torch.equal(sigmas.sort().values, sigmas)


def test_both_kinds_of_sigmas_are_drawn_by_their_share_even_in_batches_of_one():
    few = torch.cat([stratified_sigmas(1, 1e6, 0.5, generator(seed)) for seed in range(400)])
    # With an absurd shift every shifted-uniform level is about 1, so the rest are the logit-normal ones.
    share = (few < 0.99).float().mean().item()
    assert 0.4 < share < 0.6


def test_sigmas_depend_on_the_generator_alone():
    assert torch.equal(stratified_sigmas(8, 3.0, 0.5, generator(3)), stratified_sigmas(8, 3.0, 0.5, generator(3)))
    assert not torch.equal(stratified_sigmas(8, 3.0, 0.5, generator(3)), stratified_sigmas(8, 3.0, 0.5, generator(4)))


def test_the_loss_is_float32_whatever_comes_in():
    prediction = torch.full((1, 16, 1, 2, 2), 1.0, dtype=torch.bfloat16)
    loss = flow_loss(prediction, torch.zeros(1, 16, 1, 2, 2))
    assert loss.dtype == torch.float32 and loss.shape == (1, 1, 2, 2) and loss.mean() == 1


@pytest.mark.parametrize("noise", [(0.875, 1.0), (0.0, 0.875)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_expert_s_levels_are_those_of_all_noise_that_lie_in_its_range(noise, share):
    drawn = stratified_sigmas(4096, 3.0, share, generator(1), noise).sort().values
    assert noise[0] <= drawn[0] and drawn[-1] <= noise[1]
    if share in (0.0, 1.0):  # a mixture has its shares within the range, not over all noise
        whole = stratified_sigmas(400_000, 3.0, share, generator(2))
        kept = whole[(whole >= noise[0]) & (whole <= noise[1])].sort().values
        at = torch.linspace(0.05, 0.95, 19)
        assert torch.allclose(drawn.quantile(at), kept[(at * (len(kept) - 1)).long()], atol=2e-3)


def test_bands_of_an_expert_lie_in_its_range():
    levels = sigma_quantiles(4, 3.0, 0.5, (0.875, 1.0))
    drawn = stratified_sigmas(100_000, 3.0, 0.5, generator(1), (0.875, 1.0)).double()
    assert [float((drawn < level).double().mean()) for level in levels] == pytest.approx(
        [1 / 8, 3 / 8, 5 / 8, 7 / 8], abs=0.01
    )
