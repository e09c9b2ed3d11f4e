"""What a run says at its start of its likeness: samples as the stream has them, and the paths of the face."""

from __future__ import annotations

from collections import Counter

import pytest

from faceid.data.stream.mixture import Mixture
from faceid.data.stream.stream_order import StreamOrder
from faceid.training.recipe.likeness import said_of_likeness, samples_of_run

SHARES = {"photo": 0.5, "clip": 0.3, "null": 0.2}


@pytest.mark.parametrize(("shares", "stage2_samples"), [(SHARES, 0), (SHARES, 40), ({}, 0)])
@pytest.mark.parametrize("num_epochs", [2, 3, 7])
def test_the_samples_that_are_said_are_those_of_the_stream(num_epochs, shares, stage2_samples):
    mixture = Mixture(11, 5, shares, StreamOrder(0, 3, 1, stage2_samples))
    total = mixture.length.before(num_epochs)
    seen = Counter(mixture[g].kind for g in range(total))
    said = samples_of_run(num_epochs, mixture.length, mixture.quotas, 11, 5)
    assert {kind: count for kind, count in said.items() if count} == dict(seen)


def test_a_line_says_how_often_photos_are_seen_and_what_carries_the_face():
    paths = {"face tokens": True, "the LoRA": True, "reference frames": False}
    line = said_of_likeness({"photo": 60, "clip": 30, "null": 10}, 12, paths, "no validation looks at it")
    assert line == (
        "likeness: decided by 60 photo samples (12 views of photos, each seen 5 times); 30 clip samples teach what a "
        "face is, 10 keep the base; the face is carried by face tokens, the LoRA; off: reference frames; "
        "no validation looks at it"
    )
