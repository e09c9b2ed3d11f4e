"""The scripts of slurm/ as texts and as commands, without a cluster: short, clean, and safe with any name."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from cluster import REPOSITORY

pytestmark = [
    pytest.mark.starts_process,
    pytest.mark.promise(
        "scripts: under 80 lines, shellcheck, names with spaces and quotes", bar="all checks pass", proof="slurm"
    ),
]

SCRIPTS = sorted((REPOSITORY / "slurm").iterdir())
JOBS = [path for path in SCRIPTS if path.suffix == ".sbatch"]
NASTY = """it's "a" $(touch /tmp/canary) `id` *; -rf \\ {a,b} ü"""


def code_of(path) -> str:
    """The script without comments."""
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


def dry_run(*words, **environment) -> list[list[str]]:
    """The sbatch commands of submit.sh or pipeline.sh, word by word as bash reads them."""
    name, *rest = words
    done = subprocess.run(
        [str(REPOSITORY / "slurm" / name), "--dry_run", *rest],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return [
        subprocess.check_output(["bash", "-c", f"printf '%s\\0' {line}"]).decode().split("\0")[:-1] for line in lines
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_each_is_under_80_lines_and_bash_reads_it(path):
    assert len(path.read_text().splitlines()) < 80
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck missing: make slurm-packages")
def test_shellcheck_finds_nothing():
    launch = sorted((REPOSITORY / "launch").glob("*.sh"))
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--shell=bash", *map(str, [*SCRIPTS, *launch])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_value_is_read_as_code(path):
    code = code_of(path)
    assert not re.search(r"\beval\b", code)
    # Unquoted, a name with a space is two.
    assert not re.search(r'(?<!["\w])\$[@*](?!["\w])', code)
    assert "--export=" not in code, "values go by arguments and files"


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_each_job_can_come_again_and_appends(path):
    text = path.read_text()
    assert re.search(r"^#SBATCH --requeue$", text, re.MULTILINE)
    assert re.search(r"^#SBATCH --open-mode=append$", text, re.MULTILINE)
    # To the steps: with B: it would be to the script alone.
    assert re.search(r"^#SBATCH --signal=(USR2|TERM)@\d+$", text, re.MULTILINE)
    # Slurm makes no folder for a log, and ends a job whose log has none without a word.
    assert "/" not in re.search(r"^#SBATCH --output=(.*)$", text, re.MULTILINE).group(1)


def test_no_trap_takes_CONT():
    assert not [path for path in SCRIPTS if re.search(r"\btrap\b.*\bCONT\b", code_of(path))]


def test_names_with_spaces_and_quotes_arrive_as_they_are(tmp_path):
    (command,) = dry_run("submit.sh", "train", "--config", NASTY, "--output_dir", "a b", FACEID_ENV="")
    assert command[-4:] == ["--config", NASTY, "--output_dir", "a b"]
    assert command[-5].endswith("/slurm/train.sbatch")


def test_options_come_from_env_and_from_before_the_dashes(tmp_path):
    settings = tmp_path / "env.sh"
    settings.write_text(
        (REPOSITORY / "slurm" / "env.sh").read_text()
        + "ACCOUNT='my group'\nPARTITION=gpu\nTRAIN_NODES=4\nGPUS_PER_NODE=8\nMORE_OPTIONS=('--comment=two words')\n"
    )
    (command,) = dry_run("submit.sh", "--dependency=afterok:7", "--", "train", "--x", FACEID_ENV=str(settings))
    assert command[:2] == ["sbatch", "--parsable"] and command[-1] == "--x"
    wanted = {"--account=my group", "--partition=gpu", "--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8"}
    assert wanted | {"--comment=two words", "--dependency=afterok:7"} <= set(command)
    (command,) = dry_run("submit.sh", "encode", "--shards", "s", FACEID_ENV=str(settings))
    assert {"--array=0-3", "--gpus-per-node=1"} <= set(command)


def test_a_stage_that_is_none_is_one_line():
    done = subprocess.run(
        [str(REPOSITORY / "slurm" / "submit.sh"), "--dry_run", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "STAGE=trian: is none of prepare, encode, train, sample" in done.stderr


def experiment(folder) -> None:
    folder.mkdir()
    for name in ("make_shards", "encode_latents", "train", "sample"):
        (folder / f"{name}.yaml").write_text("{}\n")


def test_a_pipeline_says_its_chain(tmp_path):
    experiment(tmp_path / "my experiment")
    out = tmp_path / "it's out"
    commands = dry_run("pipeline.sh", str(tmp_path / "my experiment"), str(out))
    stages = [next(word for word in command if word.endswith(".sbatch")).rsplit("/", 1)[1] for command in commands]
    assert stages == ["prepare.sbatch", "encode.sbatch", "train.sbatch", "sample.sbatch"]
    after = [word for command in commands for word in command if word.startswith("--dependency")]
    assert after == [f"--dependency=afterok:ID_OF_{name}" for name in ("PREPARE", "ENCODE", "TRAIN")]
    assert commands[2][-6:] == [
        "--latents",
        f"{out}/latents",
        "--shards",
        f"{out}/shards",
        "--output_dir",
        f"{out}/run",
    ]
    assert not out.exists()
    assert len(dry_run("pipeline.sh", "--from", "train", str(tmp_path / "my experiment"), str(out))) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--form", "train"], "--form: unknown"),
        (["e"], "give EXPERIMENT and OUT"),
        (["none", "out"], "EXPERIMENT=none: no such folder"),
        (["--from", "trian", "e", "out"], "--from trian: is none of prepare encode train sample"),
        (["empty", "out"], "make_shards.yaml: missing"),
    ],
)
def test_a_pipeline_that_cannot_be_is_one_line_and_submits_nothing(tmp_path, words, said):
    experiment(tmp_path / "e")
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [str(REPOSITORY / "slurm" / "pipeline.sh"), *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
