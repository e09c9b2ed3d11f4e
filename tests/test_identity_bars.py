"""What the proof of identity holds the demo to."""

from __future__ import annotations

import pytest

from faceid.evaluation.report.in_short import SUMMARY_TITLES


@pytest.mark.fault("W11")
def test_every_pose_ratio_of_the_summary_has_a_bar():
    """The strangers' ratio stood for all: the target's own renders lost more, and nothing said so."""
    from benchmarks.proofs.identity import FROM_DEMO

    ratios = {key for key in SUMMARY_TITLES if key.startswith("pose_error_ratio")}
    barred = {key: holds for key, _, _, holds in FROM_DEMO}
    assert len(ratios) == 2 and ratios <= barred.keys()
    assert all(barred[key](1.0) and not barred[key](1.2) for key in ratios)
