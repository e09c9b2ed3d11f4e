"""Strength of the face against likeness, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from scored_videos import scored_video as video

from faceid.evaluation.figures.bootstrap import PeopleBootstrap
from faceid.evaluation.videos.comparisons import Resampling
from faceid.evaluation.videos.curve import scale_curve, spearman

RESAMPLING = Resampling(100, 0)


def drawn_curve(values_by_arm, scales, judged="ours"):
    videos = {
        arm: [video(f"p{index}", similarity_times_rate=value) for index, value in enumerate(values)]
        for arm, values in values_by_arm.items()
    }
    return scale_curve(videos, scales, RESAMPLING, judged)


def test_the_curve_holds_the_arms_with_all_of_the_judged_ones_renders(caplog):
    values = {"ours": [0.8, 0.6], "base": [0.1, 0.1, 5.0], "half": [0.4, 0.5], "few": [0.9]}
    points = drawn_curve(values, {"base": [0.0], "ours": [1.0], "half": [0.5], "few": [0.75]})
    assert [(point.arm, point.face_scale) for point in points] == [("base", 0.0), ("half", 0.5), ("ours", 1.0)]
    assert [point.similarity.value for point in points] == pytest.approx([0.1, 0.45, 0.7])
    assert "few: left out of the face_scale curve, lacks 1 renders" in caplog.text


def test_of_two_arms_at_one_strength_the_judged_one_is_on_the_curve(caplog):
    points = drawn_curve({"other": [0.1], "ours": [0.9], "base": [0.0]}, {"other": [1.0], "ours": [1.0], "base": [0.0]})
    assert [point.arm for point in points] == ["base", "ours"]
    assert "other: left out of the face_scale curve, ours has its face_scale" in caplog.text


def test_spearman_is_of_the_order_alone():
    values = {"base": [0.0], "a": [0.1], "b": [0.9], "ours": [0.5]}
    points = drawn_curve(values, {"base": [0.0], "a": [0.25], "b": [0.5], "ours": [1.0]})
    found = spearman(points)
    assert found is not None and found.value == pytest.approx(0.8)
    assert spearman(points[:2]) is None


def test_spearman_ends_where_growth_is_no_longer_promised():
    values = {"base": [0.0], "a": [0.4], "ours": [0.8], "b": [0.9], "c": [0.1]}
    points = drawn_curve(values, {"base": [0.0], "a": [0.5], "ours": [1.0], "b": [1.25], "c": [1.5]})
    found = spearman(points)
    assert len(points) == 5 and found is not None and found.value == pytest.approx(1)


def test_a_strength_without_effect_does_not_correlate():
    points = drawn_curve({"base": [0.3], "a": [0.3], "ours": [0.3]}, {"base": [0.0], "a": [0.5], "ours": [1.0]})
    found = spearman(points)
    assert found is not None and found.value == 0


def test_spearman_is_resampled_by_person():
    values = {name: np.random.default_rng(seed).random(4) for seed, name in enumerate(("base", "a", "b", "ours"))}
    values["b"] = values["a"]
    scales = {"base": [0.0], "a": [0.25], "b": [0.5], "ours": [1.0]}
    found = spearman(drawn_curve(values, scales))
    weights = PeopleBootstrap(["p0", "p1", "p2", "p3"], 100, 0).weights
    means = [[np.average(values[name], weights=drawn) for name in scales] for drawn in weights]
    expected = np.percentile([spearmanr([0, 1, 2, 3], row).statistic for row in means], [2.5, 97.5])
    assert found is not None and (found.low, found.high) == pytest.approx(tuple(expected))


def test_spearman_of_a_single_person_has_no_interval():
    points = drawn_curve({"base": [0.0], "a": [0.1], "ours": [0.9]}, {"base": [0.0], "a": [0.5], "ours": [1.0]})
    found = spearman(points)
    assert found is not None and found.value == pytest.approx(1) and not found.has_interval
