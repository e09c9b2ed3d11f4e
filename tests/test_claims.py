"""Claims on a plain folder: one holder at a time, the dead are replaced, nothing is left undone."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import start
from warm_process import WarmProcess

from faceid.claims import Claims, refuse_without_links, share_work, take_work
from faceid.errors import DataError

# A worker: every unit takes a moment, is published under one name, and leaves a line that says who did it.
WORKER = """
import os, sys, time
from pathlib import Path
from faceid.claims import Claims, share_work
folder, num_units, unit_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
claims = Claims(folder / "claims", beat_s=0.1, stale_s=1.0)
names = [f"unit-{n:03d}" for n in range(num_units)]
for name in share_work(names, lambda name: (folder / "done" / name).exists(), claims):
    with (folder / "log").open("a") as log:
        log.write(f"begin {name} {os.getpid()} {time.monotonic()}\\n")
    time.sleep(unit_s)
    own = folder / f".{name}.{os.getpid()}"
    own.write_text(name)
    with (folder / "log").open("a") as log:
        log.write(f"end {name} {os.getpid()} {time.monotonic()}\\n")
    own.replace(folder / "done" / name)
"""


def start_worker(folder: Path, num_units: int, unit_s: float) -> WarmProcess | subprocess.Popen:
    (folder / "done").mkdir(exist_ok=True)
    return start([sys.executable, "-c", WORKER, str(folder), str(num_units), str(unit_s)])


def log_of(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def test_one_holder_at_a_time_and_the_next_after_release(tmp_path):
    first, second = (Claims(tmp_path) for _ in range(2))
    held = first.take("unit")
    assert held is not None and held.is_held() and second.take("unit") is None
    held.release()
    again = second.take("unit")
    assert again is not None and again.is_held() and not held.is_held()
    again.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.starts_process
def test_four_processes_share_the_work_and_do_each_unit_once(tmp_path):
    workers = [start_worker(tmp_path, 40, 0.02) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    begun = [row[1] for row in log_of(tmp_path) if row[0] == "begin"]
    assert sorted(begun) == [f"unit-{n:03d}" for n in range(40)]
    assert len({row[2] for row in log_of(tmp_path)}) == 4


@pytest.mark.starts_process
def test_a_killed_worker_s_units_are_taken_over(tmp_path):
    rng = random.Random(0)
    workers = [start_worker(tmp_path, 30, 0.05) for _ in range(3)]
    for _ in range(6):
        time.sleep(rng.uniform(0.1, 0.4))
        victim = rng.randrange(3)
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = start_worker(tmp_path, 30, 0.05)
    assert [worker.wait(60) for worker in workers] == [0] * 3
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == [f"unit-{n:03d}" for n in range(30)]
    ended = [row[1] for row in log_of(tmp_path) if row[0] == "end"]
    assert len(ended) == len(set(ended)), "a unit was done twice though its worker lived"


@pytest.mark.starts_process
def test_a_stopped_worker_is_replaced_after_it_has_been_silent_for_long(tmp_path):
    # Not dead: only its heartbeat says that it does nothing.
    slow = start_worker(tmp_path, 1, 0.2)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    slow.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert start_worker(tmp_path, 1, 0.01).wait(30) == 0
    waited = time.monotonic() - began
    assert (tmp_path / "done/unit-000").exists() and waited > 1.0
    slow.send_signal(signal.SIGCONT)
    assert slow.wait(30) == 0 and (tmp_path / "done/unit-000").read_text() == "unit-000"


@pytest.mark.starts_process
def test_a_long_unit_is_not_stolen_while_its_worker_beats(tmp_path):
    workers = [start_worker(tmp_path, 1, 3.0) for _ in range(2)]
    assert [worker.wait(30) for worker in workers] == [0, 0]
    assert [row[0] for row in log_of(tmp_path)] == ["begin", "end"]


@pytest.mark.starts_process
def test_a_claim_of_a_process_that_is_gone_is_taken_at_once(tmp_path):
    # An hour would have to pass by heartbeats alone.
    dead = start_and_kill_in_a_unit(tmp_path)
    assert (tmp_path / "claims/unit-000").exists()
    claims = Claims(tmp_path / "claims", stale_s=3600)
    assert claims.take("unit-000") is None  # the first look only remembers
    taken = claims.take("unit-000")
    assert taken is not None and taken.is_held()
    taken.release()
    assert dead != os.getpid()


@pytest.mark.starts_process
def test_a_claim_from_another_machine_waits_for_its_beats(tmp_path):
    start_and_kill_in_a_unit(tmp_path)
    claim = tmp_path / "claims/unit-000"
    said = json.loads(claim.read_text().splitlines()[0])
    claim.write_text(json.dumps({**said, "machine": "another"}) + "\n")
    claims = Claims(tmp_path / "claims", stale_s=0.5)
    assert claims.take("unit-000") is None and claims.take("unit-000") is None
    time.sleep(0.6)
    assert claims.take("unit-000") is not None


def start_and_kill_in_a_unit(folder: Path) -> int:
    worker = start_worker(folder, 1, 60)
    while not (folder / "log").exists():
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    return worker.pid


def test_work_given_back_by_an_error_is_free_again(tmp_path):
    claims = Claims(tmp_path)
    units = share_work(["a"], lambda name: False, claims)
    assert next(units) == "a"
    with pytest.raises(RuntimeError):
        units.throw(RuntimeError("the work failed"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.starts_process
def test_a_claim_made_anew_is_not_taken_for_the_old_one(tmp_path):
    # The new file may well have the old one's number and size.
    watcher = Claims(tmp_path / "claims", stale_s=0.3)
    start_and_kill_in_a_unit(tmp_path)
    claim = tmp_path / "claims/unit-000"
    said = json.loads(claim.read_text().splitlines()[0])
    line = json.dumps({**said, "machine": "another"}) + "\n"
    claim.write_text(line)
    assert watcher.take("unit-000") is None
    time.sleep(0.35)
    claim.write_text(line)
    assert watcher.take("unit-000") is None


def test_a_unit_that_takes_long_elsewhere_is_done_by_one_more_worker(tmp_path):
    """Where it may be: its holder lives, and beats."""
    slow, first, second = (Claims(tmp_path, beat_s=0.05, stale_s=60, worker=name) for name in "abc")
    held, done = slow.take("a"), set()
    assert held is not None
    began = time.monotonic()
    units = take_work(["a"], lambda name: name in done, first, again_after=lambda name: 0.3)
    name, claim = next(units)
    assert name == "a" and time.monotonic() - began >= 0.3
    # A third one leaves it to those two.
    assert second.take("again-a") is None and second.take("a") is None
    done.add("a")
    claim.release()
    assert list(units) == [] and list(share_work(["a"], lambda name: name in done, second)) == []
    held.release()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.fault("8")
def test_a_claim_that_beat_between_the_look_and_the_theft_is_given_back(tmp_path):
    """Stealing renames first and looks again then: who was only slow must find the claim where it was."""
    slow, thief = Claims(tmp_path, stale_s=0), Claims(tmp_path, stale_s=0)
    held = slow.take("unit")
    assert held is not None and thief.take("unit") is None  # the first look only remembers
    rename = Path.rename

    def beats_first(self, target):
        with held._own.open("a") as file:
            file.write(".")
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", beats_first)
        assert thief.take("unit") is None
    assert held.is_held() and [path.name for path in tmp_path.glob("[!.]*")] == ["unit"]
    assert not list(tmp_path.glob(".stale*"))
    held.release()
    assert thief.take("unit") is not None


@pytest.mark.fault("W7")
def test_a_file_system_without_hard_links_is_told_before_the_work(tmp_path, monkeypatch):
    def none(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    refuse_without_links(tmp_path, "static")
    monkeypatch.setattr(os, "link", none)
    with pytest.raises(DataError, match=r"no hard links \(Operation not permitted\).*\(give --static\)"):
        refuse_without_links(tmp_path, "give --static")
    assert not list(tmp_path.iterdir())


@pytest.mark.fault("C2")
def test_units_are_taken_out_without_looking_at_the_others(tmp_path):
    class Counted(str):
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names, done = [Counted(f"unit-{number}") for number in range(500)], set()
    # One that others hold all the while stands before those that are done.
    claims = Claims(tmp_path)
    for name in share_work(names, lambda name: str(name) in done or str(name) != "unit-9", claims):
        done.add(str(name))
    assert done == {"unit-9"} and Counted.compared <= 20 * 500
