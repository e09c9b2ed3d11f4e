"""--dry_run says what a run would be, in the numbers the run then has, and everything that would be refused."""

import re

import pytest
from launching import QUIET, SMALL_ADAPTER, train

pytestmark = [pytest.mark.slow, pytest.mark.starts_process]


def said(done):
    return {line.partition(":")[0]: line for line in done.stdout.splitlines() if ":" in line}


def test_what_it_says_is_what_the_run_then_is(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 4".split()]
    flags += ["--freeze_mapper_after_epochs", "3", "--output_dir", str(tmp_path / "run")]
    told = said(train(*flags, "--dry_run"))
    # Nothing is written, not even the run folder.
    assert not (tmp_path / "run").exists()
    assert "nothing would be refused" in train(*flags, "--dry_run").stdout
    log = train(*flags).stderr
    trained = re.search(r"training ([\d.]+) M parameters \(([\d.]+) MB per adapter, ([\d.]+) MB", log)
    assert f"trained {trained[1]} M" in told["sizes"]
    assert f"{trained[2]} MB an adapter, {trained[3]} MB a checkpoint" in told["disk"]
    (kept,) = (tmp_path / "run" / "checkpoints").iterdir()
    # The tensors' names and shapes are in the files as well.
    assert sum(file.stat().st_size for file in kept.glob("*.safetensors")) / 1e6 == pytest.approx(
        float(trained[3]), rel=0.2
    )
    tokens, steps = re.search(r"\((\d+) tokens\).*; (\d+) steps", log).groups()
    assert f"{tokens} tokens a clip" in told["sizes"] and told["length"] == f"length: {steps} steps in 4 epochs"
    quotas = re.search(r"stage 2 from epoch 4: of \d+ samples (.*)", log)[1]
    assert told["mixture"].endswith(quotas)
    assert told["likeness"] == re.search(r"likeness: .*", log)[0] and "no validation looks at it" in told["likeness"]
    assert told["world"].startswith("world: single, 1 processes, float32; global batch 2 = 1 x 1 x 2 passes")


def test_everything_that_would_be_refused_is_said_at_once(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 3 --micro_batch_size 2".split()]
    flags += ["--heldout_dancers", "9", "--output_dir", str(tmp_path / "run"), "--dry_run"]
    done = train(*flags, expect=2)
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 2 and "batch_size=3" in refused[0] and "heldout_dancers=9" in refused[1]
    assert "nothing would be refused" not in done.stdout


def test_a_checkpoint_of_another_recipe_would_be_refused(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 1".split()]
    flags += ["--output_dir", str(tmp_path / "run")]
    train(*flags)
    assert "nothing would be refused" in train(*flags, "--dry_run").stdout
    done = train(*flags, "--learning_rate", "5e-4", "--dry_run", expect=2)
    assert "refused:" in done.stdout and "learning_rate was 0.0001, now 0.0005" in done.stdout


def test_raw_folders_and_another_world(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.raw_flags, "--output_dir", str(tmp_path / "run"), "--dry_run"]
    flags += ["--gradient_checkpointing", "attention", "--peak_tflops", "0.01", "--ema", "0"]
    told = said(train(*flags, "--batch_size", "4", world="cpu_zero2"))
    assert told["world"].startswith("world: zero2, 2 processes, float32; global batch 4 = 2 x 1 x 2 passes")
    assert told["data"].startswith("data: 4 clips of ") and "4 photos" in told["data"]
    assert "gradient_checkpointing attention" in told["work"] and "at least" in told["time"]
    adapter, checkpoint = map(float, re.findall(r"([\d.]+) MB", told["disk"]))
    assert checkpoint == pytest.approx(3 * adapter, rel=0.1)
