"""The loss: over the whole picture, or with the asked-for probability over the head alone."""

from types import SimpleNamespace

import pytest
import torch

from faceid.flow import ALL_NOISE
from faceid.training.recipe.recipe_settings import LossSettings, NoiseSettings
from faceid.training.step import _sigmas, reduce_error

ERROR = torch.zeros(1, 4, 4)
ERROR[0, :2, :2] = 1.0  # the head's four cells are wrong, the rest is right
MASK = ERROR.clone()


def loss(g, kind="clip", is_body=False, error=ERROR, mask=MASK, **settings):
    batch = SimpleNamespace(head_mask=mask.unsqueeze(0), head_cells=[4], g=[g], kinds=[kind], bodies=[is_body])
    return reduce_error(LossSettings(**settings), 42, error, batch, 0).item()


def test_the_masked_loss_is_the_mean_inside_the_head():
    assert loss(0, masked_loss_probability=1.0, masked_loss_min_cells=4) == 1.0
    assert loss(0, masked_loss_probability=0.0, masked_loss_min_cells=4) == 0.25


def test_a_head_of_too_few_cells_is_not_masked():
    assert loss(0, masked_loss_probability=1.0, masked_loss_min_cells=5) == 0.25


def test_what_the_base_does_without_a_face_is_wanted_of_the_whole_picture():
    assert loss(0, "null", masked_loss_probability=1.0, masked_loss_min_cells=1) == 0.25


def test_a_body_is_learnt_outside_the_head_alone():
    settings = {"is_body": True, "masked_loss_probability": 1.0, "masked_loss_min_cells": 1}
    assert loss(0, **settings) == 0.0 and loss(0, error=1 - ERROR, **settings) == 1.0
    # A head that fills the picture leaves nothing to learn.
    assert loss(0, mask=torch.ones_like(MASK), **settings) == 0.0


def test_masking_has_its_probability_and_depends_on_the_position_alone():
    drawn = [loss(g, masked_loss_probability=0.3, masked_loss_min_cells=1) for g in range(2000)]
    assert drawn.count(1.0) / len(drawn) == pytest.approx(0.3, abs=0.03)
    assert [loss(g, masked_loss_probability=0.3, masked_loss_min_cells=1) for g in range(2000)] == drawn


def levels(**settings):
    sections = SimpleNamespace(optimizer=SimpleNamespace(seed=3, batch_size=8), noise=NoiseSettings(**settings))
    run = SimpleNamespace(sections=sections, wan=SimpleNamespace(files=SimpleNamespace(noise=ALL_NOISE)))
    clips, photos = zip(*(_sigmas(run, step) for step in range(200)), strict=True)
    return torch.cat(clips), torch.cat(photos)


def test_photos_have_noise_levels_of_their_own_where_they_were_asked_for():
    clips, photos = levels()
    assert torch.equal(clips, photos)
    same, lower = levels(photo_shift=1.0, photo_logit_normal_share=0.0)
    assert torch.equal(same, clips)
    assert float(lower.mean()) == pytest.approx(0.5, abs=0.02) and lower.mean() < clips.mean() - 0.05
