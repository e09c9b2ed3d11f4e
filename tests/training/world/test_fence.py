"""One attempt at a time writes into a run folder, and none that was taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from launching import start

from faceid.claims import CLAIMS_NAME
from faceid.errors import DataError
from faceid.training.measuring.metrics import Metrics, read_metrics
from faceid.training.world.attempts import Attempt
from faceid.training.world.fence import Fence, FencedError

HOLDER = """
import sys, time
from pathlib import Path
from faceid.training.world.attempts import Attempt
from faceid.training.world.fence import Fence
with Fence(Path(sys.argv[1]), Attempt(), beat_s=0.1):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A live process that holds tmp_path."""
    process = start([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.starts_process
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    began = time.monotonic()
    with pytest.raises(DataError, match=f"in use by process {holder.pid} on "):
        Fence(tmp_path, Attempt())
    assert time.monotonic() - began < 5
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Fence(tmp_path, Attempt()) as fence:
        fence.check()
    assert time.monotonic() - began < 10, "a process that is gone from this machine need not be waited for"


def test_a_folder_can_be_taken_again_after_release(tmp_path):
    for _ in range(2):
        with Fence(tmp_path / "new", Attempt("7")) as fence:
            fence.check()
    assert [path.name for path in (tmp_path / "new" / CLAIMS_NAME).iterdir()] == []


def test_a_later_start_of_the_same_job_takes_it_at_once_and_the_earlier_may_not_write(tmp_path):
    old = Fence(tmp_path, Attempt("7", 0))
    old.check()
    new = Fence(tmp_path, Attempt("7", 1))
    new.check()
    with pytest.raises(FencedError, match=r"taken over by Slurm job 7\.1, process .* this attempt \(7\.0\)"):
        old.check()
    old.__exit__(None, None, None)
    new.check()


def test_a_run_whose_folder_was_removed_says_so(tmp_path):
    fence = Fence(tmp_path / "run", Attempt("7", 0))
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(FencedError, match="run: was removed or renamed while the run was at work"):
        fence.check()


@pytest.mark.parametrize("attempt", [Attempt("7", 1), Attempt("8", 0), Attempt()])
def test_an_earlier_start_another_job_and_a_hand_are_refused_while_it_beats(tmp_path, attempt):
    with Fence(tmp_path, Attempt("7", 1), beat_s=0.05) as fence:
        with pytest.raises(DataError, match=r"in use by Slurm job 7\.1, process"):
            Fence(tmp_path, attempt, stale_s=30)
        fence.check()


def elsewhere(folder) -> None:
    """Let the claim look as one of another machine does."""
    (claim,) = [path for path in (folder / CLAIMS_NAME).iterdir() if not path.name.startswith(".")]
    text = claim.read_text().replace('"machine": "', '"machine": "another ')
    with claim.open("r+") as file:
        file.write(text)


def test_one_elsewhere_that_gives_no_sign_of_life_is_taken_over_from_after_a_while(tmp_path):
    dead = Fence(tmp_path, Attempt("7"), beat_s=1000)
    elsewhere(tmp_path)
    began = time.monotonic()
    with Fence(tmp_path, Attempt("8"), stale_s=1.0) as fence:
        assert 1.0 <= time.monotonic() - began < 5
        fence.check()
        with pytest.raises(FencedError):
            dead.check()


def test_one_elsewhere_that_beats_is_not(tmp_path):
    with Fence(tmp_path, Attempt("7"), beat_s=0.2) as alive:
        elsewhere(tmp_path)
        with pytest.raises(DataError, match=r"in use by Slurm job 7\.0"):
            Fence(tmp_path, Attempt("8"), stale_s=5)
        alive.check()


def test_a_file_in_the_folder_s_place_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(DataError, match="not a folder that can be written"):
        Fence(tmp_path / "run", Attempt())


def test_a_file_system_without_hard_links_is_one_line(tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(DataError, match="this file system has no hard links"):
        Fence(tmp_path, Attempt())
    assert list((tmp_path / CLAIMS_NAME).iterdir()) == []


@pytest.mark.slow
def test_a_fenced_attempt_writes_no_metrics(tmp_path):
    old = Fence(tmp_path, Attempt("7", 0))
    metrics = Metrics(tmp_path, is_main=True, start_step=0, tensorboard=False, fence=old)
    metrics.log(1, {"train/loss": 1.0})
    with Fence(tmp_path, Attempt("7", 1)):
        with pytest.raises(FencedError):
            metrics.log(2, {"train/loss": 1.0})
        metrics.close()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]
