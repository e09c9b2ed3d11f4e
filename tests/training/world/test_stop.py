"""A stop reaches the run through whatever a launcher does with signals."""

import os
import signal
import subprocess
import sys

import pytest
from launching import QUIET, SMALL_ADAPTER, losses, start, wait_for_steps


@pytest.mark.starts_process
@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_is_survived_until_the_checkpoint(toy_inputs, tmp_path):
    """As torchrun and Slurm send it: the reader processes get it as well."""
    folder = tmp_path / "run"
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 200".split()]
    command = [sys.executable, "train.py", *flags, "--num_workers", "2", "--output_dir", str(folder)]
    process = start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_steps(process, folder, 2)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert [path.name for path in (folder / "checkpoints").glob("step_*")] == [f"step_{len(losses(folder)):08d}"]
