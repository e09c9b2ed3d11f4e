"""Whether a job that ended is tried again: by what was gained, not by hope."""

from __future__ import annotations

import json
import sys

import pytest
from calling import call
from launching import run_command

from faceid.training.world.attempts import (
    BY_FILE,
    FINISHED,
    STARTED,
    STOPPED,
    Attempt,
    Attempts,
    judge_attempt,
    read_attempt,
)
from faceid.training.world.checkpoint_names import name_of


def train_to(folder, attempt, start, step, event=None, **details):
    """An attempt's traces: it began at `start` and left a checkpoint of `step`."""
    attempts = Attempts(folder, attempt)
    attempts.add(STARTED, start)
    if step:
        (folder / "checkpoints" / name_of(step)).mkdir(parents=True, exist_ok=True)
    if event:
        attempts.add(event, step, details)


def test_an_attempt_is_a_job_and_its_restarts():
    assert str(read_attempt({})) == "local"
    assert read_attempt({"SLURM_JOB_ID": "7"}) == Attempt("7", 0)
    assert str(read_attempt({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"})) == "7.2"
    assert Attempt("7", 2).supersedes("7.1") and Attempt("7", 2).supersedes("7.0")
    for other in ("7.2", "7.3", "8.0", "local", "70.1", ""):
        assert not Attempt("7", 2).supersedes(other)
    assert not Attempt().supersedes("local")


def test_a_stop_or_a_crash_with_steps_gained_goes_on(tmp_path):
    train_to(tmp_path, Attempt("7", 0), 0, 40, STOPPED, by="SIGUSR2", asked_for_s=1.0)
    assert judge_attempt(tmp_path, Attempt("7", 0), 75, 3).why == "40 steps gained, 40 done"
    train_to(tmp_path, Attempt("7", 1), 40, 60)
    for exit_code in (1, 137, 143):
        verdict = judge_attempt(tmp_path, Attempt("7", 1), exit_code, 3)
        assert verdict.goes_on and verdict.why == "20 steps gained, 60 done"


@pytest.mark.parametrize(("exit_code", "said"), [(0, "finished"), (2, "`error:`"), (130, "by hand")])
def test_what_would_end_the_same_way_does_not(tmp_path, exit_code, said):
    train_to(tmp_path, Attempt("7", 0), 0, 40, FINISHED)
    verdict = judge_attempt(tmp_path, Attempt("7", 0), exit_code, 3)
    assert not verdict.goes_on and said in verdict.why


def test_a_person_s_stop_is_obeyed_though_steps_were_gained(tmp_path):
    train_to(tmp_path, Attempt("7", 0), 0, 40, STOPPED, by=BY_FILE, asked_for_s=0.1)
    verdict = judge_attempt(tmp_path, Attempt("7", 0), 75, 3)
    assert not verdict.goes_on and "stopped at step 40 by the file STOP" in verdict.why


def test_attempts_without_a_gain_end_and_a_gain_begins_the_count_anew(tmp_path):
    train_to(tmp_path, Attempt("7", 0), 0, 40)
    assert judge_attempt(tmp_path, Attempt("7", 0), 1, 3).goes_on
    said = []
    for restarts in (1, 2):
        train_to(tmp_path, Attempt("7", restarts), 40, 0)
        said.append(judge_attempt(tmp_path, Attempt("7", restarts), 1, 3))
    train_to(tmp_path, Attempt("7", 3), 40, 44)
    said.append(judge_attempt(tmp_path, Attempt("7", 3), 1, 3))
    for restarts in (4, 5, 6):
        # Not even begun: it died in its imports.
        said.append(judge_attempt(tmp_path, Attempt("7", restarts), 143, 3))
    assert [verdict.goes_on for verdict in said] == [True, True, True, True, True, False]
    assert said[0].why == "exit code 1 and no step gained; attempt 1 of 3 so"
    assert "3 attempts in a row ended (now with exit code 143) and left no checkpoint beyond step 44" in said[-1].why


def test_another_job_in_the_same_folder_has_a_count_of_its_own(tmp_path):
    for restarts in range(3):
        judge_attempt(tmp_path, Attempt("7", restarts), 1, 3)
    assert judge_attempt(tmp_path, Attempt("8", 0), 1, 3).goes_on


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    train_to(tmp_path, Attempt("7", 0), 0, 40)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('{"attempt": "7.0", "ev')
    assert [line["event"] for line in Attempts(tmp_path, Attempt()).read()] == [STARTED]


@pytest.mark.starts_process
def test_the_tool_takes_the_run_folder_from_the_training_flags(tmp_path):
    config = tmp_path / "a config.yaml"
    config.write_text("model_path: toy\nface_images_dir: p\nlatents: l\n")
    run = tmp_path / "it's a run"
    train_to(run, Attempt("7", 0), 0, 40)
    command = [sys.executable, "tools/judge_attempt.py", "--config", str(config), "--output_dir", str(run)]
    environment = {"SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
    codes = []
    for exit_code in ("75", "2"):
        done = run_command([*command, "--exit_code", exit_code], expect=None, env=environment)
        codes.append(done.returncode)
    assert codes == [0, 1] and "attempt 7.0: refused" in done.stdout
    last = json.loads((run / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "ended" and last["exit_code"] == 2 and last["goes_on"] is False


@pytest.mark.parametrize("has_file", [True, False])
def test_the_tool_leaves_all_other_flags_of_training_and_its_files(tmp_path, monkeypatch, has_file):
    """A batch script hands it all that train.py was given; what training refuses is training's to say."""
    config = tmp_path / "config.yaml"
    config.write_text(f"output_dir: {tmp_path}\nlatents: [a, b]\nnum_epochs: 3\nunknown: 1\n")
    place = ["--config", str(config)] if has_file else [f"--output_dir={tmp_path}", "--config", str(config)]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    words = "--latents [a,b] --compile --learning_rate -1 --no_such_flag x --most_attempts 1".split()
    ended = call("tools/judge_attempt.py", "--exit_code", "-9", *words, *place)
    assert ended.code == 1 and "attempt 7.0: 1 attempts in a row" in ended.screen
    assert "--learning_rate" not in call("tools/judge_attempt.py", "--help").screen
    missing = call("tools/judge_attempt.py", "--exit_code", "1", *words)
    assert missing.code == 2 and "output_dir" in missing.error
    config.write_text("output_dir: [1")
    assert "not YAML" in call("tools/judge_attempt.py", "--exit_code", "1", *words, "--config", str(config)).error
