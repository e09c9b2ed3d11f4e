"""Where an epoch ends: the checkpoint first, then its validation; and what was left undone is done once."""

from types import SimpleNamespace

import pytest
import torch
from asked_for import asked_for

from faceid.data.stream.stream_length import StreamLength
from faceid.training.epochs import Epochs, epoch_ending_at
from faceid.training.measuring.metrics import Metrics
from faceid.training.validation.best import Best

METRIC = "swap_gap_training_dancers"
ROW = {f"validation/{METRIC}": 0.25}


class Ends:
    """Epochs of a run of four steps an epoch, and what they did, in order."""

    def __init__(self, folder, saved=None, start_step=0, **settings):
        self.did = []
        given = {"save_every": 100, "validate_every": 1, "batch_size": 2, "num_epochs": 3, **settings}
        given = {"learning_rate": 1.0, "warmup_steps": 0, **given}
        accelerator = SimpleNamespace(device="cpu", reduce=lambda tensor, reduction: tensor)
        self.run = SimpleNamespace(
            sections=asked_for(**given),
            training_set=SimpleNamespace(length=StreamLength(8, 8)),
            world=SimpleNamespace(accelerator=accelerator, is_main=False),
            start_step=start_step,
            num_steps=12,
            saved=saved or {},
        )
        self.metrics = Metrics(folder, True, start_step, tensorboard=False)
        self.best = Best(METRIC)
        validation = SimpleNamespace(best=self.best, validate=self.validate)
        checkpoints = SimpleNamespace(awaits_validation=False, save=self.save, keep_best=self.keep_best)
        self.checkpoints = checkpoints
        self.epochs = Epochs(self.run, self.metrics, validation, checkpoints, SimpleNamespace(at=lambda doing: None))

    def validate(self, epoch, done):
        self.did.append(f"validate {epoch + 1}")
        self.metrics.log(done, ROW)
        return self.best.update(ROW, done)

    def save(self, done, is_needed):
        self.did.append(f"save {done}, " + ("validation to come" if self.checkpoints.awaits_validation else "whole"))

    def keep_best(self, done):
        self.did.append(f"best {done}")

    def step(self, done, is_asked=False):
        self.epochs.after_step(done, torch.tensor(1.0), is_asked)


@pytest.mark.fault("L10")
def test_the_checkpoint_comes_before_the_validation_and_says_so(tmp_path):
    ends = Ends(tmp_path)
    for done in range(1, 6):
        ends.step(done)
    assert ends.did == ["save 4, validation to come", "validate 1", "best 4"]
    assert ends.checkpoints.awaits_validation is False


@pytest.mark.fault("L10")
def test_a_run_that_is_asked_to_stop_leaves_the_validation_to_the_next(tmp_path):
    ends = Ends(tmp_path)
    ends.step(4, is_asked=True)
    assert ends.did == ["save 4, validation to come"] and ends.checkpoints.awaits_validation
    resumed = Ends(tmp_path, {"validated": False}, start_step=4)
    resumed.epochs.catch_up()
    assert resumed.did == ["validate 1", "best 4"]


@pytest.mark.fault("L10")
def test_one_that_was_done_and_recorded_is_not_done_again_and_the_best_is_known(tmp_path):
    Ends(tmp_path).step(4)
    again = Ends(tmp_path, {"validated": False}, start_step=4)
    again.epochs.catch_up()
    assert again.did == ["best 4"] and again.best == Best(METRIC, 0.25, 4)


@pytest.mark.fault("L10")
@pytest.mark.parametrize(
    ("saved", "start_step", "settings"),
    [
        ({}, 0, {}),
        ({"validated": True}, 4, {}),
        ({"validated": False}, 4, {"validate_every": 0}),
        ({"validated": False}, 4, {"validate_every": 2}),
        ({"validated": False}, 3, {}),
    ],
)
def test_where_nothing_was_left_undone_nothing_is_done(tmp_path, saved, start_step, settings):
    ends = Ends(tmp_path, saved, start_step, **settings)
    ends.epochs.catch_up()
    assert ends.did == []


def test_the_step_that_completes_an_epoch_is_known_whatever_the_batch():
    # 6 samples, 4 at a time: the second step takes the last two of the first epoch and two of the second.
    assert [epoch_ending_at(done, StreamLength(6, 6), 4) for done in range(6)] == [None, None, 0, 1, None, 2]
    assert [epoch_ending_at(done, StreamLength(3, 3), 7) for done in range(1, 4)] == [1, 3, 6]
