"""What a cluster does to a training run: preemption, lost nodes, time limits, signals. It learns the same."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cluster import wait_until
from lab import IN_PROOF_ONLY
from launching import losses
from long_run import PREEMPTIONS, STEPS_BETWEEN, differences, starts, stops, submit, tasks_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
# In the proof groups go side by side: what works the cores, and what mostly waits for Slurm.
WAITS, WORKS = pytest.mark.xdist_group("waits"), pytest.mark.xdist_group("works")


@pytest.mark.promise(
    "an attempt that Slurm takes for dead goes on beside the one that replaces it",
    bar="it writes nothing more",
    proof="slurm",
)
@IN_PROOF_ONLY
@WAITS
def test_a_cut_off_attempt_cannot_write_once_its_job_runs_elsewhere(lab, undisturbed, record_property):
    """One node, both tasks: Slurm loses sight of it, and it trains on beside the attempt that replaces it."""
    run = lab.folder / "run"
    # Not tied to a node: it would wait for that one to come back.
    job = submit(lab, run, "--nodes=1", changes="TASKS_PER_NODE=2\n")
    lab.wait_for_steps(job, run, 6)
    old = tasks_of(lab, job)
    for pid in old.values():  # slow enough to be there still when the other attempt begins
        os.kill(pid, signal.SIGSTOP)
    lab.cluster.unplug(lab.cluster.show(job)["NodeList"])
    wait_until(lambda: lab.cluster.show(job).get("Restarts") == "1", 60, lambda: str(lab.cluster.show(job)))
    wait_until(lambda: len(starts(lab, run)) > 1, 90, lambda: lab.log(job)[-4000:])
    at = len(losses(run))
    for pid in old.values():
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{old[0]}").exists() or not alive(old[0]), 60, lambda: lab.log(job)[-4000:])
    said = (run / "logs" / "rank0000.log").read_text()
    lab.wait(job)
    record_property("measured", f"let go on while the other was at step {at}, it left without writing")
    assert "taken over by Slurm job" in lab.log(job) + said
    assert what_was_logged(run) == what_was_logged(undisturbed), "two attempts wrote"
    assert losses(run) == losses(undisturbed)
    assert differences(run, undisturbed) == []


@pytest.mark.promise(
    "preempted by another job again and again, requeued each time",
    bar="0 steps lost, adapter the same bits",
    proof="slurm",
)
@WORKS
def test_preempted_again_and_again_it_ends_with_the_same_adapter(lab, undisturbed, record_property):
    run = lab.folder / "run"
    job = submit(lab, run, "--partition=low", more=("--tensorboard", "true"))
    leaving_s = []
    for number in range(PREEMPTIONS):
        lab.wait_for_steps(job, run, len(losses(run)) + STEPS_BETWEEN)
        began = time.monotonic()
        other = lab.cluster.take_nodes("--nodes=3")
        wait_until(lambda n=number: len(stops(lab, run)) > n, 60, lambda: lab.log(job)[-4000:])
        lab.wait(other, "RUNNING", "COMPLETED")
        leaving_s.append(time.monotonic() - began)
    lab.wait(job)
    stopped = [line["step"] for line in stops(lab, run)]
    lost = [a - b for a, b in zip(stopped, starts(lab, run)[1:], strict=True)]
    asked = [line["asked_for_s"] for line in stops(lab, run)]
    # The script writes that line when all tasks have ended.
    ended = [line["time_s"] for line in lab.attempts(run) if line["event"] == "ended"]
    exits_s = [at - line["time_s"] + line["asked_for_s"] for at, line in zip(ended, stops(lab, run), strict=True)]
    record_property(
        "measured",
        f"{len(stopped)} preemptions: {sum(lost)} steps lost; from signal to checkpoint {max(asked):.1f} s at worst, "
        f"until all have ended {max(exits_s):.1f} s, until the other job runs {max(leaving_s):.1f} s; "
        f"{len(differences(run, undisturbed))} tensors differ",
    )
    assert len(stopped) == PREEMPTIONS and set(lost) == {0}
    assert int(lab.cluster.show(job)["Restarts"]) == PREEMPTIONS
    assert differences(run, undisturbed) == []
    assert losses(run) == losses(undisturbed)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload().Scalars("train/loss")
    assert [event.step for event in events] == list(range(1, len(losses(run)) + 1))


@pytest.mark.promise(
    "a signal to one task alone; and once requeued, slurmctld killed and restarted in mid-run",
    bar="all stop at the same step, the restart makes no other attempt, adapter the same bits",
    proof="slurm",
)
@IN_PROOF_ONLY
@WORKS
def test_a_signal_to_one_task_stops_all_and_a_controller_that_restarts_none(lab, undisturbed, record_property):
    run = lab.folder / "run"
    job = submit(lab, run)
    lab.wait_for_steps(job, run, STEPS_BETWEEN)
    os.kill(tasks_of(lab, job)[1], signal.SIGUSR2)
    wait_until(lambda: stops(lab, run), 60, lambda: lab.log(job)[-4000:])
    (stopped,) = stops(lab, run)
    lab.wait_for_steps(job, run, stopped["step"] + 2)
    lab.cluster.restart_controller(away_s=3)
    lab.wait(job)
    assert stopped["by"] == "a signal to another process"
    assert starts(lab, run) == [0, stopped["step"]]
    assert lab.log(job).count("training ended with exit code 75") == 1
    said = f"both tasks stopped after step {stopped['step']}, exit code 75; 2 attempts in all, 0 tensors differ"
    record_property("measured", said)
    assert differences(run, undisturbed) == []


@pytest.mark.promise(
    "a node loses power in training",
    bar="requeued, steps since the last checkpoint, adapter the same bits",
    proof="slurm",
)
@IN_PROOF_ONLY
@WORKS
def test_a_node_that_loses_power_costs_the_steps_since_the_last_checkpoint(lab, undisturbed, record_property):
    run = lab.folder / "run"
    job = submit(lab, run)
    lab.wait_for_steps(job, run, 6)
    at, began = len(losses(run)), time.monotonic()
    lab.cluster.cut_power("n2")
    wait_until(lambda: len(starts(lab, run)) > 1, 90, lambda: lab.log(job)[-4000:])
    back_s = time.monotonic() - began
    lab.wait(job)
    lost = at - starts(lab, run)[1]
    record_property("measured", f"{lost} steps done again (a checkpoint each 4), training again after {back_s:.0f} s")
    assert 0 <= lost <= 6
    assert differences(run, undisturbed) == []
    assert losses(run) == losses(undisturbed)


def what_was_logged(run: Path) -> list[tuple[int, list[str]]]:
    """Step and names of each line of metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], sorted(line)) for line in lines]


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.promise("the time limit", bar="saved and requeued before it, 0 steps lost", proof="slurm")
@IN_PROOF_ONLY
@WAITS
def test_before_the_time_limit_it_is_saved_and_requeued(lab, record_property):
    run = lab.folder / "run"
    # Slurm looks every 30 s: told between 30 and 60 s before the end of the second minute.
    more = ("--num_epochs", "100000", "--checkpoint_every_steps", "0", "--save_every", "100000")
    job = submit(lab, run, "--time=2", more=more)
    lab.wait_for_steps(job, run, STEPS_BETWEEN)
    # Until shortly before the earliest moment they stand still: two cores are few.
    tasks = tasks_of(lab, job).values()
    for pid in tasks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(20)
    for pid in tasks:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: stops(lab, run), 150, lambda: lab.log(job)[-4000:])
    (stopped,) = stops(lab, run)
    wait_until(lambda: len(starts(lab, run)) > 1, 60, lambda: lab.log(job)[-4000:])
    assert starts(lab, run)[1] == stopped["step"] > 0
    record_property("measured", f"stopped by {stopped['by']} at step {stopped['step']}, requeued, 0 steps lost")


@pytest.mark.promise(
    "the file STOP",
    bar="saved, not requeued, goes on when submitted again, adapter the same bits",
    proof="slurm",
    full=True,
)
@pytest.mark.proof_only("takes its time", proof="slurm", full=True)
@WORKS
def test_a_stop_file_ends_the_job_until_it_is_submitted_again(lab, undisturbed, record_property):
    run = lab.folder / "run"
    job = submit(lab, run)
    lab.wait_for_steps(job, run, STEPS_BETWEEN)
    (run / "STOP").touch()
    lab.wait(job, "FAILED")
    (stopped,) = stops(lab, run)
    assert lab.cluster.show(job)["ExitCode"] == "75:0" and lab.cluster.show(job)["Restarts"] == "0"
    lab.wait(submit(lab, run))
    assert starts(lab, run) == [0, stopped["step"]] and differences(run, undisturbed) == []
    record_property("measured", f"stopped at step {stopped['step']}, not requeued; submitted again: 0 tensors differ")


@pytest.mark.promise("a crash loop", bar="ends, and says why", proof="slurm")
@IN_PROOF_ONLY
@WAITS
def test_a_crash_loop_ends_and_says_why(lab, record_property):
    """Every attempt dies before its first checkpoint."""
    run = lab.folder / "run"
    changes = "TASKS_PER_NODE=1\nMOST_ATTEMPTS=2\nTRAIN_NODES=1\nexport PYTHONPATH=$FACEID_ENV.d\n"
    site = Path(f"{lab.folder / 'run.sh'}.d")
    site.mkdir()
    # As a broken driver would.
    (site / "sitecustomize.py").write_text("import os, sys\nif 'train.py' in sys.orig_argv:\n    os._exit(9)\n")
    job = submit(lab, run, changes=changes)
    lab.wait(job, "FAILED")
    assert int(lab.cluster.show(job)["Restarts"]) == 1
    assert "2 attempts in a row ended (now with exit code 9) and left no checkpoint beyond step 0" in lab.log(job)
    record_property("measured", "ended after 2 of 2 attempts, with the reason")
