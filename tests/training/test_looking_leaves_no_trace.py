"""Validating and rendering inside a run leave no trace in it, in any world, also when they are killed."""

import json

import pytest
import torch
from forked_runs import DyingInTheFirstRender, Looking, run
from launching import QUIET, SMALL_ADAPTER, losses
from safetensors.torch import load_file

from faceid.training.checkpoints import checkpoint
from faceid.training.measuring.metrics import read_metrics

pytestmark = pytest.mark.promise(
    "a validation leaves no trace in a run, on one process, DDP and ZeRO-2, and when it is killed",
    bar="every tensor, scale, mode, hook and generator as before",
    proof="nothing_lost",
)

# 4 clips and 4 photos, 4 at a time: two steps an epoch, a validation with videos after each.
RECIPE = (
    "--num_epochs 2 --batch_size 4 --learning_rate 1e-2 --warmup_steps 0 --validation_steps 1 --validation_cfg_scale 1"
).split()


def words(toy_inputs, folder, *more):
    validated = ["--validate_every", "1", *RECIPE, *more]
    return [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *validated, "--output_dir", str(folder)]


@pytest.fixture(scope="module")
def undisturbed(toy_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    folder.mkdir()
    assert run(words(toy_inputs, folder), around=Looking(folder)) == [0]
    return folder


def nothing_was_left(folder, ranks=1):
    files = sorted(folder.glob("left_by_validation_*.jsonl"))
    assert len(files) == ranks
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert lines and not any(lines), lines


@pytest.mark.starts_process
@pytest.mark.fault("T1")
def test_a_validation_leaves_no_trace_in_a_single_process(undisturbed):
    nothing_was_left(undisturbed)


@pytest.mark.starts_process
@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    "world",
    [
        "cpu",
        "cpu_zero2",
        pytest.param("cpu_zero3", marks=pytest.mark.proof_only("ten seconds", proof="nothing_lost")),
    ],
)
@pytest.mark.slow
def test_nor_in_any_of_two_processes(toy_inputs, tmp_path, world):
    """With one scene one process renders and the other waits: what is left must not differ between them."""
    asked = words(toy_inputs, tmp_path, "--num_epochs", "1", "--validation_recogniser", "none")
    assert run(asked, world, Looking(tmp_path)) == [0, 0]
    nothing_was_left(tmp_path, ranks=2)


@pytest.mark.starts_process
@pytest.mark.fault("T1")
def test_with_and_without_validations_it_is_the_same_run(toy_inputs, undisturbed, tmp_path):
    assert run([*words(toy_inputs, tmp_path / "run"), "--validate_every", "0"]) == [0]
    assert losses(tmp_path / "run") == losses(undisturbed) and len(losses(undisturbed)) == 4
    assert_same_adapter(tmp_path / "run", undisturbed)


@pytest.mark.starts_process
@pytest.mark.fault("T1")
@pytest.mark.fault("L10")
@pytest.mark.slow
def test_killed_in_its_first_validation_and_started_again_it_ends_as_the_undisturbed_run(
    toy_inputs, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    assert run(words(toy_inputs, folder), around=DyingInTheFirstRender()) == [-9]
    # Nothing of the epoch is lost, and the validation that was not done is known.
    (kept,) = (folder / "checkpoints").glob("step_*")
    assert checkpoint.verify(kept)["step"] == 2 and checkpoint.verify(kept)["validated"] is False
    assert validations(folder) == []
    assert run(words(toy_inputs, folder)) == [0]
    assert losses(folder) == losses(undisturbed)
    assert_same_adapter(folder, undisturbed)
    assert validations(folder) == validations(undisturbed) and [row["step"] for row in validations(folder)] == [2, 4]
    states = [checkpoint.verify(run / "checkpoints" / "step_00000004") for run in (folder, undisturbed)]
    assert states[0]["validation"] == states[1]["validation"]


@pytest.mark.starts_process
@pytest.mark.fault("L10")
def test_a_finished_run_started_again_validates_nothing_a_second_time(toy_inputs, undisturbed):
    before = validations(undisturbed)
    assert run(words(toy_inputs, undisturbed)) == [0]
    assert validations(undisturbed) == before


def validations(folder):
    rows = read_metrics(folder / "metrics.jsonl")
    return [row for row in rows if any(name.startswith("validation/") for name in row)]


def assert_same_adapter(folder, reference):
    for name in ("face_lora_final", "face_lora_best"):
        file = f"{name}.safetensors"
        if (folder / file).exists() or name == "face_lora_final":
            adapter, wanted = load_file(folder / file), load_file(reference / file)
            assert all(torch.equal(adapter[key], wanted[key]) for key in wanted), name
