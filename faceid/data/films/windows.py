"""Choose the stretches of a film that become clips.

They have one length, one rate and a stride. A stretch that cannot be used gets a reason. Frame k of a clip is the film
frame nearest to start + k * film_fps / fps, of two the later. In a film of varying rate it is the frame that is on the
screen k / fps seconds after the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from faceid.data.body.keypoints import Keypoints
from faceid.media.timeline import Timeline

# Shoulders to ankles. Eyes and ears are rightly unknown when a dancer turns around.
LIMBS = slice(5, 17)
UPPER_LIMBS = slice(5, 13)
# The name under which stretches without a person are counted.
NOBODY = "stretches without a person"
# A cut is a jump of the picture that its neighbours do not show. Given are the mean |difference| in grey levels, and
# how many times the median of the frames around it. Real dancers stay below 10 and 4. Fades are not detected.
CUT_LEVEL, CUT_RATIO, CUT_NEIGHBOURS = 12.0, 5.0, 12


def find_windows(
    num_frames: int, timeline: Timeline, clip_frames: int, clip_fps: float, stride_s: float
) -> list[list[int]]:
    """Film frames of every clip that fits into a film of `num_frames`, every `stride_s` seconds."""
    windows: list[list[int]] = []
    while (start := timeline.index_at(len(windows) * Fraction(stride_s))) < num_frames:
        window = timeline.indices(clip_fps, clip_frames, start)
        if window[-1] >= num_frames:
            break
        windows.append(window)
    return windows


def find_cuts(energy: np.ndarray) -> list[int]:
    """Film frames that begin a new shot. energy: mean |difference| of each frame to the one before, [T-1]."""
    cuts = []
    for place, value in enumerate(energy):
        around = energy[max(place - CUT_NEIGHBOURS, 0) : place + CUT_NEIGHBOURS + 1]
        if value > CUT_LEVEL and value > CUT_RATIO * float(np.median(around)):
            cuts.append(place + 1)
    return cuts


def why_unusable(
    keypoints: Keypoints | None, indices: Sequence[int], cuts: Sequence[int], max_unknown_share: float, limbs: slice
) -> tuple[str, str] | None:
    """Why a stretch is left out: the name under which it is counted, and the reason. None: it can be used.

    keypoints: for the stretch's frames alone. indices: its film frames. limbs: the joints that must be known.
    """
    for cut in cuts:
        if indices[0] < cut <= indices[-1]:
            return "stretches with a cut", f"a cut at film frame {cut}"
    if keypoints is None:
        return None
    several = int((keypoints.num_people > 1).sum())
    if several > max_unknown_share * len(keypoints):
        return "stretches with several people", f"several people in {several} of {len(keypoints)} frames"
    nobody = int((~np.isfinite(keypoints.body).all(-1).any(-1)).sum())
    if nobody > max_unknown_share * len(keypoints):
        return NOBODY, f"no person in {nobody} of {len(keypoints)} frames"
    unknown = 1 - float(np.isfinite(keypoints.body[:, limbs]).all(-1).mean())
    if unknown > max_unknown_share:
        return "stretches with unknown joints", f"{unknown:.0%} of the joints are not known"
    return None
