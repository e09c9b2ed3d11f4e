"""Which frame of a film is on the screen when: by frame index at a constant rate, else by the frames' time stamps.

At a constant rate output k is source frame round(k * source_fps / fps), and time stamps are not asked: in pose files
the rate itself is often wrong, and pairs go by index. A file whose time stamps part from its rate by more than half a
frame (a phone's film, a screen recording, a wrong header) is sampled by its time stamps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# In frames: half a frame further, and sampling by index would show another frame.
_LARGEST_DRIFT = 0.5


@dataclass(frozen=True)
class Timeline:
    """fps: frames per second, on the mean. times_s: of each frame since the first, [T]; None at a constant rate."""

    fps: Fraction
    times_s: np.ndarray | None = None

    @property
    def varies(self) -> str | None:
        """In words, how far apart the rates are of a film of varying rate; None at a constant one."""
        if self.times_s is None:
            return None
        intervals = np.diff(self.times_s)
        slowest, fastest = (1 / float(np.percentile(intervals, share)) for share in (95, 5))
        return f"its time stamps leave a constant rate ({slowest:.4g} to {fastest:.4g} fps, {float(self.fps):.4g} mean)"

    def time_s(self, index: int) -> float:
        """When a frame begins, in seconds since the first."""
        return float(Fraction(index) / self.fps) if self.times_s is None else float(self.times_s[index])

    def index_at(self, seconds: float | Fraction) -> int:
        """The frame to show at a time since the first frame, in seconds. May be past the end."""
        if self.times_s is None:
            return round(Fraction(seconds) * self.fps)
        return self._shown(float(seconds))

    def indices(self, fps: float, count: int, start: int = 0) -> list[int]:
        """Source indices of `count` output frames at `fps` from source frame `start` on. May be past the end."""
        if self.times_s is None:
            return [start + index for index in itertools.islice(self.sampled(fps), count)]
        begin = float(self.times_s[start])
        return [self._shown(begin + k / float(exact_rate(fps))) for k in range(count)]

    def sampled(self, fps: float | None, start: int = 0) -> Iterator[int]:
        """Source indices of the output frames at `fps` from output frame `start` on, without end. None: each frame."""
        if fps is None:
            return itertools.count(start)
        if self.times_s is not None:
            return (self._shown(k / float(exact_rate(fps))) for k in itertools.count(start))
        ratio = self.fps / exact_rate(fps)
        return (round(k * ratio) for k in itertools.count(start))

    def _shown(self, seconds: float) -> int:
        """The last frame that has begun, half a usual frame ahead: what rounding does at a constant rate."""
        assert self.times_s is not None
        usual_s = float(np.median(np.diff(self.times_s)))
        ahead = seconds + 0.5 * usual_s
        past_end = int((ahead - float(self.times_s[-1])) / usual_s)
        return int(np.searchsorted(self.times_s, ahead, "right")) - 1 + max(past_end, 0)


def timeline_of(stamps: Sequence[int], time_base: Fraction, header_fps: Fraction) -> Timeline:
    """The timeline of frames with these time stamps, ascending, in units of `time_base` seconds.

    Without time stamps, or with equal ones, the header's rate is all there is.
    """
    if len(stamps) < 3 or any(after <= before for before, after in itertools.pairwise(stamps)):
        return Timeline(header_fps)
    times_s = (np.array(stamps, np.int64) - stamps[0]) * float(time_base)
    drift = np.abs(times_s * float(header_fps) - np.arange(len(times_s)))
    if drift.max() <= _LARGEST_DRIFT:
        return Timeline(header_fps)
    mean = Fraction(len(stamps) - 1) / ((stamps[-1] - stamps[0]) * time_base)
    return Timeline(mean.limit_denominator(1001), times_s)


def frame_indices(source_fps: float | Fraction, fps: float, count: int) -> list[int]:
    """Source indices of the first `count` output frames at `fps`: k -> round(k * source_fps / fps)."""
    return Timeline(Fraction(source_fps)).indices(fps, count)


def exact_rate(fps: float) -> Fraction:
    """A rate as a fraction; 1001 keeps 24000/1001 and its kin exact."""
    return Fraction(fps).limit_denominator(1001)
