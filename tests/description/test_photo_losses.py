"""What the search is told of photos: the loss inside the head, at each level by a noise of its own."""

from __future__ import annotations

import pytest
import torch

from faceid.data.latents.photo_latents import face_photos
from faceid.description.photo_losses import photo_losses
from faceid.faces.identities.identity import load_identity
from faceid.models.base.wan import load_wan

SIDE_PX = 64


@pytest.fixture(scope="module")
def wan(toy_path):
    return load_wan(toy_path, ("text", "vae", "transformer"), name="toy")


@pytest.fixture(scope="module")
def photos(toy_inputs):
    identity = load_identity(toy_inputs.identity)
    return face_photos(toy_inputs.dataset / "photos/target", identity, sorted(identity.photo_boxes)[:2], {})


def test_a_sample_for_each_photo_and_level_by_a_noise_of_its_own(wan, photos):
    quick, other = (photo_losses(wan, photos, SIDE_PX, (0.9, 0.5, 0.5), seed) for seed in (0, 1))
    assert quick.num_samples == 6 and quick.sigma.tolist() == pytest.approx([0.9, 0.9, 0.5, 0.5, 0.5, 0.5])
    samples = [*quick.x_t, *other.x_t]
    alike = [(n, m) for n, one in enumerate(samples) for m, two in enumerate(samples[:n]) if torch.equal(one, two)]
    assert alike == []


def test_the_loss_is_of_the_head_alone(wan, photos):
    losses = photo_losses(wan, photos, SIDE_PX, (0.8,), 0)
    before = losses(["a person"])
    assert 0 < losses.head_mask.mean() < 0.8
    outside = 1 - losses.head_mask.unsqueeze(1)
    losses.target = losses.target + 7 * outside
    torch.testing.assert_close(losses(["a person"]), before)
    losses.target = losses.target + 7 * (1 - outside)
    assert (losses(["a person"]) > before + 1).all()
