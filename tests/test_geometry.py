"""Sizes follow from the model's factors, and an illegal one names its nearest legal neighbours."""

from __future__ import annotations

import pytest

from faceid.errors import ConfigError
from faceid.geometry import Geometry

WAN = Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
OTHER = Geometry(spatial_factor=4, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))


def test_wan_has_its_published_numbers():
    assert WAN.size_multiple_px == 16
    assert WAN.latent_shape(65, 480, 832) == (16, 17, 60, 104)
    assert WAN.tokens(65, 480, 832) == 17 * 30 * 52


def test_a_base_of_another_vae_has_its_own_numbers():
    assert OTHER.latent_shape(9, 64, 64) == (16, 3, 16, 16)
    assert OTHER.tokens(9, 64, 64) == 192


@pytest.mark.parametrize(
    ("num_frames", "below", "above"), [(0, 1, 5), (-3, 1, 5), (2, 1, 5), (4, 1, 5), (64, 61, 65), (66, 65, 69)]
)
def test_an_illegal_frame_count_names_both_neighbours(num_frames, below, above):
    with pytest.raises(ConfigError, match=rf"num_frames={num_frames}: must be 4n\+1 .* use {below} or {above}$"):
        WAN.latent_frames(num_frames)


@pytest.mark.parametrize("num_frames", [1, 5, 65, 81])
def test_a_legal_frame_count_passes(num_frames):
    assert WAN.latent_frames(num_frames) == (num_frames + 3) // 4


@pytest.mark.parametrize(
    ("height", "width", "named"),
    [
        (470, 832, "height=470: .* 16 px .* use 464 or 480"),
        (480, 833, "width=833: .* use 832 or 848"),
        (8, 832, "height=8: .* use 16 or 32"),
        (0, 832, "height=0: .* use 16 or 32"),
    ],
)
def test_an_illegal_size_names_both_neighbours(height, width, named):
    with pytest.raises(ConfigError, match=named):
        WAN.latent_shape(5, height, width)


@pytest.mark.parametrize("offset", range(1, 16))
def test_what_the_error_suggests_is_legal(offset):
    with pytest.raises(ConfigError) as error:
        WAN.check_size(480 + offset, 832)
    for word in str(error.value).split("use ")[1].split(" or "):
        WAN.check_size(int(word), 832)
