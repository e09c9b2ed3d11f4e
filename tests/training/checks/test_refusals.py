"""The dry run and the run refuse the same things, in the same words; and launchers' numbers are read with care."""

import contextlib
import io
import json
import os
import shutil
import sys

import pytest
import torch
from calling import command_module, process_state_kept
from launching import QUIET, SMALL_ADAPTER
from safetensors.torch import safe_open, save_file

from faceid.description.description_file import Description, write_description
from faceid.errors import ConfigError, FaceidError, one_line, run_entry_point
from faceid.models.base.model_files import ModelFiles
from faceid.toy.shipped import resolve_adapter_path, resolve_model_path
from faceid.training.world.launched import read_accelerate_config, read_launch

pytestmark = pytest.mark.promise(
    "a dry run and a run refuse the same", bar="the same line for each refusal", proof="nothing_lost"
)

RECIPE = "--num_epochs 1 --batch_size 4 --warmup_steps 0".split()


def ended(*words):
    """Exit code and screen of train.py, in this process."""
    screen = io.StringIO()
    shown = contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen)
    with process_state_kept(), shown[0], shown[1], pytest.raises(SystemExit) as end:
        run_entry_point(lambda: command_module("train.py").main([str(word) for word in words]))
    assert "Traceback" not in screen.getvalue(), screen.getvalue()
    return int(end.value.code or 0), screen.getvalue().splitlines()


def refused_alike(words, part):
    """The run stops at one line; the dry run says that line among all, and both leave with 2."""
    code, lines = ended(*words)
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and part in errors[0], lines
    code, lines = ended(*words, "--dry_run")
    refused = [line.removeprefix("refused: ") for line in lines if line.startswith("refused: ")]
    assert code == 2 and errors[0] in refused and "nothing would be refused" not in lines, (errors, lines)


@pytest.fixture(scope="module")
def trained(toy_inputs, tmp_path_factory):
    """A finished run of one epoch."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert ended(*words_of(toy_inputs, folder))[0] == 0
    return folder


def words_of(toy_inputs, folder):
    return [*SMALL_ADAPTER, *QUIET, *RECIPE, *toy_inputs.prepared_flags, "--output_dir", str(folder)]


def a_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")


def describe_at(run, fingerprint, width=64):
    """A description of five tokens beside the run folder."""
    write_description(run.parent / "d.safetensors", Description("red hair", torch.ones(5, width), fingerprint))


# What lies there before, what is typed, and what the line must say.
CASES = {
    "a file in the run folder's place": (lambda run: a_file(run), [], "not a folder that can be written"),
    "a file above it": (lambda run: a_file(run.parent / "x"), ["--output_dir", "{run}/../x/run"], "not a folder"),
    "a folder named STOP": (lambda run: (run / "STOP").mkdir(parents=True), [], "STOP: a folder, where"),
    "a file named logs": (lambda run: a_file(run / "logs"), [], "logs: a file, where"),
    "a file named checkpoints": (lambda run: a_file(run / "checkpoints"), [], "checkpoints: a file, where"),
    "a folder named metrics.jsonl": (lambda run: (run / "metrics.jsonl").mkdir(parents=True), [], "metrics.jsonl: a"),
    "a batch that cannot be shared": (None, "--micro_batch_size 3".split(), "batch_size=4: not divisible"),
    "too many dancers held out": (None, "--heldout_dancers 9".split(), "heldout_dancers=9"),
    "no base": (None, "--model_path nowhere".split(), "model_path=nowhere"),
    "no photos": (None, "--face_images_dir nowhere".split(), "face_images_dir=nowhere"),
    "no latents": (None, "--latents nowhere".split(), "latents"),
    "no identity": (None, "--face_embedding nowhere".split(), "nowhere"),
    "no face bank": (None, "--face_bank nowhere".split(), "face_bank=nowhere"),
    "no initial adapter": (None, "--init_lora nowhere.safetensors".split(), "init_lora=nowhere"),
    "no description": (None, "--target_description nowhere".split(), "target_description=nowhere"),
    "a description in another base's language": (
        lambda run: describe_at(run, "0" * 64),
        "--target_words 8 --target_description {run.parent}/d.safetensors".split(),
        "d.safetensors: made for a base with another text encoder",
    ),
    "fewer words than a description has": (
        lambda run: describe_at(run, ModelFiles.find(resolve_model_path("toy")).latents_fingerprint),
        "--target_words 4 --target_description {run.parent}/d.safetensors".split(),
        "target_words=4: target_description=",
    ),
    "a description of another width": (
        lambda run: describe_at(run, ModelFiles.find(resolve_model_path("toy")).latents_fingerprint, 32),
        "--target_words 8 --target_description {run.parent}/d.safetensors".split(),
        "d.safetensors: made for a base with another text encoder",
    ),
    "more words than the base reads": (None, ["--target_words", "64"], "target_words=64: the base reads 64 tokens"),
    "no such checkpoint": (None, "--resume nowhere".split(), "resume=nowhere"),
    "no such kernel": (None, "--attention_backend warp".split(), "attention_backend='warp'"),
    "a kernel that is not installed": (None, "--attention_backend flash".split(), "cannot be used here"),
    "no such judge": (None, "--validate_every 1 --validation_recogniser who".split(), "'who' is none"),
    "a judge that is not there": (
        None,
        "--validate_every 1 --validation_recogniser onnx:absent.onnx".split(),
        "absent.onnx",
    ),
    "a metric that is none": (None, "--validate_every 1 --best_metric x".split(), "best_metric='x': no validation"),
    "a metric of no name": (None, ["--validate_every", "1", "--best_metric", "."], "best_metric='.': no validation"),
    "a metric of nobody": (
        None,
        "--validate_every 1 --best_metric swap_gap_heldout_clips".split(),
        "give auto, or one of swap_gap_training_dancers, ",
    ),
    "two transformers and videos": (None, "--expert high".split(), "expert"),
}


@pytest.mark.fault("W4")
@pytest.mark.fault("W5")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_dry_run_and_run_refuse_the_same(toy_inputs, tmp_path, case):
    prepare, words, part = CASES[case]
    run = tmp_path / "place" / "run"
    if prepare is not None:
        prepare(run)
    before = sorted(tmp_path.rglob("*"))
    refused_alike([*words_of(toy_inputs, run), *(word.format(run=run) for word in words)], part)
    assert sorted(tmp_path.rglob("*")) == before, "a run that is refused leaves nothing"


@pytest.mark.fault("W4")
def test_without_an_identity_its_encoder_and_detector_must_be_there(toy_inputs, tmp_path):
    words = [*SMALL_ADAPTER, *QUIET, *RECIPE, *toy_inputs.raw_flags, "--output_dir", str(tmp_path / "run")]
    refused_alike([*words, "--encoder_path", "./nowhere"], "nowhere: no config.json there")
    refused_alike([*words, "--detector", "yunet"], "detector=yunet: needs --detector_path")
    refused_alike([*words, "--heldout_clips", "1", "--dance_videos_dir", "nowhere"], "dance_videos_dir=nowhere")


RESUMED = {
    "another recipe": ("--learning_rate 5e-4", "learning_rate was 0.0001, now 0.0005"),
    "fewer epochs than are done": ("--num_epochs 1 --heldout_dancers 0 --shorter", "ends after"),
    "checkpoints, and told that there are none": ("--resume none", "resume=none"),
    "other photos": ("--face_images_dir {dataset}/photos/d01", "another picture"),
    "no photos any more": ("--without_photos", "other photos"),
}


@pytest.mark.fault("W4")
@pytest.mark.parametrize("case", RESUMED)
def test_so_they_do_of_a_run_to_go_on_with(toy_inputs, trained, tmp_path, case):
    asked, part = RESUMED[case]
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    words = [*words_of(toy_inputs, folder), *asked.format(dataset=toy_inputs.dataset).split()]
    if "--shorter" in words:
        words.remove("--shorter")
        as_if_done(folder, 7)
    if "--without_photos" in words:
        words.remove("--without_photos")
        at = words.index("--face_images_dir")
        words = words[:at] + words[at + 2 :]
    refused_alike(words, part)


@pytest.mark.fault("W4")
def test_a_checkpoint_that_cannot_be_used_is_refused_by_both(toy_inputs, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for file in folder.glob("checkpoints/*/exp_avg.safetensors"):
        file.write_bytes(b"damaged")
    refused_alike(words_of(toy_inputs, folder), "none of 1 checkpoints can be used")


def as_if_done(folder, step):
    """The same checkpoint, said to be of a later step."""
    from faceid.training.checkpoints import checkpoint

    (kept,) = (folder / "checkpoints").glob("step_*")
    state = {**checkpoint.verify(kept), "step": step}
    tensors = checkpoint.read_tensors(kept)
    checkpoint.save(folder / "checkpoints", tensors, state, keep=2)


@pytest.mark.fault("W4")
def test_an_adapter_that_is_not_whole_is_refused_by_both(toy_inputs, tmp_path):
    shipped = resolve_adapter_path("toy")
    with safe_open(shipped, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, "zz": tensors["face_mapper.norm.bias"].clone()}, tmp_path / "a.safetensors", metadata=header)
    words = [*words_of(toy_inputs, tmp_path / "run"), "--init_adapter", tmp_path / "a.safetensors"]
    refused_alike(words, "a.safetensors: 1 unknown keys, the first is zz")


def test_what_would_not_be_refused_is_not_said_to_be(toy_inputs, trained, tmp_path):
    code, lines = ended(*words_of(toy_inputs, tmp_path / "new" / "run"), "--dry_run")
    assert code == 0 and "nothing would be refused" in lines and not (tmp_path / "new").exists()
    code, lines = ended(*words_of(toy_inputs, trained), "--dry_run")
    assert code == 0 and "nothing would be refused" in lines


@pytest.mark.fault("W4")
def test_a_folder_in_use_is_refused_by_both(toy_inputs, tmp_path):
    from faceid.training.world.attempts import Attempt
    from faceid.training.world.fence import Fence

    with Fence(tmp_path / "run", Attempt("7", 1)):
        refused_alike(words_of(toy_inputs, tmp_path / "run"), f"in use by Slurm job 7.1, process {os.getpid()}")


# --- what launchers say ----------------------------------------------------------------------------------------------


@pytest.mark.fault("W5")
@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "abc", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": ""},
        {"RANK": "0", "WORLD_SIZE": "two"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "0"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1.5"},
        {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "http"},
        {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "70000"},
        {"RANK": "0", "WORLD_SIZE": "1", "SLURM_STEP_NUM_NODES": "2-3"},
        {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "x"},
        {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2(x3)"},
        {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "", "SLURM_LOCALID": "0"},
        {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
    ],
    ids=lambda environment: " ".join(f"{key}={value}" for key, value in environment.items()),
)
def test_a_number_of_a_launcher_that_is_none_is_named(tmp_path, environment):
    with pytest.raises(ConfigError) as error:
        read_launch(None, tmp_path, dict(environment))
    assert any(f"{key}=" in one_line(error.value) for key in [*environment, "WORLD_SIZE", "SLURM_LOCALID"])


@pytest.mark.fault("W5")
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_and_the_command_says_it_in_one_line(toy_inputs, tmp_path, monkeypatch, name):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "abc")
    refused = ended(*words_of(toy_inputs, tmp_path / "run"))
    assert refused[0] == 2 and any(line.startswith(f"error: {name}='abc'") for line in refused[1])


@pytest.mark.fault("W5")
def test_processes_that_cannot_meet_are_told_so_by_both(toy_inputs, tmp_path, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    refused_alike(words_of(toy_inputs, tmp_path / "run"), "MASTER_ADDR and MASTER_PORT do not say")


@pytest.mark.fault("W4")
def test_a_precision_that_wan_overflows_in_is_refused_before_any_work(toy_inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    refused_alike(words_of(toy_inputs, tmp_path / "run"), "mixed_precision=fp16")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.fault("W5")
@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "{" * 5000,
        "- a\n- b",
        "distributed_type: [DEEPSPEED]",
        "distributed_type: DEEPSPEED\ndeepspeed_config: [2]",
        "distributed_type: DEEPSPEED\ndeepspeed_config: two",
        "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: [2]",
        "distributed_type: DEEPSPEED\ndeepspeed_config:\n  1: 2\n  zero_stage: 2",
        BOMB + "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: *i",
        BOMB + "mixed_precision: *i",
        BOMB + "distributed_type: *i",
        "mixed_precision: \x00",
    ],
    ids=range(12),
)
def test_an_accelerate_config_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(FaceidError) as error:
        read_accelerate_config(tmp_path / "c.yaml")
    assert "accelerate_config=" in one_line(error.value) and len(one_line(error.value)) < 600
    assert sys.getsizeof(one_line(error.value)) < 10_000


@pytest.mark.fault("W5")
def test_lines_that_are_no_records_are_left_out(tmp_path):
    from faceid.training.measuring.metrics import cut_lines_after, read_metrics
    from faceid.training.world.attempts import Attempt, Attempts

    junk = ["[]", "1", "null", '"x"', "{}", '{"step": "two"}', "[" * 100_000]
    record = {"step": 3, "attempt": "7.0", "event": "started"}
    for name in ("metrics.jsonl", "attempts.jsonl"):
        (tmp_path / name).write_text("".join(line + "\n" for line in [*junk, json.dumps(record)]))
    cut_lines_after(tmp_path / "metrics.jsonl", 5)
    assert read_metrics(tmp_path / "metrics.jsonl") == [record]
    assert Attempts(tmp_path, Attempt("7")).read() == [record]


@pytest.mark.fault("W5")
def test_a_folder_named_stop_that_is_made_while_it_trains_stops_the_run(tmp_path, caplog):
    import logging

    from faceid.training.world.stop import StopFlag

    logging.getLogger("faceid").propagate = True
    with process_state_kept():
        flag = StopFlag(tmp_path, is_main=True)
        assert not flag.is_asked()
        (tmp_path / "STOP" / "mine").mkdir(parents=True)
        assert flag.is_asked() and flag.is_asked()
    assert (tmp_path / "STOP" / "mine").is_dir() and caplog.text.count("cannot be removed") == 1
