"""metrics.jsonl is the truth and survives kills; TensorBoard shows it."""

import json

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from faceid.training.metrics import Metrics, read_metrics


def test_values_are_in_both(tmp_path):
    metrics = Metrics(tmp_path, is_main=True, start_step=0, tensorboard=True)
    for step in (1, 2):
        metrics.log(step, {"train/loss": 1.0 / step})
    metrics.log_picture("validation/strip", np.zeros((4, 6, 3), dtype=np.uint8), 2)
    metrics.log_text("config", "seed: 1")
    metrics.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1, "train/loss": 1.0},
        {"step": 2, "train/loss": 0.5},
    ]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert events.Images("validation/strip")[0].width == 6


def test_a_resumed_run_drops_what_a_lost_attempt_wrote_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps({"step": step, "train/loss": 1.0}) + "\n" for step in range(1, 8)) + '{"step": 8, "tr'
    )
    metrics = Metrics(tmp_path, is_main=True, start_step=5, tensorboard=False)
    metrics.log(6, {"train/loss": 0.1})
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5, 6]
    assert read_metrics(path)[-1]["train/loss"] == 0.1


def test_other_ranks_write_nothing(tmp_path):
    metrics = Metrics(tmp_path, is_main=False, start_step=0, tensorboard=True)
    metrics.log(1, {"train/loss": 1.0})
    metrics.close()
    assert list(tmp_path.iterdir()) == []
