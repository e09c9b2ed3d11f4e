"""A batch smaller than the world is one sample a process, and a run keeps the global batch that it began with."""

import itertools
import time
import tracemalloc
from types import SimpleNamespace

import pytest
import yaml
from forked_runs import run
from launching import QUIET, SMALL_ADAPTER, losses

from faceid.errors import ConfigError
from faceid.training.recipe.global_batch import global_batch, said_of_batch
from faceid.training.world.distributed import Positions, World


def state(batch_size, asked):
    return {"origin": {"recipe": {"batch_size": batch_size}, "asked_batch_size": asked}}


@pytest.mark.fault("W10")
@pytest.mark.parametrize(
    ("asked", "micro", "processes", "batch"),
    [
        (1, 1, 1, 1),
        (1, 1, 2, 2),
        (1, 1, 8, 8),
        (3, 1, 4, 4),
        (8, 1, 2, 8),
        # Not given: one micro-batch a process.
        (0, 1, 1, 1),
        (0, 1, 2, 2),
        (0, 4, 2, 8),
    ],
)
def test_fewer_samples_than_processes_are_one_a_process(asked, micro, processes, batch):
    assert global_batch(asked, micro, processes, None) == batch


@pytest.mark.fault("W10")
@pytest.mark.parametrize(
    ("asked", "micro", "processes", "legal"), [(3, 1, 2, "2 or 4"), (5, 1, 4, "4 or 8"), (1, 2, 2, "4")]
)
def test_what_cannot_be_shared_evenly_is_still_refused(asked, micro, processes, legal):
    with pytest.raises(ConfigError, match=f"not divisible by {processes} processes.*use {legal}"):
        global_batch(asked, micro, processes, None)


@pytest.mark.fault("W10")
def test_the_same_command_goes_on_with_the_same_global_batch_on_another_world():
    began = state(2, asked=1)  # --batch_size 1 on two processes
    assert [global_batch(asked, 1, processes, began) for asked in (1, 0, 2) for processes in (1, 2)] == [2] * 6
    for asked in (1, 0, 2):
        with pytest.raises(
            ConfigError, match=r"batch_size=2: the global batch this run began with .* by 4 processes .* 1, 2"
        ):
            global_batch(asked, 1, 4, began)
    # Begun alone with one sample: two processes cannot share it, and it is not made two in silence.
    with pytest.raises(ConfigError, match="batch_size=1: the global batch this run began with"):
        global_batch(1, 1, 2, state(1, asked=1))


@pytest.mark.fault("W10")
def test_another_command_is_not_taken_for_the_same_one():
    # What it gives is held against the checkpoint by name (refuse_other_origin).
    assert global_batch(8, 1, 2, state(2, asked=1)) == 8
    assert global_batch(1, 1, 2, state(8, asked=8)) == 2


@pytest.mark.fault("W10")
def test_what_the_batch_is_is_said_where_it_is_not_what_was_asked_for():
    assert said_of_batch(1, 2, 2, False) == "batch_size=1: the global batch is 2, one sample for each of 2 processes"
    assert said_of_batch(1, 2, 1, True) == "batch_size=1: the global batch is 2, as the run began"
    assert said_of_batch(0, 2, 2, False) is None and said_of_batch(2, 2, 2, False) is None


@pytest.mark.starts_process
@pytest.mark.fault("W10")
def test_the_command_people_come_with_runs_on_two_processes_and_goes_on_in_one(toy_inputs, tmp_path):
    words = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--output_dir", str(tmp_path)]
    words += "--batch_size 1 --learning_rate 1e-4 --freeze_mapper_after_epochs 20 --save_every 10".split()
    assert run([*words, "--num_epochs", "1"], "cpu") == [0, 0]
    log = tmp_path / "logs" / "rank0000.log"
    assert "batch_size=1: the global batch is 2, one sample for each of 2 processes" in log.read_text()
    # 4 clips and 4 photos.
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["batch_size"] == 2 and len(losses(tmp_path)) == 4
    assert run([*words, "--num_epochs", "2"]) == [0]
    assert "batch_size=1: the global batch is 2, as the run began" in log.read_text()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["batch_size"] == 2 and len(losses(tmp_path)) == 8


def world(batch_size, micro, processes, rank):
    accelerator = SimpleNamespace(num_processes=processes, process_index=rank, is_main_process=rank == 0)
    return World(accelerator, batch_size, micro)


@pytest.mark.fault("C3")
@pytest.mark.parametrize(("batch_size", "micro", "processes"), [(1, 1, 1), (8, 1, 2), (8, 2, 2), (12, 3, 4)])
@pytest.mark.slow
def test_positions_come_in_the_order_in_which_they_did_when_they_were_a_list(batch_size, micro, processes):
    for rank in range(processes):
        of_rank = world(batch_size, micro, processes, rank)
        listed = [m for step in range(3, 40) for m in of_rank.positions(step)]
        lazy = Positions(of_rank, 3, 40)
        assert list(lazy) == listed and list(lazy) == listed
    # Written out once: rank 1 of 2, two passes of two samples in steps 0 and 1.
    assert list(Positions(world(8, 2, 2, 1), 0, 2)) == [[4, 5], [6, 7], [12, 13], [14, 15]]


@pytest.mark.fault("C3")
def test_a_run_of_ten_million_samples_costs_no_more_at_its_start_than_one_of_ten():
    tracemalloc.start()
    began = time.process_time()
    positions = Positions(world(1, 1, 1, 0), 0, 100_000 * 100)
    assert list(itertools.islice(positions, 3)) == [[0], [1], [2]]
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 and seconds < 1


@pytest.mark.starts_process
@pytest.mark.fault("C3")
def test_the_loop_reads_by_them(monkeypatch):
    """What the loader is given is not a list of the whole run."""
    from faceid.training import loop

    given = {}
    monkeypatch.setattr(loop.torch.utils.data, "DataLoader", lambda data, **options: given.update(options))
    sections = SimpleNamespace(execution=SimpleNamespace(num_workers=0))
    of_run = world(1, 1, 1, 0)
    of_run.accelerator.device = SimpleNamespace(type="cpu")
    run = SimpleNamespace(world=of_run, start_step=5, num_steps=100_000 * 100, sections=sections, training_set=None)
    began = time.process_time()
    loop._loader(run)
    assert time.process_time() - began < 1 and next(iter(given["batch_sampler"])) == [5]
