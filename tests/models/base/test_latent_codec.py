"""The VAE's two ways to decode, and the weights it begins with in the toy world."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceid.errors import ConfigError
from faceid.models.base.initialise import initialise_vae_as_low_pass
from faceid.models.base.latent_codec import decode_unclamped, encode_pixels, through_vae
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo


def white_pixels(frames: int) -> torch.Tensor:
    """White, of which some pixels come out beyond 1."""
    return torch.ones(1, 3, frames, 64, 64)


@pytest.mark.slow
def test_decoding_without_the_clamp_is_the_vaes_own_decoding_before_it(toy_wan):
    raw = encode_pixels(toy_wan.vae, white_pixels(9))
    with torch.no_grad():
        unclamped, own = decode_unclamped(toy_wan.vae, raw), toy_wan.vae.decode(raw).sample
    assert unclamped.abs().max() > 1
    assert torch.equal(unclamped.clamp(-1, 1), own)


def test_without_the_clamp_every_pixel_has_a_gradient(toy_wan):
    raw = encode_pixels(toy_wan.vae, white_pixels(1)).requires_grad_(True)
    assert decode_unclamped(toy_wan.vae, raw).max() > 1
    decode_unclamped(toy_wan.vae, raw).sum().backward()
    free = raw.grad.clone()
    raw.grad = None
    toy_wan.vae.decode(raw).sample.sum().backward()
    assert not torch.equal(free, raw.grad)


def test_a_vae_that_begins_as_a_low_pass_gives_a_smooth_picture_through(toy_wan):
    """Its encoder hands a constant on as a constant, and its decoder makes the same of every cell."""
    initialise_vae_as_low_pass(toy_wan.vae, seed=1)
    flat, cell_px = torch.zeros(1, 3, 1, 128, 128), toy_wan.geometry.spatial_factor
    raw = encode_pixels(toy_wan.vae, flat)
    inside = raw[..., 4:-4, 4:-4]
    assert (inside - inside.mean((3, 4), keepdim=True)).abs().max() < 1e-4 * inside.abs().max()
    with torch.no_grad():
        picture = decode_unclamped(toy_wan.vae, raw)[..., 48:-48, 48:-48]
    cells = picture.unfold(3, cell_px, cell_px).unfold(4, cell_px, cell_px)
    assert (cells - cells.mean((3, 4), keepdim=True)).abs().max() < 1e-3


def test_a_clip_comes_back_through_a_vae_at_its_size_and_in_whole_latent_frames(toy_wan):
    frames = np.stack([render_photo(draw_person(3), 5, 64)] * 7)
    back = through_vae(toy_wan.vae, frames)
    # Five of seven frames are whole latent frames: one, and four.
    assert back.shape == (5, 64, 64, 3) and back.dtype == np.uint8
    assert 0 < np.abs(back.astype(float) - frames[:5]).mean() < 20
    with pytest.raises(ConfigError, match="62x64: this VAE takes multiples of"):
        through_vae(toy_wan.vae, frames[:, :, :62])
