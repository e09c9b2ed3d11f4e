"""Intervals come from resampling people, each with all their videos."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scored_videos import scored_video

from faceid.evaluation.figures.bootstrap import PeopleBootstrap
from faceid.evaluation.figures.similarity import d_prime, equal_error_rate, roc_auc, true_accept_rate
from faceid.evaluation.videos.arms import summarise_arm

PEOPLE = ["a", "a", "b", "c", "c", "c"]


def resampled_rows(bootstrap):
    """The videos of each resampling, by index, as a loop over people would take them."""
    for weights in bootstrap.weights.astype(int):
        yield np.concatenate([np.tile(np.flatnonzero(bootstrap.index == p), n) for p, n in enumerate(weights)])


def test_an_interval_equals_that_of_resampling_the_videos_by_person():
    values = np.random.default_rng(0).normal(size=6)
    bootstrap = PeopleBootstrap(PEOPLE, 300, seed=1)
    means = [values[rows].mean() for rows in resampled_rows(bootstrap)]
    found = bootstrap.mean(values)
    assert found.value == pytest.approx(values.mean()) and found.count == 6
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_every_resampling_draws_as_many_people_as_there_are():
    assert (PeopleBootstrap(PEOPLE, 50, seed=0).weights.sum(axis=1) == 3).all()


def test_many_videos_of_two_people_do_not_narrow_the_interval():
    people = ["a"] * 500 + ["b"] * 500
    found = PeopleBootstrap(people, 500, seed=0).mean(np.repeat([0.0, 1.0], 500))
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)


def test_a_single_person_has_no_interval():
    found = PeopleBootstrap(["a", "a"], 100, seed=0).mean(np.array([0.0, 1.0]))
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.high)


def test_what_could_not_be_measured_is_left_out_and_not_counted():
    bootstrap = PeopleBootstrap(PEOPLE, 100, seed=0)
    assert bootstrap.mean(np.array([1, np.nan, 3, np.nan, np.nan, 5])).count == 3
    assert bootstrap.mean(np.array([1, np.nan, 3, np.nan, np.nan, 5])).value == 3
    nothing = bootstrap.mean(np.full(6, np.nan))
    assert math.isnan(nothing.value) and nothing.count == 0


def test_where_a_single_person_was_measured_there_is_no_interval():
    found = PeopleBootstrap(PEOPLE, 100, seed=0).mean(np.array([1.0, 3.0, np.nan, np.nan, np.nan, np.nan]))
    assert found.value == 2 and not found.has_interval


def test_a_ratio_is_of_sums():
    found = PeopleBootstrap(PEOPLE, 100, seed=0).ratio(np.array([1, 2, 3, 4, 5, 6.0]), np.array([2, 2, 2, 2, 2, 2.0]))
    assert found.value == pytest.approx(21 / 12)


def test_the_auc_interval_equals_that_of_resampling_the_videos_by_person():
    generator = np.random.default_rng(2)
    genuine, impostor = generator.normal(0.5, 1, 6).round(1), generator.normal(0, 1, (6, 4)).round(1)
    bootstrap = PeopleBootstrap(PEOPLE, 200, seed=3)
    areas = [roc_auc(genuine[rows], impostor[rows].ravel()) for rows in resampled_rows(bootstrap)]
    found = bootstrap.auc(genuine, impostor)
    assert found.value == pytest.approx(roc_auc(genuine, impostor.ravel()))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(areas, [2.5, 97.5])))


def test_the_seed_decides_the_resamplings():
    first, again, other = (PeopleBootstrap(PEOPLE, 100, seed).weights for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


SEPARATIONS = {
    "equal_error_rate": equal_error_rate,
    "d_prime": d_prime,
    "true_accept_rate_at_1_percent": true_accept_rate,
}


def scored_people(num_people, num_videos):
    """Videos of each person with scores to everybody; own scores are a little higher."""
    scores = np.random.default_rng(5).normal(size=(num_people, num_videos, num_people))
    scores += 1.5 * np.eye(num_people)[:, None]
    return [
        scored_video(f"p{person:02d}", clip=str(clip), similarities=scores[person, clip], own=person)
        for person in range(num_people)
        for clip in range(num_videos)
    ]


@pytest.mark.parametrize("name", SEPARATIONS)
def test_the_separation_of_an_arm_is_resampled_by_person(name):
    videos = scored_people(num_people=8, num_videos=3)
    genuine = np.array([video.scores[video.own] for video in videos])
    impostor = np.stack([np.delete(video.scores, video.own) for video in videos])
    bootstrap = PeopleBootstrap([video.identity for video in videos], 100, seed=4)
    values = [SEPARATIONS[name](genuine[rows], impostor[rows].ravel()) for rows in resampled_rows(bootstrap)]
    found = summarise_arm(videos, 100, seed=4)[name]
    assert found.value == SEPARATIONS[name](genuine, impostor.ravel()) and found.count == 24
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_the_separation_of_one_person_has_no_interval_and_of_too_few_scores_no_value():
    found = summarise_arm(scored_people(num_people=8, num_videos=3)[:3], 100, seed=0)
    assert math.isfinite(found["equal_error_rate"].value) and not found["equal_error_rate"].has_interval
    # 21 impostor scores cannot show 1 %.
    unknown = found["true_accept_rate_at_1_percent"]
    assert math.isnan(unknown.value) and unknown.count == 0


def test_two_thousand_resamplings_of_sixteen_people_take_less_than_three_seconds():
    videos = scored_people(num_people=16, num_videos=4)
    # Of this process, as the machine may be busy with others.
    began = time.process_time()
    assert summarise_arm(videos, 2000, seed=0)["equal_error_rate"].has_interval
    assert time.process_time() - began < 3
