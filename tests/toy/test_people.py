"""People are the same for the same seed, and their parameters tell nothing of each other."""

from __future__ import annotations

import dataclasses

import numpy as np

from faceid.toy.people import (
    APPEARANCE,
    HAIR,
    Person,
    appearance_vector,
    draw_nuisance,
    draw_person,
    generator,
    palette,
)

PEOPLE = [draw_person(seed) for seed in range(400)]


def test_the_same_seed_is_the_same_person():
    assert draw_person(7) == PEOPLE[7]
    assert len(set(PEOPLE)) == len(PEOPLE)


def test_at_least_eight_parameters_make_an_identity():
    assert len(dataclasses.fields(Person)) >= 8
    for field in dataclasses.fields(Person):
        assert len({getattr(person, field.name) for person in PEOPLE}) > 2


def test_identity_parameters_are_independent_of_each_other_and_of_nuisance():
    names = [field.name for field in dataclasses.fields(Person) if field.type == "float"]
    identity = np.array([[getattr(person, name) for name in names] for person in PEOPLE])
    places = [draw_nuisance(seed) for seed in range(400)]
    nuisance = np.array([(*n.top, *n.bottom, n.light_gain, n.light_slope, n.body_width, n.smile) for n in places])
    together = np.corrcoef(np.concatenate([identity, nuisance], 1).T)
    continuous = together[: len(names)]
    np.fill_diagonal(continuous, 0)
    # Four standard errors of a correlation of 400 independent pairs.
    assert np.abs(continuous).max() < 4 / np.sqrt(400)


def test_a_purpose_has_a_generator_of_its_own():
    assert generator(1, "photo").random() != generator(1, "dance").random() != generator(2, "dance").random()


def test_appearance_says_nothing_that_no_picture_shows():
    names = list(APPEARANCE)
    bald = dataclasses.replace(PEOPLE[0], headwear="bald", glasses="none")
    other = dataclasses.replace(bald, hair_colour=0.9, hat_colour=0.1, glasses_colour=0.5)
    assert np.array_equal(appearance_vector(bald), appearance_vector(other))
    capped = appearance_vector(dataclasses.replace(bald, headwear="cap"))
    assert capped[names.index("headwear_cap")] == 1 and capped[names.index("hat_r")] > 0
    vectors = np.stack([appearance_vector(person) for person in PEOPLE])
    assert vectors.shape == (400, len(APPEARANCE)) and vectors.min() >= 0 and vectors.max() <= 1


def test_a_palette_runs_from_its_first_to_its_last_colour():
    assert palette(HAIR, 0.0) == HAIR[0] and palette(HAIR, 1.0) == HAIR[-1]
    assert palette(((0, 0, 0), (10, 20, 30)), 0.5) == (5, 10, 15)
