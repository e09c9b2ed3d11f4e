"""Training over nodes by the other launchers: `accelerate launch` under Slurm, and without Slurm."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import REPOSITORY, wait_until
from lab import IN_PROOF_ONLY
from launching import BIN, losses
from long_run import STEPS_BETWEEN, TWO_BY_ONE, differences, run_flags, starts, stops, submit

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("chain")]


@pytest.mark.promise(
    "LAUNCHER=accelerate: told to stop, requeued", bar="one world, 0 steps lost, adapter the same bits", proof="slurm"
)
@IN_PROOF_ONLY
def test_accelerate_launch_on_each_node_stops_and_goes_on(lab, undisturbed, record_property):
    """torchrun, underneath, would die of USR2 and turns every exit code into 1."""
    run = lab.folder / "run"
    job = submit(lab, run, changes=f"{TWO_BY_ONE}LAUNCHER=accelerate\n")
    lab.wait_for_steps(job, run, STEPS_BETWEEN)
    lab.cluster.run("scancel", "--signal=USR2", job)
    wait_until(lambda: stops(lab, run), 60, lambda: lab.log(job)[-6000:])
    lab.wait(job)
    (stopped,) = stops(lab, run)
    # One world of two, not two worlds of one: each would have had a main process of its own.
    assert "world: zero2, 2 processes" in lab.log(job)
    assert starts(lab, run) == [0, stopped["step"]]
    assert differences(run, undisturbed) == [] and losses(run) == losses(undisturbed)
    record_property("measured", f"stopped by {stopped['by']} at step {stopped['step']}, requeued, 0 tensors differ")


@pytest.mark.promise(
    "launch/two_nodes.sh on two machines, without Slurm",
    bar="one world, adapter the same bits as by Slurm",
    proof="slurm",
    full=True,
)
@pytest.mark.proof_only("another minute", proof="slurm", full=True)
def test_two_machines_without_slurm(lab, undisturbed, record_property):
    """launch/two_nodes.sh, typed on two machines that have nothing in common but files and a network."""
    run = lab.folder / "run"
    words = [
        "env",
        f"PATH={BIN}:{os.environ['PATH']}",
        f"HEAD={lab.cluster.address('n1')}",
        "WORLD=cpu_zero2",
        "GPUS=1",
    ]
    script = [str(REPOSITORY / "launch" / "two_nodes.sh"), *run_flags(lab, run)]

    def typed_on(rank: int) -> str:
        done = lab.cluster.inside(f"n{rank + 1}", *words, f"RANK_OF_MACHINE={rank}", *script)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done.stdout + done.stderr

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(typed_on, (0, 1)))
    assert "world: zero2, 2 processes" in said[0]
    assert differences(run, undisturbed) == [] and losses(run) == losses(undisturbed)
    record_property("measured", f"{len(losses(run))} steps on two machines, 0 tensors differ from Slurm's run")
