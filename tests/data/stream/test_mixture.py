"""What stands where: everything once an epoch, then given shares; a function of the position alone."""

from collections import Counter

import pytest

from faceid.data.stream.mixture import Mixture, StreamEntry
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.errors import ConfigError

SHARES = PairingSettings().stage2_shares


def epoch_of(mixture, epoch):
    return [mixture[g] for g in range(mixture.length.before(epoch), mixture.length.before(epoch + 1))]


def test_stage_one_takes_every_clip_and_photo_once():
    mixture = Mixture(7, 3, SHARES, StreamOrder(1, 2))
    everything = {StreamEntry("clip", n) for n in range(7)} | {StreamEntry("photo", n) for n in range(3)}
    first, second = epoch_of(mixture, 0), epoch_of(mixture, 1)
    assert set(first) == set(second) == everything and len(first) == 10 and first != second


def test_stage_two_has_the_shares_it_was_given_and_takes_entries_in_turn():
    mixture = Mixture(70, 10, SHARES, StreamOrder(1, 1))
    places = [place for epoch in range(1, 11) for place in epoch_of(mixture, epoch)]
    kinds = Counter(place.kind for place in places)
    assert kinds == {"photo": 400, "clip": 240, "null": 160}
    each = Counter(places)
    assert {each[StreamEntry("photo", n)] for n in range(10)} == {40}
    # 240 clips are three turns of 70 and a part of the fourth.
    assert {each[StreamEntry("clip", n)] for n in range(70)} == {3, 4}
    assert {each[StreamEntry("null", n)] for n in range(70)} == {2, 3}


def test_photos_and_clips_are_spread_over_an_epoch():
    mixture = Mixture(700, 100, SHARES, StreamOrder(1, 0))
    kinds = [place.kind for place in epoch_of(mixture, 0)]
    assert all(150 < kinds[half : half + 400].count("photo") < 250 for half in (0, 400))


def test_a_position_says_the_same_whoever_asks_and_in_whatever_order():
    one, other = (Mixture(7, 3, SHARES, StreamOrder(4, 1)) for _ in range(2))
    assert [one[g] for g in range(60)] == [other[g] for g in reversed(range(60))][::-1]
    assert [one[g] for g in range(60)] != [Mixture(7, 3, SHARES, StreamOrder(5, 1))[g] for g in range(60)]


@pytest.mark.parametrize(("clips", "photos", "quotas"), [(10, 0, {"clip": 6, "null": 4}), (0, 10, {"photo": 10})])
def test_what_is_not_there_leaves_its_share_to_the_others(clips, photos, quotas):
    mixture = Mixture(clips, photos, SHARES, StreamOrder(1, 0))
    assert mixture.quotas == quotas == Counter(place.kind for place in epoch_of(mixture, 3))


def test_shares_that_are_not_the_whole_are_refused():
    with pytest.raises(ConfigError, match=r"stage2_photos \+ stage2_clips \+ stage2_null: their sum is 0.9"):
        PairingSettings(stage2_photos=0.4)


def test_stage_two_may_have_a_length_of_its_own_so_that_photos_are_seen_as_often_whatever_the_clips():
    seen = []
    for clips in (20, 700):
        mixture = Mixture(clips, 10, SHARES, StreamOrder(1, stage2_from_epoch=2, stage2_samples=40))
        assert [len(epoch_of(mixture, epoch)) for epoch in range(4)] == [clips + 10, clips + 10, 40, 40]
        seen.append(Counter(place.kind for epoch in range(2, 12) for place in epoch_of(mixture, epoch))["photo"])
    assert seen == [200, 200]
