"""What is looked at before a run: each thing that is wrong is a red line that says where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from launching import start

from faceid.training.world import preflight
from faceid.training.world.launched import Launch
from faceid.training.world.preflight import AMBER, GREEN, MEETING_TIMEOUT_S, RED, Report, check_cluster, judge_reports

GOOD = Report(0, "n1", 0.1, "", 500.0, 30.0, ["H100"] * 8, {"python": "3.11", "torch": "2.13", "faceid": "abc"}, 100.0)
OTHER = replace(GOOD, rank=1, host="n2", clock_s=100.2)


def lines(*reports, reduce_s=0.01, expect_gpus=8):
    return {line.what: line for line in judge_reports(reports, len(reports), reduce_s, expect_gpus)}


def test_nothing_wrong_is_all_green():
    said = lines(GOOD, OTHER)
    assert {line.level for line in said.values()} == {GREEN}
    assert list(said) == ["run folder", "free space", "shared memory", "GPUs", "versions", "clocks", "all-reduce"]
    assert said["all-reduce"].found == "64 MiB over 2 processes in 0.010 s: 6.71 GB/s"


@pytest.mark.parametrize(
    ("changes", "what", "level", "said"),
    [
        ({"write_error": "/r: Read-only file system"}, "run folder", RED, "n2: /r: Read-only file system"),
        ({"seen": False}, "run folder", RED, "what n2 wrote is not there on n1"),
        ({"write_s": 9.0}, "run folder", AMBER, "9.00 s at worst (n2)"),
        ({"write_s": 30.0}, "run folder", RED, "30.00 s at worst (n2)"),
        ({"free_gib": 10.0}, "free space", AMBER, "10.0 GiB"),
        ({"free_gib": 1.0}, "free space", RED, "1.0 GiB"),
        ({"shared_gib": 0.06}, "shared memory", RED, "0.06 GiB free at least (n2)"),
        ({"gpus": ["H100"] * 7}, "GPUs", RED, "n2: 7 seen of 8"),
        ({"gpus": ["A100"] * 8}, "GPUs", AMBER, "A100, H100"),
        ({"versions": {**GOOD.versions, "torch": "2.12"}}, "versions", RED, "torch: n1 has 2.13, n2 2.12"),
        ({"versions": {**GOOD.versions, "faceid": "abd"}}, "versions", RED, "faceid: n1 has abc, n2 abd"),
        ({"clock_s": 103.0}, "clocks", AMBER, "3.00 s apart at most (n2 before n1)"),
        ({"clock_s": 200.0}, "clocks", RED, "100.00 s apart"),
    ],
)
def test_one_thing_wrong_on_one_node_is_one_line_that_names_it(changes, what, level, said):
    found = lines(GOOD, replace(OTHER, **changes))
    assert found[what].level == level and said in found[what].found
    assert {line.level for line in found.values() if line.what != what} == {GREEN}


def test_a_slow_network_is_said():
    assert lines(GOOD, OTHER, reduce_s=1.0)["all-reduce"].level == AMBER
    assert lines(GOOD, OTHER, reduce_s=10.0)["all-reduce"].level == RED


def test_one_process_alone_looks_around_itself_and_leaves_nothing(tmp_path):
    found = {line.what: line for line in check_cluster(tmp_path / "run", Launch(0, 1), expect_gpus=0)}
    assert found["run folder"].level == GREEN and found["versions"].level == GREEN
    assert list((tmp_path / "run").iterdir()) == []


def test_a_look_that_hangs_ends_the_process(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(preflight, "LONGEST_S", 0.2)
    with preflight._Timer(0.2, 3, ended.append) as timer:
        timer.at("writing into /r")
        time.sleep(0.6)
    assert ended == [2] and "process 3: writing into /r takes over" in capfd.readouterr().out


def run_tasks(count, *flags, ends_all=False):
    """The tool as srun starts it on one node. ends_all: the first to end ends all, as with --kill-on-bad-exit."""
    tasks = []
    for rank in range(count):
        place = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(count)}
        place |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        command = [sys.executable, "tools/check_cluster.py", *flags]
        environment = {**os.environ, **place}
        pipe = subprocess.PIPE
        tasks.append(start(command, env=environment, stdout=pipe, stderr=pipe, text=True))
    said = []
    for task in tasks:
        said.append(task.communicate(timeout=120))
        if ends_all:
            tasks[-1].kill()
    return [task.returncode for task in tasks], said


TRAIN_FLAGS = (
    "--model_path toy --face_images_dir p --latents l --accelerate_config launch/accelerate/cpu_zero2.yaml".split()
)


@pytest.mark.starts_process
def test_two_tasks_meet_and_say_it_once(tmp_path):
    codes, said = run_tasks(2, *TRAIN_FLAGS, "--output_dir", str(tmp_path / "run"))
    assert codes == [0, 0], said
    lines = said[0][0].splitlines()
    assert len(lines) == 8 and all(line.startswith("preflight: ") for line in lines) and said[1][0] == ""
    assert "time" in lines[-1]
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.starts_process
def test_a_folder_that_cannot_be_written_is_a_red_line(tmp_path):
    (tmp_path / "file").touch()
    began = time.monotonic()
    codes, said = run_tasks(2, *TRAIN_FLAGS, "--output_dir", str(tmp_path / "file" / "run"), ends_all=True)
    assert codes[0] == 2 and time.monotonic() - began < MEETING_TIMEOUT_S, said
    assert f"preflight: red    run folder     {socket.gethostname()}: {tmp_path}/file/run: " in said[0][0]
    assert said[0][1] == "" and "Traceback" not in said[1][1]


@pytest.mark.starts_process
def test_a_red_line_ends_every_task(tmp_path):
    codes, said = run_tasks(2, *TRAIN_FLAGS, "--output_dir", str(tmp_path / "run"), "--expect_gpus", "4")
    assert codes == [2, 2], said
    assert "preflight: red    GPUs" in said[0][0]
