"""What a run was fed is counted, and too much damage stops it."""

from types import SimpleNamespace

import pytest

from faceid.data.shards.index import MISSING, NOT_FINITE
from faceid.training.measuring.sample_counts import NAMES, SampleCounts


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
    sample_counts = SampleCounts()
    counts = dict.fromkeys(NAMES, 0.0) | {"clip": samples, MISSING: damaged}
    sample_counts.share([counts[name] for name in NAMES])
    assert sample_counts.is_over(per_epoch, 0.01) == is_over


def test_the_message_counts_by_reason():
    sample_counts = SampleCounts()
    counts = dict.fromkeys(NAMES, 0.0) | {"clip": 60, "photo": 40, MISSING: 3, NOT_FINITE: 1}
    sample_counts.share([counts[name] for name in NAMES])
    said = str(sample_counts.error(100, 0.01))
    assert "in 100 samples: shard_missing 3, not_finite 1; over max_damaged_share 0.01" in said
    metrics = sample_counts.metrics()
    assert (metrics["data/clip_share"], metrics["data/photo_share"], metrics["data/null_share"]) == (0.6, 0.4, 0.0)
    assert (metrics["data/damaged_shard_missing"], metrics["data/damaged_not_finite"]) == (3.0, 1.0)


def test_what_was_drawn_for_the_samples_is_counted_as_shares_of_them():
    sample_counts = SampleCounts()
    choices = ["other_clip", "face", "face", "face", "same_clip", "face", "text_dropped", "both_dropped"]
    batch = SimpleNamespace(kinds=["clip", "clip", "photo", "null"], choices=choices, damages=[])
    sample_counts.add(batch, masked=3)
    sample_counts.share(sample_counts.take())
    assert sample_counts.take() == [0.0] * len(NAMES)
    metrics = {name.removeprefix("data/"): value for name, value in sample_counts.metrics().items()}
    assert metrics["faces_per_clip"] == 2.0 and metrics["masked_loss_share"] == 0.75
    for name in ("other_clip", "same_clip", "text_dropped", "both_dropped"):
        assert metrics[f"{name}_share"] == 0.25
    assert metrics["face_dropped_share"] == metrics["no_face_known_share"] == 0.0
