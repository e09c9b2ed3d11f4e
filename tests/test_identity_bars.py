"""What the proof of identity holds the demo to."""

from __future__ import annotations

import pytest
from launching import REPOSITORY

from faceid.evaluation.report.in_short import SUMMARY_TITLES


@pytest.mark.fault("W11")
def test_every_pose_ratio_of_the_summary_has_a_bar():
    """The strangers' ratio stood for all: the target's own renders lost more, and nothing said so."""
    from benchmarks.proofs.identity import FROM_DEMO

    # The demo judges what it learnt from the base alone, so `ours` is the same arm.
    assert "--ours ours --from_base ours" in (REPOSITORY / "launch/demo.sh").read_text()
    ratios = {key for key in SUMMARY_TITLES if "pose_error_ratio" in key} - {"pose_error_ratio_ours"}
    barred = {key: holds for key, _, _, holds in FROM_DEMO}
    assert len(ratios) == 2 and ratios <= barred.keys()
    assert all(barred[key](1.0) and not barred[key](1.2) for key in ratios)
