"""What a run was fed is counted, and too much damage stops it."""

import pytest

from faceid.data.index import MISSING, NOT_FINITE
from faceid.training.drawn import NAMES, Drawn


@pytest.mark.parametrize(
    ("samples", "damaged", "per_epoch", "is_over"),
    [
        (0, 0, 8, False),
        (4, 1, 8, True),
        (50, 1, 100, False),
        (50, 2, 100, True),
        (1000, 10, 100, False),
        (1000, 11, 100, True),
    ],
)
def test_the_share_is_of_what_was_drawn_or_of_an_epoch(samples, damaged, per_epoch, is_over):
    drawn = Drawn()
    counts = dict.fromkeys(NAMES, 0.0) | {"clip": samples, MISSING: damaged}
    drawn.share([counts[name] for name in NAMES])
    assert drawn.is_over(per_epoch, 0.01) == is_over


def test_the_message_counts_by_reason():
    drawn = Drawn()
    counts = dict.fromkeys(NAMES, 0.0) | {"clip": 60, "photo": 40, MISSING: 3, NOT_FINITE: 1}
    drawn.share([counts[name] for name in NAMES])
    said = str(drawn.error(100, 0.01))
    assert "in 100 samples: shard_missing 3, not_finite 1; over max_damaged_share 0.01" in said
    assert drawn.metrics() == {
        "data/clip_share": 0.6,
        "data/photo_share": 0.4,
        "data/null_share": 0.0,
        "data/damaged_shard_missing": 3.0,
        "data/damaged_not_finite": 1.0,
    }
