"""Which frame is on the screen when, at constant and at varying rates."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from faceid.media.timeline import Timeline, timeline_of

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


@pytest.mark.parametrize("stamps", [[], [0, 40], [None] * 9, [0, 40, None, None]])
def test_without_time_stamps_the_header_is_all_there_is(stamps):
    assert timeline_of(stamps, BASE, Fraction(25)) == Timeline(Fraction(25))


def phone_stamps():
    """Two seconds at 25 fps, a pause of a second, two at 12.5."""
    return stamps_of([40] * 50 + [1000] + [80] * 25)


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("places", "value"),
    [
        # Doubled: as the one before, as the one after, at the pause, first and last.
        ([20], "before"),
        ([20], "after"),
        ([51], "after"),
        ([1], "before"),
        ([76], "before"),
        ([20, 40, 60], "before"),
        # Missing: one, two side by side, the first ones, the last one.
        ([20], None),
        ([20, 21], None),
        ([0, 1, 2], None),
        ([76], None),
    ],
)
def test_some_odd_time_stamps_are_mended_and_the_others_followed(places, value):
    good, odd = phone_stamps(), phone_stamps()
    for place in places:
        odd[place] = None if value is None else good[place - 1 if value == "before" else place + 1]
    mended, expected = (timeline_of(stamps, BASE, Fraction(25)) for stamps in (odd, good))
    assert f"{len(places)} of 77 were missing or doubled" in mended.warning and "time stamps" in mended.warning
    apart = [abs(mended.time_s(k) - expected.time_s(k)) for k in range(77)]
    begin = good[0] / 1000 - (0 if 0 not in places else 0.12)
    assert max(apart[:51]) < 0.001 + abs(begin - good[0] / 1000)
    # Only beside the pause it cannot be known when a frame of it began.
    assert sorted(apart)[-2] < 0.001 or 0 in places


@pytest.mark.fault("A1")
def test_missing_time_stamps_of_frames_out_of_order_are_mended():
    # Stored as they are decoded: I P B B.
    good = phone_stamps()
    stored = [good[k] for at in range(1, 75, 3) for k in (at + 2, at, at + 1)]
    stored = [good[0], *stored, good[76]]
    stored[30] = None
    mended, expected = (timeline_of(stamps, BASE, Fraction(25)) for stamps in (stored, good))
    assert max(abs(mended.time_s(k) - expected.time_s(k)) for k in range(77)) < 0.041


@pytest.mark.fault("A1")
@pytest.mark.parametrize("lack", [None, "doubled"])
def test_a_rate_that_seems_to_vary_and_cannot_be_followed_is_said(lack):
    odd = phone_stamps()
    for place in range(5, 77, 5):
        odd[place] = None if lack is None else odd[place - 1]
    timeline = timeline_of(odd, BASE, Fraction(25))
    assert timeline.varies is None and timeline.indices(25, 60) == list(range(60))
    assert timeline.warning.startswith("15 of 77 time stamps are missing or doubled") and "by index" in timeline.warning


@pytest.mark.parametrize("place", [0, 30, 76])
@pytest.mark.parametrize("damaged", [2**40, -(2**40), 400_000])
def test_one_wildly_wrong_time_stamp_is_not_followed(place, damaged):
    # Of the phone's film, and of one at a constant rate.
    for stamps in (phone_stamps(), stamps_of([40] * 76)):
        stamps[place] = damaged
        timeline = timeline_of(stamps, BASE, Fraction(25))
        assert timeline.varies is None and timeline.whole(25, 77) == list(range(77))
        assert "s between two frames, over 60: frames are taken by index at 25 fps" in timeline.warning


def test_a_still_of_a_minute_is_followed():
    timeline = timeline_of(stamps_of([40] * 10 + [60_000] + [40] * 10), BASE, Fraction(25))
    assert timeline.varies and len(timeline.whole(25, 22)) > 1500


def test_doubled_time_stamps_of_a_constant_rate_are_nothing_to_say():
    # 50 fps in steps of 40 ms.
    assert timeline_of([40 * (k // 2) for k in range(50)], BASE, Fraction(50)).warning is None


@pytest.mark.fault("A2")
@pytest.mark.parametrize(
    ("source_fps", "fps", "expected"),
    [
        (24, 16, [0, 2, 3, 5, 6, 8, 9, 11, 12]),
        (8, 16, [0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (30, 20, [0, 2, 3, 5, 6, 8, 9, 11, 12]),
        (60, 16, [0, 4, 8, 11, 15, 19, 23, 26, 30]),
        (16, 16, list(range(9))),
    ],
)
def test_of_two_frames_equally_near_the_later_is_taken_at_constant_and_varying_rates(source_fps, fps, expected):
    # The same rate by time stamps: at its end it has a pause.
    stamps = stamps_of([240] * 40 + [2000])
    varying = timeline_of(stamps, Fraction(1, 240 * source_fps), Fraction(source_fps))
    assert varying.varies
    for timeline in (Timeline(Fraction(source_fps)), varying):
        assert timeline.indices(fps, 9) == list(itertools.islice(timeline.sampled(fps), 9)) == expected
        assert timeline.index_at(Fraction(3, 2 * source_fps)) == 2


@pytest.mark.fault("A2")
@pytest.mark.parametrize("source_fps", [2, 8, 12, 16, 24, 25, Fraction(30000, 1001), 30, 60])
def test_a_film_lasts_as_long_at_another_rate(source_fps):
    count = round(2 * source_fps)
    taken = Timeline(Fraction(source_fps)).whole(16, count)
    assert len(taken) == (33 if source_fps == Fraction(30000, 1001) else 32)
    assert count - 1 - source_fps / 16 < taken[-1] < count
