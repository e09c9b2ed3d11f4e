"""benchmarks/fuzz: every reader refuses in one line what it cannot read, and no more. Proofs take more of each."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest
from launching import SIZES

from benchmarks.fuzz import formats
from benchmarks.fuzz.targets import Target
from benchmarks.proofs.rows import memory_folder

pytestmark = pytest.mark.fault("W5")

COUNT = {"tests": 25, "small": 40, "full": 2_000}[SIZES]
# They load a base, or are parsed by all flags of a command.
IN_PROOF_ONLY = dict.fromkeys(
    ("adapter .safetensors", "adapter .pth", "config .yaml", "sidecar"),
    pytest.mark.proof_only("loads a base, or all flags of a command", proof="nothing_lost"),
)


def of_format(name):
    """A format as a parameter, with what is promised of it."""
    said = f"{name}: {COUNT} mutations read or refused in one line, in {formats.LONGEST_S} s and 2 GB, no write outside"
    promise = pytest.mark.promise(said, bar="none fails", proof="nothing_lost")
    return pytest.param(name, marks=[promise, *([IN_PROOF_ONLY[name]] if name in IN_PROOF_ONLY else [])])


@pytest.mark.starts_process
@pytest.mark.parametrize("name", map(of_format, formats.TARGETS))
def test_mutations_are_read_or_refused_in_one_line(name, tmp_path, monkeypatch, record_property):
    # What fails in a proof is kept, to be done again.
    if SIZES == "tests":
        monkeypatch.setattr(formats, "FAILED", tmp_path / "failed")
    with tempfile.TemporaryDirectory(dir=memory_folder()) as work:
        found = formats.fuzz(name, COUNT, Path(work), workers=1 if SIZES == "tests" else formats.WORKERS)
    kinds = ", ".join(f"{outcome} {count}" for outcome, count in sorted(found.outcomes.items()))
    record_property("measured", f"{len(found.failures)} of {COUNT} fail ({kinds})")
    assert found.failures == {}
    assert sum(found.outcomes.values()) == COUNT


def _hang(folder, out):
    while True:
        pass


def _wait(folder, out):
    time.sleep(60)


def _allocate(folder, out):
    try:
        bytearray(3 << 30)
    except MemoryError as error:
        from faceid.errors import DataError

        raise DataError("well refused, it seems") from error


def _write(folder, out):
    (out / "mine").write_text("allowed")
    (folder.parent / "x").write_text("not allowed")


def _die(folder, out):
    import os

    os.kill(os.getpid(), 9)


@pytest.mark.starts_process
@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda folder, out: {}["a"], "KeyError: 'a'"),
        (_hang, "not done after 1 s"),
        (_wait, "stood still for 2 s"),
        (_allocate, "asked for over 2 GB"),
        (_write, "wrote to"),
        (_die, "the process died (SIGKILL)"),
        (lambda folder, out: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_each_way_to_break_the_promise_is_noticed(tmp_path, monkeypatch, capsys, read, said):
    ends = [lambda folder, out: None, lambda folder, out: None, read, lambda folder, out: None]
    calls = iter(ends)

    def nth(folder, out):
        next(calls)(folder, out)

    target = Target(lambda folder: {"a": b"a"}, lambda random, sample: {"a": random.randbytes(3)}, nth)
    monkeypatch.setitem(formats.TARGETS, "a test's", target)
    monkeypatch.setattr(formats, "FAILED", tmp_path / "failed")
    monkeypatch.setattr(formats, "LONGEST_S", 1)
    monkeypatch.setattr(formats, "LONGEST_STILL_S", 30 if read is _hang else 2)
    found = formats.fuzz("a test's", 3, tmp_path, workers=1)
    number, why = next(iter(found.failures.items()))
    assert number == 1 and said in why and found.outcomes["read"] == 2
    assert (tmp_path / "failed" / "a_test's" / "1" / "a").is_file()
    assert '--only "a test\'s" --number 1' in capsys.readouterr().out
