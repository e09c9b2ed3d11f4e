"""What a code value of HDR or a wide gamut becomes, by the standards' own examples."""

from __future__ import annotations

import numpy as np
import pytest

from faceid.media.pixels.colours import HLG, PQ, REFERENCE_WHITE_NITS, Colours, to_bt709, tone_mapped

pytestmark = pytest.mark.fault("M3")


def grey(value: float, colours: Colours) -> float:
    red, green, blue = to_bt709(np.full(3, value), colours) * 255
    assert red == pytest.approx(green, abs=0.1) and red == pytest.approx(blue, abs=0.1)
    return float(green)


# BT.2408: a white sheet of paper is 75 % in HLG and 58 % in PQ; a grey card of 18 % is 38 % in both.
@pytest.mark.parametrize(("transfer", "white", "card"), [(HLG, 0.75, 0.38), (PQ, 0.58, 0.38)])
def test_white_paper_stays_near_the_top_and_a_grey_card_in_the_middle(transfer, white, card):
    colours = Colours(9, transfer)
    assert grey(0, colours) == 0 and grey(1, colours) == pytest.approx(255, abs=0.5)
    assert 220 < grey(white, colours) < 240
    assert 95 < grey(card, colours) < 125


def test_brightness_is_brought_down_without_a_step_and_below_the_knee_not_at_all():
    nits = np.linspace(0, 1000, 2001)
    mapped = tone_mapped(np.repeat(nits[:, None], 3, 1), 1000.0)[:, 0] * REFERENCE_WHITE_NITS
    assert (np.diff(mapped) > -1e-9).all() and np.diff(mapped).max() <= 0.51
    np.testing.assert_allclose(mapped[nits < 80], nits[nits < 80], atol=1e-6)
    assert mapped[-1] == pytest.approx(REFERENCE_WHITE_NITS, abs=0.1)


def test_a_brighter_mastering_leaves_room_for_it():
    assert grey(0.6, Colours(9, PQ, 4000.0)) < grey(0.6, Colours(9, PQ, 1000.0)) < 245


@pytest.mark.parametrize("transfer", [1, 13, 14])
def test_in_an_ordinary_range_greys_stay_as_they_are(transfer):
    for primaries in (9, 12):
        assert grey(0.3, Colours(primaries, transfer)) == pytest.approx(0.3 * 255, abs=0.1)


def test_colours_of_the_common_gamut_come_back():
    # Pure BT.709 red in BT.2020's primaries (BT.2087): 0.6274, 0.0691, 0.0164 of light.
    red = np.array([0.6274, 0.0691, 0.0164]) ** (1 / 2.4)
    np.testing.assert_allclose(to_bt709(red, Colours(9, 14)), [1, 0, 0], atol=0.05)
