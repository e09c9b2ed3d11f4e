"""Scored videos written by hand, for the tests of what is computed from them; nothing was rendered."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from faceid.evaluation.figures.video_metrics import ALL_METRICS
from faceid.evaluation.videos.renders import Render
from faceid.evaluation.videos.scoring import ScoredVideo


def scored_video(identity, clip="x", seed=0, similarities=(0, 0, 0), arm="arm", rank=1, own=0, **values) -> ScoredVideo:
    """A video as one person; what is not given was not measured. similarities: to everybody of the gallery."""
    measured = {metric.name: math.nan for metric in ALL_METRICS} | values
    render = Render(Path("v.mp4"), clip, identity, 1.0, seed, "")
    return ScoredVideo(arm, render, identity, np.array(similarities), np.array(similarities), own, rank, 0, measured)
