"""Which frame is on the screen when, at constant and at varying rates."""

from __future__ import annotations

from fractions import Fraction

import pytest

from faceid.media.timeline import timeline_of

BASE = Fraction(1, 1000)


def stamps_of(intervals):
    stamps = [40]
    for interval in intervals:
        stamps.append(stamps[-1] + interval)
    return stamps


def test_rounded_stamps_of_a_constant_rate_leave_it_by_index():
    # 60 fps in milliseconds: 16, 17, 17.
    timeline = timeline_of([round(1000 * k / 60) for k in range(600)], BASE, Fraction(60))
    assert timeline.varies is None and timeline.indices(16, 5) == [0, 4, 8, 11, 15]
    assert timeline.index_at(2.5) == 150 and timeline.time_s(150) == 2.5


def test_a_jitter_of_less_than_half_a_frame_changes_nothing():
    jitter = [0, 9, -12, 4, 15, -14] * 10
    assert timeline_of([40 * k + by for k, by in enumerate(jitter)], BASE, Fraction(25)).varies is None


@pytest.mark.parametrize("header", [Fraction(25), Fraction(30), Fraction(20)])
def test_a_varying_rate_goes_by_time_whatever_the_header_says(header):
    # 40 ms, then 20 ms.
    timeline = timeline_of(stamps_of([40] * 25 + [20] * 50), BASE, header)
    assert "25 to 50 fps" in timeline.varies
    assert timeline.indices(25, 50) == [*range(26), *(25 + 2 * k for k in range(1, 25))]
    assert timeline.indices(25, 3, start=25) == [25, 27, 29]
    assert timeline.index_at(1.0) == 25 and timeline.time_s(27) == pytest.approx(1.04)


def test_a_frame_stays_until_the_next_has_begun():
    # Half a second without a new frame: a screen recording.
    timeline = timeline_of(stamps_of([40] * 10 + [500] + [40] * 10), BASE, Fraction(25))
    assert timeline.indices(10, 10) == [0, 3, 5, 8, 10, 10, 10, 10, 10, 11]


def test_past_the_end_there_is_no_frame():
    timeline = timeline_of(stamps_of([40] * 10 + [80] * 10), BASE, Fraction(25))
    assert timeline.indices(16, 21)[-1] >= 21 and timeline.index_at(5) > 20


@pytest.mark.parametrize("stamps", [[], [0, 40], [0, 40, 40, 80], [0, 40, 20, 60]])
def test_without_ascending_time_stamps_the_header_is_all_there_is(stamps):
    assert timeline_of(stamps, BASE, Fraction(25)).varies is None
