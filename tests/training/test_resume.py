"""A run that was stopped or killed goes on exactly where it was: same losses, same adapter, bit for bit."""

import signal
import subprocess
import sys

import pytest
import torch
from launching import QUIET, SMALL_ADAPTER, losses, start, train, wait_for_steps
from safetensors.torch import load_file

from faceid.toy.shipped import resolve_encoder_path

STOPPED_AND_RESUMED = pytest.mark.promise(
    "stopped and resumed under ZeRO-2 and ZeRO-3, and in another world",
    bar="bit-identical (other world: 1e-5)",
    proof="main",
    full=True,
)

# 4 clips and 4 photos, 2 at a time: 12 steps; a checkpoint after steps 3, 6, 9, 12; stage 2 from step 8.
RECIPE = (
    "--batch_size 2 --num_epochs 3 --freeze_mapper_after_epochs 2 --learning_rate 1e-2 --warmup_steps 2 "
    "--save_every 100 --checkpoint_every_steps 3 --mapper_dropout 0.1 --reference_share 0.5 --target_tokens true "
    "--body_share 0.5 --target_words 2 --identity_loss_weight 0.1 --identity_loss_max_sigma 0.8 "
    "--identity_loss_encoder "
    f"clip:{resolve_encoder_path('toy')}"
).split()
NUM_STEPS = 12

# Of the same kind, on a cluster, is tests/slurm: preempted, and the same bits.
IN_PROOF_ONLY = pytest.mark.proof_only("a minute or two", proof="main")


def flags(toy_inputs, folder):
    return [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *RECIPE, "--output_dir", str(folder)]


@pytest.fixture(scope="module")
def undisturbed(toy_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(*flags(toy_inputs, folder / "run"))
    return folder / "run"


def assert_same_run(folder, reference, exact=True):
    """Every step once, and the same adapter at the end."""
    curve, expected = losses(folder), losses(reference)
    assert len(curve) == NUM_STEPS
    adapter, wanted = (load_file(run / "face_lora_final.safetensors") for run in (folder, reference))
    assert set(adapter) == set(wanted)
    if exact:
        assert curve == expected
        assert all(torch.equal(adapter[name], wanted[name]) for name in wanted)
    else:
        assert curve == pytest.approx(expected, rel=1e-5)
        for name in wanted:
            torch.testing.assert_close(adapter[name], wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.starts_process
@pytest.mark.promise("killed and run again: the same losses and adapter", bar="bit-identical", proof="main")
@pytest.mark.slow
def test_killed_with_sigkill_and_run_again(toy_inputs, undisturbed, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "train.py", *flags(toy_inputs, folder)]
    process = start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Step 7 is after the checkpoint of step 6: step 7 must be done again.
    wait_for_steps(process, folder, 7)
    process.kill()
    process.wait()
    assert not (folder / "face_lora_final.safetensors").exists()
    again = train(*flags(toy_inputs, folder))
    assert "resuming from" in again.stderr
    assert_same_run(folder, undisturbed)


@pytest.mark.starts_process
@STOPPED_AND_RESUMED
@pytest.mark.slow
def test_stopped_by_sigterm_saves_and_says_so_by_exit_code_75(toy_inputs, undisturbed, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "train.py", *flags(toy_inputs, folder)]
    process = start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_steps(process, folder, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "checkpoint saved; run the same command to go on" in errors
    train(*flags(toy_inputs, folder))
    assert_same_run(folder, undisturbed)


@pytest.mark.starts_process
@STOPPED_AND_RESUMED
@pytest.mark.slow
@IN_PROOF_ONLY
@pytest.mark.parametrize("world", ["cpu_zero2", "cpu_zero3"])
def test_stopped_by_a_file_under_deepspeed_and_resumed(toy_inputs, undisturbed, tmp_path, world):
    """Interrupted equals undisturbed within the same world, bit for bit; and both equal a single process closely."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    folder.mkdir()
    (folder / "STOP").touch()
    stopped = train(*flags(toy_inputs, folder), world=world, expect=None)
    assert stopped.returncode != 0 and "exitcode  : 75" in stopped.stderr
    assert len(losses(folder)) == 1 and not (folder / "STOP").exists()
    train(*flags(toy_inputs, folder), world=world)
    train(*flags(toy_inputs, whole), world=world)
    assert_same_run(folder, whole)
    assert_same_run(folder, undisturbed, exact=False)


@pytest.mark.starts_process
@STOPPED_AND_RESUMED
@pytest.mark.slow
def test_a_checkpoint_of_two_zero2_processes_goes_on_in_a_single_one(toy_inputs, undisturbed, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "STOP").touch()
    train(*flags(toy_inputs, folder), world="cpu_zero2", expect=None)
    train(*flags(toy_inputs, folder))
    assert_same_run(folder, undisturbed, exact=False)
