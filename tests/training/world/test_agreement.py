"""All ranks learn the same of a step, one step later; steps that taught nothing are counted, and too many end a run."""

import logging
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launching import QUIET, SMALL_ADAPTER, losses, run_command, train

from faceid.data.stream.stream_length import StreamLength
from faceid.errors import DataError
from faceid.training import saving
from faceid.training.checkpoints import checkpoint
from faceid.training.saving import CheckpointWriter
from faceid.training.skips import MOST_IN_A_ROW, DivergedError, Skips
from faceid.training.validation.best import Best
from faceid.training.world.agreement import Agreement
from faceid.training.world.attempts import Attempt
from faceid.training.world.fence import Fence, FencedError
from faceid.training.world.watchdog import Watchdog

STATE = {"updates": 5, "origin": {}, "validation": Best().as_saved(), "validated": True}
STATE |= {"samples_per_epoch": 8, "stage2_samples_per_epoch": 8}


@pytest.fixture(autouse=True)
def said(caplog):
    logging.getLogger("faceid").propagate = True
    return caplog


def test_sums_are_read_one_step_later_and_once():
    alone = SimpleNamespace(device=torch.device("cpu"), reduce=lambda tensor, reduction: 2 * tensor)
    agreement = Agreement(alone)
    assert agreement.exchange([1.0, torch.tensor(3.0)]) is None
    assert agreement.exchange([5.0, 0.0]) == [2.0, 6.0]
    assert agreement.read() == [10.0, 0.0] and agreement.read() is None
    assert agreement.exchange([0.0, 0.0]) is None


def test_ten_skipped_steps_in_a_row_end_the_run_and_nine_do_not(tmp_path):
    (tmp_path / "step_00000003").mkdir()
    skips = Skips()
    for number in range(1, 40):
        skips.add(number, was_skipped=number % MOST_IN_A_ROW != 0)
        skips.check(tmp_path)
    assert skips.metrics() == {"optimizer/skipped_steps": 36.0}
    skips.add(40, was_skipped=True)
    with pytest.raises(DivergedError, match=r"steps 31 to 40: .* 10 in a row; .*step_00000003; lower learning_rate"):
        skips.check(tmp_path)


def test_a_run_in_which_every_step_was_skipped_has_nothing_to_hand_on():
    skips = Skips()
    for number in (1, 2, 3):
        skips.add(number, was_skipped=True)
    with pytest.raises(DivergedError, match=r"steps 1 to 3: .* in all of them; nothing was learnt"):
        skips.refuse_nothing_learnt(3)
    # A run that went on knows of its own steps alone.
    skips.refuse_nothing_learnt(5)
    skips.add(4, was_skipped=False)
    skips.refuse_nothing_learnt(4)


class TestCheckpointWriter:
    @pytest.fixture
    def writer(self, tmp_path):
        sharded = SimpleNamespace(
            gather=lambda: {name: {"a": torch.ones(2)} for name in ("trainables", "exp_avg", "exp_avg_sq")},
            updates=lambda: 5,
        )
        sections = SimpleNamespace(saving=SimpleNamespace(keep_checkpoints=2))
        world = SimpleNamespace(is_main=True)
        run = SimpleNamespace(folder=tmp_path, sharded=sharded, sections=sections, world=world, origin={}, start_step=0)
        run.fence, run.training_set = None, SimpleNamespace(length=StreamLength(8, 8))
        return CheckpointWriter(run, Best())

    def test_an_attempt_that_is_superseded_publishes_and_removes_nothing(self, writer):
        writer.run.fence = Fence(writer.run.folder, Attempt("7", 0))
        writer.save(2, is_needed=False)
        with Fence(writer.run.folder, Attempt("7", 1)), pytest.raises(FencedError, match=r"by Slurm job 7\.1"):
            writer.save(4, is_needed=False)
        assert [path.name for path in writer.folder.iterdir()] == ["step_00000002"]

    def test_a_save_that_fails_is_said_and_training_goes_on(self, writer, monkeypatch, said):
        writer.save(2, is_needed=False)
        monkeypatch.setattr(checkpoint, "check_space", full)
        writer.save(4, is_needed=False)
        assert "the checkpoint of step 4 could not be saved (output_dir=x: full); training goes on" in said.text
        assert writer.last_saved == 2
        monkeypatch.undo()
        writer.save(6, is_needed=False)
        assert checkpoint.verify(writer.folder / "step_00000006") == {**STATE, "step": 6}

    def test_the_last_one_and_the_third_failure_end_the_run(self, writer, monkeypatch):
        writer.save(2, is_needed=False)
        monkeypatch.setattr(checkpoint, "check_space", full)
        with pytest.raises(checkpoint.CheckpointError, match=r"step 3 .* goes on from .*step_00000002"):
            writer.save(3, is_needed=True)
        writer.save(4, is_needed=False)
        with pytest.raises(checkpoint.CheckpointError, match="step 5"):
            writer.save(5, is_needed=False)
        assert saving.MOST_FAILED_SAVES == 3

    def test_nothing_is_saved_twice(self, writer):
        writer.save(2, is_needed=True)
        before = (writer.folder / "step_00000002" / "MANIFEST.json").stat().st_mtime_ns
        writer.save(2, is_needed=True)
        assert (writer.folder / "step_00000002" / "MANIFEST.json").stat().st_mtime_ns == before


def full(*arguments):
    raise DataError("output_dir=x: full")


def test_a_process_that_stands_still_writes_where(tmp_path, said):
    log_file = tmp_path / "rank0003.log"
    watchdog = Watchdog(0.4, log_file)
    for number in range(8):
        watchdog.at(f"step {number}: forward")
        time.sleep(0.1)
    assert not log_file.exists() and "no progress" not in said.text
    watchdog.at("step 9: waiting for data")
    stands_still_here(1.2)
    watchdog.close()
    assert "no progress for" in said.text and "step 9: waiting for data" in said.text
    assert "stands_still_here" in log_file.read_text() and "most recent call first" in log_file.read_text()


@pytest.mark.fault("W6")
def test_what_may_take_hours_is_said_without_alarm_and_where_it_stands_is_kept(tmp_path, said):
    log_file = tmp_path / "rank0000.log"
    with Watchdog(0.2, log_file) as watchdog:
        said.set_level(logging.INFO, logger="faceid")
        watchdog.at("preparing the inputs", may_take_long=True)
        stands_still_here(0.6)
    assert "preparing the inputs for" in said.text and "no progress" not in said.text
    assert all(record.levelname == "INFO" for record in said.records)
    assert "stands_still_here" in log_file.read_text()


def stands_still_here(seconds):
    time.sleep(seconds)


def test_a_watchdog_does_not_outlive_a_run_that_failed(tmp_path):
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), Watchdog(60, tmp_path / "log"):
        (thread,) = set(threading.enumerate()) - before
        raise ZeroDivisionError
    thread.join(5)
    assert not thread.is_alive()


def test_a_watchdog_of_zero_seconds_never_watches(tmp_path):
    before = set(threading.enumerate())  # other tests of this process may have left theirs
    Watchdog(0, tmp_path / "log")
    assert "watchdog" not in {thread.name for thread in set(threading.enumerate()) - before}


@pytest.mark.starts_process
@pytest.mark.promise(
    ("a step that is not finite teaches nothing, in ZeRO-2, too; an adapter to begin with is taken exactly in bf16"),
    bar="all checks pass",
    proof="training",
    full=True,
)
@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    ["single", pytest.param("cpu_zero2", marks=pytest.mark.proof_only("half a minute", proof="training", full=True))],
)
def test_a_step_that_is_not_finite_teaches_nothing_and_the_run_goes_on(toy_inputs, tmp_path, world):
    """A learning rate of 1000 makes everything after the first update overflow: ten steps, then the end."""
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 30".split()]
    flags += ["--learning_rate", "1000", "--checkpoint_every_steps", "1", "--output_dir", str(tmp_path / "run")]
    failed = train(*flags, world=world, expect=2 if world == "single" else 1)
    assert "10 in a row; stopped, the last checkpoint is" in failed.stderr
    found = losses(tmp_path / "run")
    assert len(found) < 20 and found[0] == found[0] < 10
    newest = checkpoint.find_newest(tmp_path / "run" / "checkpoints")
    tensors = checkpoint.read_tensors(newest)
    assert all(torch.isfinite(tensor).all() for group in tensors.values() for tensor in group.values())


@pytest.mark.starts_process
@pytest.mark.slow
def test_a_full_disk_does_not_end_training(toy_inputs, tmp_path):
    """A real file system under checkpoints/, large enough when the run starts; then somebody else fills it."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:
        flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 6".split()]
        flags += ["--checkpoint_every_steps", "4", "--output_dir", str(tmp_path / "run")]
        filling = threading.Thread(target=fill_after, args=(folder, "step_00000004"))
        filling.start()
        done = run_command([sys.executable, "train.py", *flags], expect=2)
        filling.join()
        assert done.stderr.count("training goes on") >= 1 and "make room and run the same command" in done.stderr
        (folder / "of_somebody_else").unlink()
        run_command([sys.executable, "train.py", *flags])
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert (tmp_path / "run" / "face_lora_final.safetensors").is_file()


def fill_after(folder: Path, name: str) -> None:
    """Leave the file system of `folder` without a free byte as soon as `name` is in it; give up after two minutes."""
    for _ in range(12_000):
        if (folder / name).is_dir():
            break
        time.sleep(0.01)
    with suppress(OSError), (folder / "of_somebody_else").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
