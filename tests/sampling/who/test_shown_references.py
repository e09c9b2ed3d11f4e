"""Which pictures of a person the base looks at: those given, else the identity's own."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceid.errors import DataError
from faceid.sampling.who.shown_references import ShownReference, choose_references, pictures_of

GIVEN = pictures_of(["a.png"])
OWN = tuple(ShownReference(Path(f"{number}.png")) for number in (1, 2))


@pytest.mark.parametrize(
    ("given", "asked", "is_trained_with", "chosen"),
    [
        ((), None, False, ()),
        ((), None, True, OWN[:1]),
        ((), 0, True, ()),
        ((), 1, False, OWN[:1]),
        ((), 2, False, OWN),
        (GIVEN, None, True, GIVEN),
        (GIVEN, 2, True, GIVEN),
    ],
)
def test_given_ones_else_as_many_as_asked_else_one_where_the_adapter_knows_them(given, asked, is_trained_with, chosen):
    assert choose_references(given, OWN, asked, is_trained_with, "anna") == chosen


def test_an_identity_with_too_few_is_refused_if_they_were_asked_for_and_else_said(caplog):
    caplog.set_level(logging.WARNING, "faceid")
    with pytest.raises(DataError, match=r"own_references=2: anna has 1; make the identity again"):
        choose_references((), OWN[:1], 2, True, "anna")
    assert choose_references((), (), None, True, "anna") == ()
    assert "anna: no reference picture, with which the adapter was trained" in caplog.text


def test_what_lies_in_a_folder_that_does_not_last_is_read_at_once(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "1.png")
    (lasting,), (kept,) = (pictures_of((tmp_path / "1.png",), in_memory) for in_memory in (False, True))
    assert np.array_equal(np.asarray(lasting.picture), picture) and lasting.sha256
    (tmp_path / "1.png").unlink()
    assert np.array_equal(np.asarray(kept.picture), picture) and len(kept.sha256) == 64
