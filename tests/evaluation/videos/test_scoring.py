"""Whom a video is scored as, and what a video without a face gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceid.errors import DataError
from faceid.evaluation.videos.measure import Measurement
from faceid.evaluation.videos.recognisers import Recogniser
from faceid.evaluation.videos.renders import Arm, Render
from faceid.evaluation.videos.scoring import check_identities, identities_by_clip, score_arm

PEOPLE = ["a", "b", "c"]
JUDGE = Recogniser("judge", None, np.eye(3), np.zeros(3), np.ones(3))  # type: ignore[arg-type]


def arm(name, *renders):
    """Renders as (identity, clip)."""
    return Arm(name, [Render(Path(f"{name}-{i}-{c}"), c, i, float(bool(i)), 0, "") for i, c in renders], 0)


def measured(cosines, is_found=(True, True)):
    pictures = {"flicker": 2.0, "dynamic_degree": 3.0}
    return Measurement(np.array(is_found), {"judge": np.array(cosines, float)}, {"judge": 1.0}, pictures)


def score(scored, measurement, others=()):
    measurements = {render.path: measurement for render in scored.renders}
    return score_arm(scored, JUDGE, measurements, PEOPLE, identities_by_clip([scored, *others], real="real"))


def test_a_render_without_a_person_is_scored_as_each_that_others_were_given_for_the_clip():
    base, ours, real = arm("base", ("", "x"), ("", "y")), arm("ours", ("a", "x"), ("c", "x"), ("b", "y")), arm("real")
    videos = score(base, measured([[1, 0, 0], [1, 0, 0]]), [ours, real])
    assert [(v.render.clip, v.identity, v.rank) for v in videos] == [("x", "a", 1), ("x", "c", 3), ("y", "b", 3)]


def test_real_clips_do_not_say_whom_the_base_should_show():
    assert identities_by_clip([arm("real", ("b", "x")), arm("ours", ("a", "x"))], "real") == {"x": ["a"]}


def test_a_render_without_a_person_alone_is_scored_as_everybody():
    assert [v.identity for v in score(arm("base", ("", "x")), measured([[1, 0, 0]], [True]))] == PEOPLE


def test_a_video_is_scored_over_all_its_frames():
    (video,) = score(arm("ours", ("a", "x")), measured([[0.8, 0.2, -0.4], [0, 0, 0]], [True, False]))
    values = video.values
    assert (values["similarity_times_rate"], values["similarity"], values["detection_rate"]) == (0.4, 0.8, 0.5)
    assert values["margin"] == pytest.approx(0.3) and values["best_impostor"] == pytest.approx(0.1)
    assert (values["similarity_min"], values["similarity_std"]) == (0, 0.4) and values["rank1"] == 1


def test_a_video_without_a_face_is_nobody_and_a_miss():
    (video,) = score(arm("ours", ("a", "x")), measured(np.zeros((2, 3)), [False, False]))
    assert (video.nearest, video.rank, video.values["similarity_times_rate"]) == (-1, 3, 0)
    assert np.isnan(video.values["similarity"])


def test_somebody_without_references_is_refused():
    with pytest.raises(DataError, match="shows zoe, who is not in references_dir"):
        check_identities([arm("ours", ("zoe", "x"))], PEOPLE)
