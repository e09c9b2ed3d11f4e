"""Length, epochs and learning rate as functions of the step."""

from itertools import pairwise

import pytest

from faceid.data.stream.stream_length import StreamLength
from faceid.errors import ConfigError
from faceid.training.recipe.schedule import end_of_epoch, epoch_of, is_stage2, learning_rate, total_steps
from faceid.training.world.distributed import World, check_batch

SIX = StreamLength(6, 6)


def test_an_epoch_ends_with_the_step_that_takes_its_last_sample():
    # 6 samples, 4 at a time: the second step takes the last two of the first epoch and two of the second.
    assert [end_of_epoch(epoch, SIX, 4) for epoch in range(3)] == [2, 3, 5]
    assert [epoch_of(step, SIX, 4) for step in range(5)] == [0, 0, 1, 2, 2]
    assert total_steps(3, SIX, 4) == 5


def test_a_batch_larger_than_the_data_still_has_steps():
    assert total_steps(1, StreamLength(3, 3), 4) == 1
    assert [end_of_epoch(epoch, StreamLength(3, 3), 7) for epoch in range(3)] == [1, 1, 2]


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [learning_rate(step, 1.0, 2, 40) for step in range(40)]
    assert rates[0] == pytest.approx(1 / 3) and max(rates) == rates[2] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates[2:]))
    assert rates[-1] < 0.01


def test_stage_two_begins_after_the_epochs_asked_for():
    frozen = [is_stage2(step, 1, SIX, 4) for step in range(5)]
    assert frozen == [False, False, True, True, True]


@pytest.mark.parametrize(
    "batch_size, micro, processes, legal",
    [(3, 1, 2, "use 2 or 4"), (1, 1, 2, "use 2"), (6, 2, 4, "use 8"), (10, 2, 4, "use 8 or 16")],
)
def test_a_batch_that_cannot_be_shared_out_names_the_legal_ones(batch_size, micro, processes, legal):
    with pytest.raises(ConfigError) as error:
        check_batch(batch_size, micro, processes)
    assert str(error.value).endswith(legal) and f"batch_size={batch_size}" in str(error.value)


@pytest.mark.parametrize("processes, micro", [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (8, 1)])
def test_any_world_takes_the_same_samples_in_a_step(processes, micro):
    class Fake:
        """Only what a World asks of an Accelerator."""

        def __init__(self, rank):
            self.process_index, self.num_processes = rank, processes

    for step in (0, 5):
        taken = [g for rank in range(processes) for batch in World(Fake(rank), 8, micro).positions(step) for g in batch]
        assert sorted(taken) == list(range(step * 8, step * 8 + 8))


def test_epochs_of_stage_two_may_be_longer_or_shorter():
    # Two epochs of 6 samples, then epochs of 2.
    length = StreamLength(6, 2, stage2_from_epoch=2)
    assert [length.before(epoch) for epoch in range(5)] == [0, 6, 12, 14, 16]
    assert [length.place(g) for g in (0, 5, 6, 11, 12, 13, 14)] == [
        *((0, 0), (0, 5), (1, 0), (1, 5)),
        *((2, 0), (2, 1), (3, 0)),
    ]
    assert [end_of_epoch(epoch, length, 4) for epoch in range(4)] == [2, 3, 4, 4] and total_steps(6, length, 4) == 5
    assert [is_stage2(step, 2, length, 4) for step in range(5)] == [False, False, False, True, True]
