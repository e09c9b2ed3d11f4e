"""metrics.jsonl is the truth and survives kills; TensorBoard shows it."""

import json
import logging
import shutil
import subprocess
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from faceid.training.measuring import board
from faceid.training.measuring.metrics import Metrics, read_metrics


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


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 100 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def said(caplog):
    logging.getLogger("faceid").propagate = True
    return caplog


@pytest.mark.starts_process
def test_a_full_disk_delays_lines_and_loses_none(small_disk, said):
    metrics = Metrics(small_disk, is_main=True, start_step=0, tensorboard=True)
    for step in range(1, 4000):
        metrics.log(step, {"train/loss": 1.0 / step})
    steps = [record["step"] for record in read_metrics(small_disk / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) < 3999
    assert said.text.count("lines are kept and tried again") == 1
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    metrics.log(4000, {"train/loss": 0.0})
    assert [record["step"] for record in read_metrics(small_disk / "metrics.jsonl")] == list(range(1, 4001))
    metrics.close()


def test_a_folder_that_is_gone_does_not_end_a_run(tmp_path, said):
    metrics = Metrics(tmp_path / "run", is_main=True, start_step=0, tensorboard=False)
    metrics.log(1, {"train/loss": 1.0})
    assert "lines are kept" in said.text
    (tmp_path / "run").mkdir()
    metrics.log(2, {"train/loss": 1.0})
    assert [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2]
    shutil.rmtree(tmp_path / "run")
    metrics.log(3, {"train/loss": 1.0})
    metrics.close()


def test_a_writer_that_hangs_blocks_nothing(tmp_path, said, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    monkeypatch.setattr(board, "QUEUE_SIZE", 8)
    monkeypatch.setattr(board, "CLOSE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(SummaryWriter, "add_scalar", lambda *arguments: time.sleep(3))
    metrics = Metrics(tmp_path, is_main=True, start_step=0, tensorboard=True)
    began = time.monotonic()
    for step in range(1, 50):
        metrics.log(step, {"train/loss": 1.0})
    metrics.close()
    assert time.monotonic() - began < 2
    assert said.text.count("do not keep up") == 1 and "could not be finished" in said.text
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 49


def test_a_runs_settings_are_in_the_table_of_hyperparameters(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    metrics = Metrics(tmp_path, is_main=True, start_step=0, tensorboard=True)
    metrics.log_settings({"learning_rate": 1e-4, "lora_branch": "base", "lora_alpha": None, "ema": 0.999})
    metrics.close()
    # In the run's own folder: a folder beside it would be a run of its own.
    assert [path.is_file() for path in (tmp_path / "tensorboard").iterdir()] == [True]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = events.PluginTagToContent("hparams")
    session = HParamsPluginData.FromString(found["_hparams_/session_start_info"]).session_start_info
    assert session.hparams["learning_rate"].number_value == 1e-4
    assert session.hparams["lora_alpha"].string_value == "None"
