"""A run with reference frames: they are made once, and learnt from. test_resume.py resumes such a run."""

import pytest
from calling import call
from launching import QUIET, SMALL_ADAPTER

from faceid.training.measuring.metrics import read_metrics

FLAGS = "--batch_size 2 --warmup_steps 0 --num_epochs 1 --reference_share 0.7 --validate_every 0".split()


@pytest.mark.slow
def test_they_are_made_once_and_counted(toy_inputs, tmp_path):
    words = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *FLAGS, "--output_dir", str(tmp_path)]
    done = call("train.py", *words)
    assert done.code == 0 and "reference frames in 70 % of the samples" in done.screen
    index = tmp_path / "cache" / "references" / "index.json"
    before = index.stat().st_mtime_ns
    counted = [row[name] for row in read_metrics(tmp_path / "metrics.jsonl") for name in row if "reference" in name]
    assert sum(counted) > 0
    # Run again it finds them.
    assert call("train.py", *words).code == 0 and index.stat().st_mtime_ns == before
