"""Rank, world and meeting place: from a launcher, from Slurm's variables and an accelerate YAML, or alone."""

import os
import subprocess
import sys

import psutil
import pytest
import yaml
from launching import BIN, QUIET, REPOSITORY, SMALL_ADAPTER, losses, run_command, start, train

from faceid.errors import ConfigError
from faceid.training.world import launched
from faceid.training.world.attempts import Attempt
from faceid.training.world.launched import Launch, leave_meeting, meet, read_accelerate_config, read_launch

CONFIGS = REPOSITORY / "launch" / "accelerate"


def slurm(rank, tasks, **more):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        **more,
    }


def test_a_launcher_is_believed_before_slurm(tmp_path, caplog):
    environment = slurm(0, 4, RANK="3", WORLD_SIZE="8")
    assert read_launch(None, tmp_path, environment) == Launch(3, 8, attempt=Attempt("7"))
    assert "MASTER_ADDR" not in environment


def test_a_launcher_that_made_a_world_on_each_node_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"WORLD_SIZE=1: .* each of 2 nodes; give .*--deepspeed_multinode_launcher standard"
    ):
        read_launch(None, tmp_path, slurm(0, 2, RANK="0", WORLD_SIZE="1", SLURM_STEP_NUM_NODES="2"))


def test_in_a_batch_script_or_alone_a_process_is_one_of_one(tmp_path):
    # The batch script itself sees the job's task count, but is no task of a step.
    for environment in ({}, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, slurm(0, 1)):
        launch = read_launch(None, tmp_path, environment)
        assert (launch.rank, launch.processes, launch.meeting) == (0, 1, None) and "RANK" not in environment


def test_tasks_of_a_step_meet_through_the_run_folder(tmp_path):
    environments = [slurm(rank, 3, SLURM_RESTART_COUNT="2") for rank in range(3)]
    launches = [read_launch(None, tmp_path, environment) for environment in environments]
    assert [(launch.rank, launch.processes) for launch in launches] == [(0, 3), (1, 3), (2, 3)]
    assert {launch.meeting for launch in launches} == {tmp_path / ".meeting_7_0_2.json"}
    stores = [meet(launch, environment) for launch, environment in zip(launches, environments, strict=True)]
    stores[2].set("said by", "the last")
    assert stores[0].get("said by") == b"the last"
    addresses = {(e["MASTER_ADDR"], e["MASTER_PORT"]) for e in environments}
    assert len(addresses) == 1 and [e["LOCAL_RANK"] for e in environments] == ["0", "1", "2"]
    for launch in reversed(launches):
        leave_meeting(launch)
    assert not list(tmp_path.iterdir())


def test_on_one_node_nobody_outside_it_can_reach_the_meeting(tmp_path):
    environment = slurm(0, 2)
    store = meet(read_launch(None, tmp_path, environment), environment)
    assert environment["MASTER_ADDR"] == "127.0.0.1"
    listening = psutil.Process().net_connections(kind="tcp")
    (address,) = {c.laddr.ip for c in listening if c.status == "LISTEN" and c.laddr.port == store.port}
    assert address == "127.0.0.1"


def test_a_rank_zero_that_cannot_be_reached_is_one_line(tmp_path):
    (tmp_path / ".meeting_7_0_0.json").write_text('{"host": "127.0.0.1", "port": 1}')
    with pytest.raises(ConfigError, match=r"listens at 127\.0\.0\.1:1 and cannot be reached .*NETWORK_INTERFACE"):
        meet(Launch(1, 2, tmp_path / ".meeting_7_0_0.json"), {}, wait_s=1.0)


def test_a_rank_zero_that_never_comes_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(launched, "RENDEZVOUS_TIMEOUT_S", 0.3)
    with pytest.raises(ConfigError, match=r"rank 0 did not write it within 0 s"):
        meet(Launch(1, 2, tmp_path / ".meeting_7_0_0.json"), {})


@pytest.mark.starts_process
@pytest.mark.parametrize("name", ["zero2", "zero3", "cpu_zero2", "cpu_zero3", "ddp", "cpu"])
def test_a_yaml_says_the_same_to_us_as_to_accelerate(name):
    """What accelerate's own launcher sets for it, variable by variable."""
    script = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('ACCELERATE_')}))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    command = [
        str(BIN / "accelerate"),
        "launch",
        "--config_file",
        str(CONFIGS / f"{name}.yaml"),
        "--num_processes",
        "1",
    ]
    command += ["--main_process_port", "0", "--no_python", sys.executable, "-c", script]
    said = run_command(command, env=clean)
    theirs = yaml.safe_load(next(line for line in said.stdout.splitlines() if line.startswith("{")))
    ours = read_accelerate_config(CONFIGS / f"{name}.yaml")
    assert {key: theirs.get(key) for key in ours} == ours
    # What we do not set is what it sets for everyone, to what it would be without.
    rest = {key: value for key, value in theirs.items() if key not in ours and "DYNAMO" not in key}
    assert all(value.lower() in ("false", "no", "") for value in rest.values()), rest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "expected `key: value` lines"),
        ("distributed_type: FSDP", "distributed_type FSDP is not supported"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stages: 2}", "deepspeed_config.zero_stages is not read"),
        ("a: [", "not YAML: line 1"),
    ],
)
def test_a_yaml_that_cannot_be_used_is_one_line(tmp_path, content, said):
    (tmp_path / "world.yaml").write_text(content)
    with pytest.raises(ConfigError, match="accelerate_config=") as error:
        read_accelerate_config(tmp_path / "world.yaml")
    assert said in " ".join(str(error.value).split())


@pytest.mark.starts_process
@pytest.mark.slow
def test_two_tasks_of_srun_train_as_two_processes_of_accelerate_launch(toy_inputs, tmp_path):
    """As srun starts them: no launcher, Slurm's variables, ZeRO-2 from the YAML."""
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 4 --num_epochs 2".split()]
    train(*flags, "--output_dir", str(tmp_path / "launched"), world="cpu_zero2")
    flags += ["--accelerate_config", "launch/accelerate/cpu_zero2.yaml", "--output_dir", str(tmp_path / "run")]
    tasks = [
        start(
            [sys.executable, "train.py", *flags],
            env={**os.environ, **slurm(rank, 2), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], errors
    assert "world: zero2, 2 processes" in errors[0]
    assert losses(tmp_path / "run") == losses(tmp_path / "launched")
    assert not list((tmp_path / "run").glob(".meeting*"))


@pytest.mark.starts_process
@pytest.mark.slow
def test_one_process_alone_can_be_a_deepspeed_world(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 4 --num_epochs 1".split()]
    flags += ["--accelerate_config", "launch/accelerate/cpu_zero2.yaml", "--output_dir", str(tmp_path / "run")]
    done = run_command([sys.executable, "train.py", *flags])
    assert "world: zero2, 1 processes" in done.stderr
