"""Identity scores by hand: nothing clamped, no frame skipped, a tie is a miss."""

from __future__ import annotations

import math

import numpy as np
import pytest

from faceid.evaluation.figures import similarity

REFERENCES = np.array([[1.0, 0.0], [0.0, 1.0]])


def cosines(embeddings, is_found):
    return similarity.frame_cosines(np.array(embeddings, np.float32), np.array(is_found), REFERENCES)


def test_a_frame_without_a_face_counts_as_zero_in_the_score():
    found = cosines([[1, 0], [0.6, 0.8]], [True, False, True, False])
    assert similarity.scores(found) == pytest.approx([1.6 / 4, 0.8 / 4])
    assert similarity.similarities(found, np.array([True, False, True, False])) == pytest.approx([0.8, 0.4])


def test_a_cosine_below_zero_stays_below_zero():
    assert similarity.scores(cosines([[-1, 0], [0.6, 0.8]], [True, True])) == pytest.approx([-0.2, 0.4])


def test_without_any_face_the_score_is_zero_and_the_similarity_unknown():
    found = cosines(np.zeros((0, 2)), [False, False])
    assert similarity.scores(found).tolist() == [0, 0]
    assert np.isnan(similarity.similarities(found, np.array([False, False]))).all()


def test_the_cosine_to_a_person_is_the_mean_cosine_to_the_photos():
    photos = np.array([[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]])
    face = np.array([[0.8, 0.6]])
    mean = similarity.mean_reference(photos)
    expected = (face @ photos.T).mean()
    assert similarity.frame_cosines(face, np.array([True]), mean[None])[0, 0] == pytest.approx(expected)


def test_a_tie_with_an_impostor_is_a_miss():
    assert similarity.rank(np.array([0.5, 0.5, 0.1]), own=0) == 2
    assert similarity.rank(np.array([0.5, 0.4, 0.1]), own=0) == 1
    assert similarity.rank(np.array([0.0, 0.0, 0.0]), own=1) == 3


def test_the_margin_is_to_the_best_impostor():
    assert similarity.margin(np.array([0.2, 0.5, 0.1]), own=0) == pytest.approx(-0.3)
    assert similarity.margin(np.array([0.2, 0.5, 0.1]), own=1) == pytest.approx(0.3)


def test_standardised_scores_count_a_frame_without_a_face_as_zero():
    found = cosines([[1, 0]], [True, False])
    scores = similarity.standardised_scores(found, np.array([True, False]), np.array([0.5, 0.5]), np.array([0.25, 0.5]))
    assert scores == pytest.approx([(0.5 / 0.25) / 2, (-0.5 / 0.5) / 2])


def test_auc_counts_wins_and_half_of_ties():
    assert similarity.roc_auc(np.array([0.9, 0.4]), np.array([0.5, 0.1])) == pytest.approx(3 / 4)
    assert similarity.roc_auc(np.array([0.5]), np.array([0.5, 0.1])) == pytest.approx(3 / 4)
    assert math.isnan(similarity.roc_auc(np.array([]), np.array([0.5])))


@pytest.mark.parametrize(
    ("genuine", "impostor", "rate"),
    [
        ([3, 4], [1, 2], 0),
        ([1, 2], [3, 4], 1),
        ([2, 4], [1, 3], 0.5),
        # Rejects are 1/3 while accepts fall from 1/2 to 0.
        ([1, 3, 4], [0, 2], 1 / 3),
        ([1, 1], [1, 1], 0.5),
    ],
)
def test_the_equal_error_rate_is_where_rejects_meet_accepts(genuine, impostor, rate):
    assert similarity.equal_error_rate(np.array(genuine), np.array(impostor)) == pytest.approx(rate)


def test_d_prime_is_the_distance_of_means_in_standard_deviations():
    assert similarity.d_prime(np.array([2.0, 4.0]), np.array([0.0, 2.0])) == pytest.approx(2)
    assert math.isnan(similarity.d_prime(np.array([1.0]), np.array([0.0])))


def test_the_true_accept_rate_lets_one_per_cent_of_impostors_in():
    impostor = np.arange(200.0)
    # Two of 200 may pass, so 197 is the threshold.
    assert similarity.true_accept_rate(np.array([196.0, 197.0, 198.0]), impostor) == pytest.approx(1 / 3)
    assert math.isnan(similarity.true_accept_rate(np.array([1.0]), impostor[:99]))
