"""Tell which frame of a film is on the screen when.

The frame index tells it at a constant rate, and the time stamps tell it otherwise. At a constant rate, output k is the
source frame nearest to k * source_fps / fps. Of two equally near frames it is the later. Time stamps are then ignored:
in pose files the rate itself is often wrong, and pairs go by index. A file is sampled by its time stamps when they part
from its rate by more than half a frame. Examples are a phone's film, a screen recording, a wrong header. Sums are of
integers and fractions, so a tie is a tie on every machine.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from statistics import median_high, median_low

import numpy as np

# In frames. Beyond half a frame, sampling by index would show another frame.
_LARGEST_DRIFT = Fraction(1, 2)
# Share of all time stamps that may be missing or doubled, and are put between their neighbours. With more of them, the
# remaining stamps say too little.
_LARGEST_MENDED_SHARE = 0.1
# Seconds on one frame. A longer stay is a damaged stamp, and following it would give hours of one picture.
_LONGEST_STILL_S = 60
# The number of stamps before and after a gap that tell the usual distance there.
_BESIDE = 6
# Steps of a tick, for stamps that are put between others.
_STEPS = 1000


@dataclass(frozen=True)
class Timeline:
    """fps: frames per second, on the mean. ticks: time of each frame since the first, [T]; None at a constant rate.

    tick_s: seconds of a tick. mended: how many ticks were missing or doubled. unknown: why a rate that seems to vary is
    taken for a constant one.
    """

    fps: Fraction
    ticks: tuple[int, ...] | None = None
    tick_s: Fraction = Fraction(1)
    mended: int = 0
    unknown: str | None = None

    @property
    def varies(self) -> str | None:
        """How far apart the rates of a film of varying rate are, in words; None at a constant rate."""
        if self.ticks is None:
            return None
        intervals = np.array([float(ticks * self.tick_s) for ticks in _intervals(self.ticks)])
        slowest, fastest = (1 / float(np.percentile(intervals, share)) for share in (95, 5))
        mended = f"; {self.mended} of {len(self.ticks)} were missing or doubled" if self.mended else ""
        return (
            f"its time stamps leave a constant rate ({slowest:.4g} to {fastest:.4g} fps, {float(self.fps):.4g} "
            f"mean{mended})"
        )

    @property
    def warning(self) -> str | None:
        """What a user has to know of the rate; None at a constant rate."""
        return f"{self.varies}; frames are taken by their time stamps" if self.varies else self.unknown

    def time_s(self, index: int) -> float:
        """When a frame begins, in seconds since the first."""
        return float(self._begin_s(index))

    def index_at(self, seconds: float | Fraction) -> int:
        """The frame to show at a time since the first frame, in seconds. The index may be past the end."""
        return self._shown(Fraction(seconds))

    def indices(self, fps: float, count: int, start: int = 0) -> list[int]:
        """Source indices of `count` output frames at `fps` from source frame `start` on. They may be past the end."""
        if self.ticks is None:
            return [start + index for index in itertools.islice(self.sampled(fps), count)]
        begin_s = self._begin_s(start)
        return [self._shown(begin_s + k / exact_rate(fps)) for k in range(count)]

    def sampled(self, fps: float | None, start: int = 0) -> Iterator[int]:
        """Source indices of the output frames at `fps` from output frame `start` on, without end. None: each frame."""
        if fps is None:
            return itertools.count(start)
        rate = exact_rate(fps)
        return (self._shown(k / rate) for k in itertools.count(start))

    def whole(self, fps: float, num_frames: int) -> list[int]:
        """Source indices of the output frames at `fps` that begin while a film of `num_frames` lasts.

        The last frame stays on the screen for its time, including the half of it that lies nearer to a next frame.
        """
        end_s = self._begin_s(num_frames)
        if self.ticks is not None and num_frames > 1:
            # How long the last frame stays is unknown. It counts no longer than the frame before.
            end_s = min(end_s, 2 * self._begin_s(num_frames - 1) - self._begin_s(num_frames - 2))
        count = math.ceil(end_s * exact_rate(fps))
        return [min(index, num_frames - 1) for index in self.indices(fps, count)]

    def _begin_s(self, index: int) -> Fraction:
        """When a frame begins. For an index past the end: when the frame would begin."""
        if self.ticks is None:
            return index / self.fps
        past_end = max(index - (len(self.ticks) - 1), 0)
        return (self.ticks[index - past_end] + past_end * self._usual) * self.tick_s

    def _shown(self, seconds: Fraction) -> int:
        """The last frame that has begun half a usual frame later. At a constant rate it is the nearest frame."""
        if self.ticks is None:
            return half_up(seconds * self.fps)
        ahead = seconds / self.tick_s + self._usual / 2
        past_end = math.floor((ahead - self.ticks[-1]) / self._usual)
        return bisect_right(self.ticks, math.floor(ahead)) - 1 + max(past_end, 0)

    @cached_property
    def _usual(self) -> Fraction:
        """The median interval, in ticks."""
        assert self.ticks is not None
        intervals = sorted(_intervals(self.ticks))
        return Fraction(median_low(intervals) + median_high(intervals), 2)


def timeline_of(stamps: Sequence[int | None], time_base: Fraction, header_fps: Fraction) -> Timeline:
    """The timeline of frames with these time stamps, in units of `time_base` seconds, in the order of the file.

    None stands for a frame without a stamp. Single stamps that are missing or doubled are put between their neighbours.
    Without time stamps only the header's rate is left. `unknown` says when too many are missing and the others part
    from the rate.
    """
    if sum(stamp is not None for stamp in stamps) < 3:
        return Timeline(header_fps)
    ticks, mended = _mended(stamps)
    tick_s = time_base / _STEPS
    if _largest_drift(ticks, tick_s * header_fps) <= _LARGEST_DRIFT:
        return Timeline(header_fps)
    intervals, why = _intervals(ticks), None
    longest_s = max(intervals) * tick_s
    if mended > _LARGEST_MENDED_SHARE * len(ticks) or min(intervals) < 1:
        why = f"{mended} of {len(ticks)} time stamps are missing or doubled, and the others leave its constant rate"
    elif longest_s > _LONGEST_STILL_S:
        why = f"its time stamps leave {float(longest_s):.6g} s between two frames, over {_LONGEST_STILL_S}"
    if why is not None:
        by_index = f"frames are taken by index at {float(header_fps):.4g} fps"
        return Timeline(header_fps, unknown=f"{why}: {by_index}; encode it again where it plays at another tempo")
    mean = Fraction(len(ticks) - 1) / ((ticks[-1] - ticks[0]) * tick_s)
    return Timeline(mean.limit_denominator(1001), tuple(tick - ticks[0] for tick in ticks), tick_s, mended)


def half_up(value: Fraction) -> int:
    """The nearest whole number, of two the higher. Rounding to even would show frames once and three times in turn."""
    return math.floor(value + Fraction(1, 2))


def frame_indices(source_fps: float | Fraction, fps: float, count: int) -> list[int]:
    """Source indices of the first `count` output frames at `fps`: the nearest to k * source_fps / fps, ties up."""
    return Timeline(Fraction(source_fps)).indices(fps, count)


def exact_rate(fps: float) -> Fraction:
    """A rate as a fraction; 1001 keeps 24000/1001 and its kin exact."""
    return Fraction(fps).limit_denominator(1001)


def _intervals(ticks: Sequence[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(ticks)]


def _largest_drift(ticks: Sequence[int], frames_per_tick: Fraction) -> Fraction:
    """The largest distance of the ticks from a constant rate, in frames."""
    per, base = frames_per_tick.numerator, frames_per_tick.denominator
    return Fraction(max(abs((tick - ticks[0]) * per - k * base) for k, tick in enumerate(ticks)), base)


def _mended(stamps: Sequence[int | None]) -> tuple[list[int], int]:
    """Time stamps of all frames, ascending, in steps of a tick, and how many of them were put between others."""
    given = {place: stamp * _STEPS for place, stamp in enumerate(stamps) if stamp is not None}
    known, at = sorted(set(given.values())), list(given)
    before, after = _usual_step(known[:_BESIDE]), _usual_step(known[-_BESIDE:])
    filled = [known[0] - before * back for back in range(1, at[0] + 1)]
    filled += [known[-1] + after * ahead for ahead in range(1, len(stamps) - at[-1])]
    for place, following in itertools.pairwise(at):
        filled += _between(given[place], given[following], following - place - 1)
    filled += given.values()
    filled.sort()
    return _spread(filled), len(stamps) - len(known)


def _spread(ticks: list[int]) -> list[int]:
    """Move equal ticks apart, into the larger gap beside them, where a frame is missing."""
    apart: list[int] = []
    for tick, run in itertools.groupby(ticks):
        more = len(list(run)) - 1
        end = len(apart) + more + 1
        # After the last stamp, the ticks are as far apart as the stamps before.
        after = ticks[end] if end < len(ticks) else tick + (more + 1) * _usual_step([*apart[1 - _BESIDE :], tick])
        if apart and tick - apart[-1] > after - tick:
            apart += [*_between(apart[-1], tick, more), tick]
        else:
            apart += [tick, *_between(tick, after, more)]
    return apart


def _usual_step(ticks: Sequence[int]) -> int:
    return median_low(_intervals(ticks) or [_STEPS])


def _between(before: int, after: int, count: int) -> list[int]:
    return [before + (after - before) * k // (count + 1) for k in range(1, count + 1)]
