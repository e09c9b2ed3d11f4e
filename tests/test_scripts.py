"""What the scripts of launch/ and slurm/ refuse: one line, exit code 2, and nothing was submitted or started."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from launching import REPOSITORY

pytestmark = pytest.mark.starts_process

# All that the scripts may find; so neither Slurm, a driver nor an environment of this machine is.
SYSTEM = (
    "bash env cat dirname basename realpath mkdir sed grep awk ls id date touch sha256sum find sort rm mv g++".split()
)
# Programs that start or submit something: each writes down how it was called.
STARTED = ("sbatch", "srun", "scancel", "scontrol", "accelerate", "python", "apt-get")
FAKE = """#!/bin/bash
# Asked what it is, python has everything.
if [ "$1" = -c ]; then exit "${PYTHON_LACKS:-0}"; fi
printf '%s\\n' "${0##*/} $*" >>"$CALLS"
if [ "${0##*/}" = "$FAILS" ] || [[ -n ${REFUSED:-} && $* == *"/$REFUSED.sbatch"* ]]; then
  printf 'sbatch: error: no\\nsbatch: error: really not\\n' >&2
  exit 1
fi
if [ "${0##*/}" = sbatch ]; then echo "$(grep -c ^sbatch "$CALLS")"; fi
"""


@dataclass
class Machine:
    """A copy of the scripts in a house of their own, and a PATH of programs that write down how they are called."""

    folder: Path

    @property
    def house(self) -> Path:
        return self.folder / "the house"

    def program(self, name: str, text: str = FAKE) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: str | Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """In the folder, with nothing of this process's environment; "" takes a variable as empty."""
        command = [str(self.house / script), *words]
        env = {"PATH": str(self.folder / "bin"), "CALLS": str(self.folder / "calls"), "FAILS": "", **environment}
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=30, check=False
        )

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def settings(self, line: str) -> str:
        """The shipped env.sh with one more line; its path."""
        path = self.folder / "my env.sh"
        path.write_text((self.house / "slurm" / "env.sh").read_text() + line + "\n")
        return str(path)

    def refuses(self, said: str, script: str, *words: str, **environment: str) -> None:
        """Assert that it does, in one line that holds `said`, and that nothing was started."""
        done = self.run(script, *words, **environment)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines), done.stdout) == (2, 1, ""), (done.returncode, done.stderr, done.stdout)
        name = "slurm" if script.endswith(".sbatch") else Path(script).stem
        assert said in lines[0] and f"{name}: " in lines[0], lines[0]
        # What to do stands behind what is wrong.
        assert ";" in lines[0], lines[0]
        assert self.calls() == []


@pytest.fixture
def machine(tmp_path) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    for name in SYSTEM:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    for name in STARTED:
        made.program(name)
    made.program("ip", "#!/bin/sh\necho 10.0.0.5 dev eth7 src 10.0.0.6\n")
    for name in ("launch", "slurm", "configs"):
        shutil.copytree(REPOSITORY / name, made.house / name)
    (made.house / "train.py").touch()
    for name in ("e", "-exp", "empty"):
        (tmp_path / name).mkdir()
    for name in ("make_shards", "encode_latents", "train", "sample"):
        for folder in ("e", "-exp"):
            (tmp_path / folder / f"{name}.yaml").write_text("{}\n")
    (tmp_path / "a file").write_text("mine")
    return made


CPU = {"WORLD": "cpu_zero2", "GPUS": "2"}
HEAD = {"RANK_OF_MACHINE": "0", "HEAD": "10.0.0.5", **CPU}


@pytest.mark.fault("F6", "F8")
@pytest.mark.parametrize(
    ("script", "environment", "said"),
    [
        ("one_node.sh", {}, "no GPU found (nvidia-smi); for CPU processes: WORLD=cpu_zero2 GPUS=2 launch/one_node.sh"),
        ("one_node.sh", {"WORLD": "cpu_zero2"}, "no GPU found"),
        ("one_node.sh", {**CPU, "GPUS": "abc"}, "GPUS=abc: not a whole number from 1 to 1024"),
        ("one_node.sh", {**CPU, "GPUS": "-1"}, "GPUS=-1: not"),
        ("one_node.sh", {**CPU, "GPUS": "08"}, "GPUS=08: not"),
        ("one_node.sh", {**CPU, "GPUS": "1.5"}, "GPUS=1.5: not"),
        ("one_node.sh", {**CPU, "GPUS": "2\n3"}, "GPUS=2 3: not"),
        ("one_node.sh", {**CPU, "GPUS": "99999999999999999999"}, "GPUS=99999999999999999999: not"),
        ("one_node.sh", {**CPU, "WORLD": "zero9"}, "WORLD=zero9: no "),
        ("two_nodes.sh", {"RANK_OF_MACHINE": "0", "HEAD": "10.0.0.5"}, "no GPU found"),
        ("two_nodes.sh", {**HEAD, "RANK_OF_MACHINE": ""}, "give both"),
        ("two_nodes.sh", {**HEAD, "HEAD": ""}, "give both"),
        ("two_nodes.sh", {**HEAD, "MACHINES": "x"}, "MACHINES=x: not a whole number from 2 to 1024"),
        ("two_nodes.sh", {**HEAD, "MACHINES": "1"}, "MACHINES=1: not"),
        ("two_nodes.sh", {**HEAD, "RANK_OF_MACHINE": "2"}, "RANK_OF_MACHINE=2: not a whole number from 0 to 1"),
        ("two_nodes.sh", {**HEAD, "RANK_OF_MACHINE": "first"}, "RANK_OF_MACHINE=first: not"),
        ("two_nodes.sh", {**HEAD, "PORT": "0"}, "PORT=0: not a whole number from 1 to 65535"),
        ("two_nodes.sh", {**HEAD, "PORT": "http"}, "PORT=http: not"),
        ("two_nodes.sh", {**HEAD, "HEAD": "localhost"}, "HEAD=localhost: not an address"),
        ("two_nodes.sh", {**HEAD, "HEAD": "-h"}, "HEAD=-h: not an address"),
        ("two_nodes.sh", {**HEAD, "GPUS": "two"}, "GPUS=two: not"),
        ("one_gpu.sh", {"GPU": "first"}, "GPU=first: not a whole number"),
        ("one_gpu.sh", {"GPU": "0,1"}, "GPU=0,1: not"),
        ("one_gpu.sh", {"PYTHON_LACKS": "1"}, "has no torch; run make setup in "),
    ],
)
def test_a_launcher_refuses_a_setting(machine, script, environment, said):
    machine.refuses(said, f"launch/{script}", "--config", "c", **environment)


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("missing", "script", "environment", "said"),
    [
        ("accelerate", "launch/one_node.sh", CPU, "accelerate: not found; run make setup in "),
        ("accelerate", "launch/two_nodes.sh", HEAD, "accelerate: not found; run make setup in "),
        ("python", "launch/one_gpu.sh", {}, "python: not found; run make setup in "),
        ("python", "launch/demo.sh", {}, "python: not found; run make setup in "),
        ("ip", "launch/two_nodes.sh", HEAD, "ip: not found; install iproute2, or set GLOO_SOCKET_IFNAME"),
        ("sbatch", "slurm/submit.sh", {}, "sbatch: not found; run this on a machine of the cluster"),
        ("scontrol", "slurm/pipeline.sh", {}, "scontrol: not found; run this on a machine of the cluster"),
    ],
)
def test_a_program_that_is_missing_is_named(machine, missing, script, environment, said):
    (machine.folder / "bin" / missing).unlink()
    words = {"slurm/submit.sh": ["train", "--x"], "slurm/pipeline.sh": ["e", "out"], "launch/demo.sh": ["out"]}
    words["launch/demo.sh"] = [str(machine.folder / "out")]
    for name in ("faceid/toy/weights", "configs"):
        (machine.house / name).mkdir(parents=True, exist_ok=True)
    (machine.house / "faceid/toy/a.py").touch()
    machine.refuses(said, script, *words.get(script, ["--config", "c"]), **environment)
    assert not (machine.folder / "out").exists()


def test_a_head_that_no_way_leads_to_is_refused(machine):
    machine.program("ip", "#!/bin/sh\necho 'RTNETLINK answers: Network is unreachable' >&2\nexit 2\n")
    machine.refuses("HEAD=10.0.0.5: no way there from this machine (RTNETLINK", "launch/two_nodes.sh", **HEAD)


def test_more_processes_than_cards_are_refused(machine):
    machine.program("nvidia-smi", "#!/bin/sh\necho GPU 0: NVIDIA\necho GPU 1: NVIDIA\n")
    machine.refuses("GPUS=3: more than the 2 that", "launch/one_node.sh", GPUS="3")
    machine.refuses("GPUS=2: more than the 1 that", "launch/one_node.sh", GPUS="2", CUDA_VISIBLE_DEVICES="1")
    machine.refuses("GPU=2: not a whole number from 0 to 1", "launch/one_gpu.sh", GPU="2")
    machine.run("launch/one_node.sh")
    assert "--num_processes 2" in machine.calls()[-1]
    machine.run("launch/one_node.sh", CUDA_VISIBLE_DEVICES="1")
    assert "--num_processes 1" in machine.calls()[-1]
    machine.run("launch/one_node.sh", GPUS="3", WORLD="cpu_zero2")
    assert "--num_processes 3" in machine.calls()[-1]


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    "script", ["launch/one_gpu.sh", "launch/one_node.sh", "launch/two_nodes.sh", "slurm/submit.sh"]
)
def test_a_script_is_found_through_links_and_with_a_CDPATH(machine, script):
    words = ["train", "--x"] if script.startswith("slurm") else ["--x"]
    (machine.folder / "elsewhere").mkdir()
    (machine.folder / "elsewhere" / "link").symlink_to(machine.house / script)
    (machine.folder / "room").symlink_to((machine.house / script).parent)
    name = Path(script).name
    # With a CDPATH `cd` looks there first, and prints where it went.
    cdpath = f"{machine.folder}:{machine.house}"
    ways = [(machine.folder / "elsewhere" / "link", {}), (machine.folder / "room" / name, {})]
    for path, environment in [*ways, (script, {"CDPATH": cdpath})]:
        done = machine.run(path, *words, **HEAD, **environment)
        assert (done.returncode, done.stderr) == (0, "")
    relative = subprocess.run(
        ["bash", script, *words],
        cwd=machine.house,
        env={"PATH": str(machine.folder / "bin"), "CALLS": str(machine.folder / "calls"), "FAILS": "", **HEAD}
        | {"CDPATH": cdpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (relative.returncode, relative.stderr) == (0, "")
    assert len(machine.calls()) == 4 and len(set(machine.calls())) == 1


SETTINGS = [
    ("GPUS_PER_NODE=", "GPUS_PER_NODE= ("),
    ("GPUS_PER_NODE=-1", "GPUS_PER_NODE=-1 ("),
    ("TASKS_PER_NODE=0", "TASKS_PER_NODE=0 ("),
    ("CPUS_PER_TASK=many", "CPUS_PER_TASK=many ("),
    ("TRAIN_NODES=0", "TRAIN_NODES=0 ("),
    ("SAMPLE_NODES=1-2", "SAMPLE_NODES=1-2 ("),
    ("PREPARE_TASKS=0", "PREPARE_TASKS=0 ("),
    ("PREPARE_TASKS=", "PREPARE_TASKS= ("),
    ("ENCODE_TASKS=010", "ENCODE_TASKS=010 ("),
    ("STOP_BEFORE_END_S=soon", "STOP_BEFORE_END_S=soon ("),
    ("MOST_ATTEMPTS=0", "MOST_ATTEMPTS=0 ("),
    ("MAIN_PORT=70000", "MAIN_PORT=70000 ("),
    ("TRAIN_TIME=", "TRAIN_TIME= ("),
    ("PREPARE_TIME=8h", "PREPARE_TIME=8h ("),
    ("ENCODE_TIME=1:2:3:4", "ENCODE_TIME=1:2:3:4 ("),
    ("SAMPLE_TIME=1-", "SAMPLE_TIME=1- ("),
    ("TRAIN_TIME=5", "STOP_BEFORE_END_S=300 ("),
    ("TRAIN_TIME=0-00:05", "STOP_BEFORE_END_S=300 ("),
    ("VENV=.venv", "VENV=.venv ("),
    ("SCRATCH=scratch", "SCRATCH=scratch ("),
    ("NETWORK_INTERFACE='ib0 ib1'", "NETWORK_INTERFACE=ib0 ib1 ("),
    ("WORLD=zero7", "WORLD=zero7 ("),
    ("LAUNCHER=torchrun", "LAUNCHER=torchrun ("),
    ("unset MAIN_PORT", "MAIN_PORT= ("),
    ("unset ACCOUNT", "ACCOUNT ("),
    ("unset LAUNCHER", "LAUNCHER= ("),
    ("unset MORE_OPTIONS; MORE_OPTIONS=--exclude=n1", "MORE_OPTIONS=--exclude=n1 ("),
    ("unset MORE_OPTIONS", "MORE_OPTIONS= ("),
    ("unset CONTAINER; CONTAINER='apptainer exec'", "CONTAINER=apptainer exec ("),
    ("MODULES=('')", "empty word"),
    ("MORE_OPTIONS=(job.sh)", "MORE_OPTIONS=(job.sh) ("),
    ("MORE_OPTIONS=(--hold)", "MORE_OPTIONS=(--hold) ("),
    ("ACCOUNT=my group", "group: command not found"),
    ("if", "syntax error"),
    ("exit 0", "it ends early"),
    ("SCRATCH=/local/$NOBODY", "NOBODY: unbound variable"),
]


@pytest.mark.fault("F8")
@pytest.mark.parametrize(("line", "said"), SETTINGS)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_submitted_and_in_the_job(machine, line, said):
    given = {"FACEID_ENV": machine.settings(line)}
    machine.refuses(said, "slurm/submit.sh", "train", "--x", **given)
    machine.refuses(said, "slurm/submit.sh", "--dry_run", "encode", "--x", **given)
    machine.refuses(said, "slurm/pipeline.sh", "e", "out", **given)
    machine.refuses(said, "slurm/pipeline.sh", "--dry_run", "e", "out", **given)
    assert not (machine.folder / "out").exists()
    (machine.house / "slurm/train.sbatch").chmod(0o755)
    machine.refuses(said, "slurm/train.sbatch", "--x", **given, FACEID_HOME=str(machine.house), SLURM_JOB_ID="1")


@pytest.mark.parametrize("time", "10 600 10:00 08:00:00 100:00:00 1-0 1-00:00 1-00:00:00 UNLIMITED infinite 0".split())
def test_a_time_that_slurm_takes_is_taken(machine, time):
    done = machine.run("slurm/submit.sh", "train", "--x", FACEID_ENV=machine.settings(f"TRAIN_TIME={time}"))
    assert (done.returncode, done.stderr) == (0, "") and f"--time={time}" in machine.calls()[0]


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("/nope", "FACEID_ENV=/nope: no file that can be read"),
        ("my env.sh", "FACEID_ENV=my env.sh: not an absolute path, and jobs run in another folder; give "),
        ("/tmp", "FACEID_ENV=/tmp: no file"),
    ],
)
def test_a_file_of_settings_that_a_job_cannot_read_is_refused(machine, file, said):
    machine.settings("")
    for words in (["train", "--x"], ["--dry_run", "train", "--x"]):
        machine.refuses(said, "slurm/submit.sh", *words, FACEID_ENV=file)
    machine.refuses(said, "slurm/pipeline.sh", "e", "out", FACEID_ENV=file)


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "STAGE=: is none of"),
        (["trian"], "STAGE=trian: is none of"),
        (["prepare"], "prepare: has 0 arguments; give EXPERIMENT and OUT"),
        (["prepare", "e"], "prepare: has 1 arguments"),
        (["prepare", "{folder}/e", "{folder}/out", "--x"], "prepare: has 3 arguments"),
        (["prepare", "{folder}/none", "{folder}/out"], "none/make_shards.yaml: missing"),
        (["prepare", "{folder}/e", "{folder}/a file"], "a file is no folder"),
        (["prepare", "{folder}/e", ""], "OUT=: empty"),
        (["train"], "train: has no flags"),
        (["encode"], "encode: has no flags"),
        (["sample"], "sample: has no flags"),
        (["-p", "gpu", "train", "--x"], "-p: before STAGE go"),
        (["--array", "0-3", "--", "encode", "--x"], "STAGE=0-3: is none of"),
    ],
)
def test_a_stage_is_refused_alike_by_a_dry_run_and_a_run(machine, words, said):
    words = [word.format(folder=machine.folder) for word in words]
    machine.refuses(said, "slurm/submit.sh", *words)
    machine.refuses(said, "slurm/submit.sh", "--dry_run", *words)


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give EXPERIMENT and OUT"),
        (["--from"], "give EXPERIMENT and OUT"),
        (["e", ""], "OUT=: empty"),
        (["", "out"], "EXPERIMENT=: no such folder"),
        (["-none", "out"], "EXPERIMENT=-none: no such folder"),
        (["e", "a file"], "OUT=a file: a file is no folder"),
        (["e", "a file/out"], "OUT=a file/out: a file is no folder"),
        (["empty", "out"], "make_shards.yaml: missing"),
    ],
)
def test_a_chain_is_refused_alike_by_a_dry_run_and_a_run(machine, words, said):
    machine.refuses(said, "slurm/pipeline.sh", *words)
    machine.refuses(said, "slurm/pipeline.sh", "--dry_run", *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_chain_that_may_not_write_is_refused(machine):
    (machine.folder / "locked").mkdir(mode=0o500)
    machine.refuses("locked cannot be written", "slurm/pipeline.sh", "e", "locked/out")


@pytest.mark.fault("F8")
def test_names_that_begin_with_a_dash_are_names(machine):
    done = machine.run("slurm/pipeline.sh", "--from", "train", "-exp", "-out")
    assert (done.returncode, done.stderr) == (0, "") and (machine.folder / "-out").is_dir()
    assert f"--config {machine.folder}/-exp/train.yaml" in machine.calls()[0]


@pytest.mark.fault("F8")
@pytest.mark.parametrize(("refused", "taken"), [("prepare", 0), ("encode", 1), ("train", 2), ("sample", 3)])
def test_of_a_chain_that_slurm_refuses_nothing_is_left_and_nothing_ran(machine, refused, taken):
    done = machine.run("slurm/pipeline.sh", "e", "out", REFUSED=refused)
    (line,) = done.stderr.splitlines()
    left = f"cancelled again: job {' '.join(str(n + 1) for n in range(taken))}" if taken else "nothing was submitted"
    assert done.returncode == 2 and done.stdout == ""
    assert f"{refused}: sbatch refused it (sbatch: error: no sbatch: error: really not)" in line and left in line
    calls = machine.calls()
    assert [call for call in calls if call.startswith("scancel")] == [f"scancel {n + 1}" for n in range(taken)]
    # Held, so that it could not have started before it was cancelled.
    assert "--hold" in calls[0] and not [call for call in calls if "release" in call]


def test_a_chain_that_slurm_takes_is_released(machine):
    done = machine.run("slurm/pipeline.sh", "e", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "prepare: job 1",
        *(
            f"{stage}: job {n + 2} (--dependency=afterok:{n + 1})"
            for n, stage in enumerate(("encode", "train", "sample"))
        ),
    ]
    assert machine.calls()[-1] == "scontrol release 1"
    assert [("--hold" in call) for call in machine.calls()[:4]] == [True, False, False, False]


@pytest.mark.parametrize(("fails", "left"), [("scontrol", "cancelled again: job 1 2 3 4")])
def test_a_chain_that_cannot_be_released_is_taken_back(machine, fails, left):
    done = machine.run("slurm/pipeline.sh", "e", "out", FAILS=fails)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "is held and cannot be released" in line and left in line


def test_jobs_that_cannot_be_cancelled_are_named(machine):
    done = machine.run("slurm/pipeline.sh", "e", "out", FAILS="scancel", REFUSED="train")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.endswith("could not be cancelled, so do it: scancel 1 2")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "no job of Slurm; submit this script"),
        ({"SLURM_JOB_ID": "1", "FACEID_HOME": "/tmp"}, "FACEID_HOME=/tmp: not faceid's folder"),
        ({"SLURM_JOB_ID": "1", "FACEID_HOME": "", "SLURM_SUBMIT_DIR": "/"}, "FACEID_HOME=/: not faceid's folder"),
        ({"SLURM_JOB_ID": "1", "FACEID_HOME": "the house"}, "FACEID_HOME=the house: not an absolute path"),
        ({"SLURM_JOB_ID": "1", "OMP_NUM_THREADS": "all"}, "OMP_NUM_THREADS=all: not a whole number"),
        ({"SLURM_JOB_ID": "1", "line": "SCRATCH='/proc/none'"}, "SCRATCH=/proc/none ("),
        ({"SLURM_JOB_ID": "1", "line": "CONTAINER=(apptainer exec)"}, "apptainer: not found"),
    ],
)
@pytest.mark.parametrize("stage", ["prepare", "encode", "train", "sample"])
def test_a_job_that_cannot_start_says_so(machine, stage, environment, said):
    (machine.house / f"slurm/{stage}.sbatch").chmod(0o755)
    environment = {"FACEID_HOME": str(machine.house), "HOSTNAME": "n1", **environment}
    environment["FACEID_ENV"] = machine.settings(environment.pop("line", ""))
    machine.refuses(said, f"slurm/{stage}.sbatch", "--x", **environment)


def test_a_prepare_job_refuses_what_submit_refuses(machine):
    (machine.house / "slurm/prepare.sbatch").chmod(0o755)
    job = {"FACEID_HOME": str(machine.house), "SLURM_JOB_ID": "1"}
    machine.refuses("prepare: has 1 arguments", "slurm/prepare.sbatch", "e", **job)
    machine.refuses("make_shards.yaml: missing", "slurm/prepare.sbatch", str(machine.folder / "empty"), "out", **job)


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["a", "b"], {}, "a b: too many words"),
        (["{folder}/a file"], {}, "VENV={folder}/a file: {folder}/a file is no folder"),
        (["{folder}/e"], {}, "VENV={folder}/e: holds files and is no environment"),
        ([], {"PYTHON": "/nope"}, "PYTHON=/nope: no such program"),
    ],
)
def test_set_up_refuses_before_it_installs(machine, words, environment, said):
    words = [word.format(folder=machine.folder) for word in words]
    machine.refuses(said.format(folder=machine.folder), "launch/setup.sh", *words, **environment)


def test_set_up_refuses_an_old_python(machine):
    machine.program(
        "old", '#!/bin/sh\ncase $2 in *version_info*) exit 1 ;; esac\n[ "$1" != --version ] || echo Python 3.8.1\n'
    )
    said = "PYTHON=old: is Python 3.8.1, and 3.10 or newer is needed"
    machine.refuses(said, "launch/setup.sh", str(machine.folder / "venv"), PYTHON="old")


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["a", "3", "b"], {}, "a 3 b: too many words"),
        (["{folder}/out", "4"], {}, "SEED=4: only the worlds 3, 5 and 8"),
        (["{folder}/out"], {"SIZE": "tiny"}, "SIZE=tiny: is neither full nor small"),
        (["{folder}/a file"], {}, "OUT={folder}/a file: {folder}/a file is no folder"),
        (["{folder}/a, b"], {}, "OUT={folder}/a, b: holds one of"),
    ],
)
def test_the_demo_refuses_before_it_draws(machine, words, environment, said):
    words = [word.format(folder=machine.folder) for word in words]
    machine.refuses(said.format(folder=machine.folder), "launch/demo.sh", *words, **environment)
    assert not (machine.folder / "out").exists()
