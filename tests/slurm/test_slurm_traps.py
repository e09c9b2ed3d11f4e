"""What batch scripts do wrong on a real cluster, each tried on slurm/step.sh with tasks of a second."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import pytest
from cluster import REPOSITORY, wait_until
from lab import IN_PROOF_ONLY, Lab

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.xdist_group("waits"),
    pytest.mark.promise("traps of batch scripts, each tried", bar="all checks pass", proof="slurm"),
]

# As the shipped jobs begin and end.
BATCH = """#!/bin/bash
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
source "$FACEID_HOME/slurm/step.sh" || exit 2
{body}
"""
# Tells what it heard, saves for a second, and leaves as train.py does.
SAVES = "trap 'echo heard USR2; sleep 1; exit 75' USR2; echo up; while :; do sleep 0.2; done"


def submit(lab: Lab, body: str, *options: str) -> str:
    path = lab.folder / "job.sbatch"
    path.write_text(BATCH.format(body=body))
    environment = {"FACEID_ENV": str(lab.settings()), "FACEID_HOME": str(REPOSITORY)}
    exported = [] if any(word.startswith("--export") for word in options) else ["--export=ALL"]
    words = ["sbatch", "--parsable", f"--chdir={lab.folder}", *exported, *options, str(path)]
    return lab.cluster.run(*words, **environment).stdout.strip()


def wait_for(lab: Lab, job: str, said: str, times: int = 1, timeout_s: float = 30) -> None:
    wait_until(lambda: lab.log(job).count(said) >= times, timeout_s, lambda: f"{said!r} x {times}: {lab.log(job)}")


def task(script: str) -> str:
    return f"run_step bash -c {shlex.quote(script)}"


def exit_code(lab: Lab, job: str) -> str:
    return lab.cluster.show(job)["ExitCode"]


def test_a_task_s_exit_code_is_the_job_s(lab):
    job = submit(lab, f"{task('exit 7')}\nfinish")
    lab.wait(job, "FAILED")
    assert exit_code(lab, job) == "7:0"


def test_tasks_that_leave_with_75_one_after_the_other_end_with_75(lab):
    """With --kill-on-bad-exit the first one to leave would have the others killed, and the step would say 143."""
    job = submit(lab, f"{task('sleep $((SLURM_PROCID * 2)); echo saved; exit 75')}\nfinish", "--ntasks=2")
    lab.wait(job, "FAILED")
    assert exit_code(lab, job) == "75:0" and lab.log(job).count("saved") == 2


def test_a_signal_to_the_script_alone_is_handed_on_and_waited_for(lab):
    """As --signal=B:USR2 sends it, and twice: each time `wait` returns with the tasks alive."""
    job = submit(lab, f'{task(SAVES)}\nsay "the step ended with $rc"\nfinish', "--ntasks=2")
    wait_for(lab, job, "up", 2)
    for _ in range(2):
        lab.cluster.run("scancel", "--batch", "--signal=USR2", job)
        time.sleep(0.4)
    lab.wait(job, "FAILED")
    assert lab.log(job).count("heard USR2") >= 2 and "the step ended with 75" in lab.log(job)


def test_a_signal_to_the_tasks_leaves_the_script_alone(lab):
    """As --signal=USR2 sends it."""
    job = submit(lab, f'{task(SAVES)}\nsay "the step ended with $rc"\nfinish', "--ntasks=2")
    wait_for(lab, job, "up", 2)
    lab.cluster.run("scancel", "--signal=USR2", job)
    lab.wait(job, "FAILED")
    assert lab.log(job).count("heard USR2") == 2 and "the step ended with 75" in lab.log(job)


def test_a_job_submitted_without_an_environment_finds_its_commands(lab):
    job = submit(lab, f"{task('command -v sleep; command -v python')}\nfinish", f"--export=NONE,{exports(lab)}")
    lab.wait(job)
    assert f"{sys.prefix}/bin/python" in lab.log(job)


def exports(lab: Lab) -> str:
    return f"FACEID_ENV={lab.settings()},FACEID_HOME={REPOSITORY}"


def test_a_cancelled_job_does_not_come_back(lab):
    job = submit(lab, f"{task('echo up; sleep 60')}\nfinish")
    wait_for(lab, job, "up")
    lab.cluster.run("scancel", job)
    lab.wait(job, "CANCELLED")
    time.sleep(6)
    assert lab.cluster.state(job) == "CANCELLED" and lab.cluster.show(job)["Restarts"] == "0"


def test_work_that_a_preemption_ends_comes_back(lab):
    """In the grace time the tasks alone get TERM. A script that then ends, ends the job for good."""
    job = submit(lab, f"{task('echo up; sleep 4')}\nfinish", "--partition=low")
    wait_for(lab, job, "up")
    lab.wait(lab.cluster.take_nodes("--nodes=3"))
    lab.wait(job)
    assert lab.cluster.show(job)["Restarts"] == "1" and lab.log(job).count("up") == 2


def test_a_setting_that_cannot_be_is_one_line_and_exit_code_2(lab):
    path = lab.folder / "job.sbatch"
    path.write_text(BATCH.format(body="finish"))
    wrong = lab.settings("wrong.sh", "WORLD=zero7\n")
    words = ["sbatch", "--parsable", f"--chdir={lab.folder}", str(path)]
    job = lab.cluster.run(*words, FACEID_ENV=str(wrong), FACEID_HOME=str(REPOSITORY)).stdout.strip()
    lab.wait(job, "FAILED")
    assert exit_code(lab, job) == "2:0" and "WORLD=zero7" in lab.log(job)


def type_chain(lab: Lab, changes: str) -> subprocess.CompletedProcess:
    """slurm/pipeline.sh on an experiment of empty files."""
    experiment = lab.folder / "e"
    experiment.mkdir()
    for name in ("make_shards", "encode_latents", "train", "sample"):
        (experiment / f"{name}.yaml").write_text("{}\n")
    environment = lab.environment(lab.settings(changes=changes))
    command = [str(REPOSITORY / "slurm" / "pipeline.sh"), str(experiment), str(lab.folder / "out")]
    return subprocess.run(command, cwd=lab.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.fault("F8")
def test_of_a_chain_of_which_slurm_refuses_one_job_nothing_runs_and_nothing_waits(lab):
    # More than MaxArraySize, 1001 by default.
    done = type_chain(lab, "ENCODE_TASKS=5000\n")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "") and "pipeline: encode: sbatch refused it (sbatch: " in line
    lab.wait(line.split("cancelled again: job ")[1], "CANCELLED")
    # Not even the first had begun.
    assert not list(lab.folder.glob("*.log"))


def test_a_chain_that_slurm_takes_starts_and_ends_where_a_job_fails(lab):
    done = type_chain(lab, "")
    jobs = [line.split()[2] for line in done.stdout.splitlines()]
    assert len(jobs) == 4, done.stderr
    # The files are empty: the first job is told so by its command.
    lab.wait(jobs[0], "FAILED")
    for job in jobs[1:]:
        lab.wait(job, "CANCELLED")
    assert "required: dance_videos_dir" in lab.log(jobs[0])


@IN_PROOF_ONLY
def test_a_task_that_dies_does_not_leave_the_others_waiting(lab, record_property):
    job = submit(lab, f"{task('if [ $SLURM_PROCID = 1 ]; then exit 9; fi; sleep 600')}\nfinish", "--ntasks=2")
    began = time.monotonic()
    lab.wait(job, "FAILED", timeout_s=120)
    assert lab.cluster.show(job)["Restarts"] == "0"
    record_property("measured", f"the step ended {time.monotonic() - began:.0f} s after a task of two had died")


MEETS = """
import sys, time
from pathlib import Path
from faceid.training.world.launched import leave_meeting, meet, read_launch
import torch.distributed as dist
from datetime import timedelta
from faceid.training.world.distributed import join_group
launch = read_launch(None, Path(sys.argv[1]))
join_group(meet(launch, wait_s=60), launch.processes, timedelta(seconds=60))
seen = [None] * launch.processes
dist.all_gather_object(seen, str(launch.attempt))
dist.barrier()
leave_meeting(launch)
time.sleep(2)
print("met", seen, flush=True)
"""


def meeting(lab: Lab, name: str, *options: str) -> str:
    script = lab.folder / "meets.py"
    script.write_text(MEETS)
    run = lab.folder / name
    run.mkdir()
    body = f"export PYTHONPATH={REPOSITORY}\nrun_step python {script} {run}\nfinish"
    return submit(lab, body, *options)


@IN_PROOF_ONLY
def test_jobs_that_share_a_node_meet_apart(lab):
    jobs = [meeting(lab, f"run{number}", "--nodelist=n1", "--ntasks=2") for number in range(3)]
    for job in jobs:
        lab.wait(job)
        assert lab.log(job).count(f"met ['{job}.0', '{job}.0']") == 2


@IN_PROOF_ONLY
def test_a_node_that_takes_its_own_name_for_loopback_is_met(lab):
    """Debian's installer writes 127.0.1.1; gloo then offers that address to the other nodes."""
    with lab.cluster.name_is_loopback():
        job = meeting(lab, "run", "--nodes=2", "--ntasks-per-node=1")
        lab.wait(job)
    assert lab.log(job).count("met") == 2


@IN_PROOF_ONLY
def test_every_task_sees_the_gpus_of_its_node_and_missing_ones_stop_a_plain_sbatch(make_lab):
    # Two each, as far as Slurm knows.
    gpu_lab = make_lab(nodes=2, gpus=2)
    settings = gpu_lab.settings(changes="GPUS_PER_NODE=2\nTRAIN_NODES=2\n")
    dry = gpu_lab.type("submit.sh", "--dry_run", "train", settings=settings)
    options = [word for word in shlex.split(dry) if word.startswith(("--gpus", "--ntasks", "--nodes"))]
    job = submit(gpu_lab, f"{task('echo task $SLURM_PROCID: $CUDA_VISIBLE_DEVICES')}\nfinish", *options)
    gpu_lab.wait(job)
    assert sorted(line for line in gpu_lab.log(job).splitlines() if "task" in line) == [
        f"task {rank}: 0,1" for rank in range(4)
    ]
    # env.sh as it is, and no GPU that CUDA knows: nothing is trained, and nothing tried again.
    words = ["sbatch", "--parsable", "--time=10", f"--output={gpu_lab.folder}/plain.log", "slurm/train.sbatch"]
    run = gpu_lab.folder / "run"
    plain = gpu_lab.cluster.run(*words, *gpu_lab.flags(run)).stdout.strip()
    gpu_lab.wait(plain, "FAILED")
    said = (gpu_lab.folder / "plain.log").read_text()
    assert "preflight: red    GPUs           n1: 0 seen of 1" in said and "not started" in said
    assert exit_code(gpu_lab, plain) == "2:0" and gpu_lab.cluster.show(plain)["Restarts"] == "0"


@IN_PROOF_ONLY
def test_a_node_that_cannot_write_the_run_folder_stops_the_job(lab):
    """As a file server that one node has mounted read-only."""
    run = lab.folder / "run"
    run.mkdir()
    for words in (["--bind", str(run), str(run)], ["-o", "remount,ro,bind", str(run)]):
        done = lab.cluster.inside("n2", "mount", *words)
        assert done.returncode == 0, done.stderr
    job = lab.submit("--nodelist=n[1-2]", "--", "train", *lab.flags(run))
    try:
        lab.wait(job, "FAILED")
    finally:
        lab.cluster.inside("n2", "umount", str(run))
    assert "preflight: red    run folder     n2: " in lab.log(job) and "Traceback" not in lab.log(job)
    took = re.search(r"preflight: green  time           ([\d.]+) s", lab.log(job))
    assert exit_code(lab, job) == "2:0" and took is not None
