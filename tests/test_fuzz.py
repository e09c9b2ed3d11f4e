"""A small share of benchmarks/fuzz: every reader refuses in one line what it cannot read, and no more."""

from __future__ import annotations

import sys
import time

import pytest

pytestmark = pytest.mark.fault("W5")

# Those that load a base, and what is parsed by all flags of a command, are left to the benchmark.
LEFT_OUT = ("adapter .safetensors", "adapter .pth", "config .yaml", "sidecar")
COUNT = 25


@pytest.fixture(scope="module")
def fuzz_formats():
    """The benchmark as a module."""
    from benchmarks.fuzz import formats

    return formats


@pytest.mark.starts_process
def test_mutations_of_every_format_are_read_or_refused_in_one_line(fuzz_formats, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_formats, "FAILED", tmp_path / "failed")
    failures = {}
    for name in set(fuzz_formats.TARGETS) - set(LEFT_OUT):
        found = fuzz_formats.fuzz(name, COUNT, tmp_path, workers=1)
        failures |= {f"{name} {number}": why for number, why in found.failures.items()}
        assert sum(found.outcomes.values()) + len(found.failures) == COUNT
    assert failures == {}


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
def test_each_way_to_break_the_promise_is_noticed(fuzz_formats, tmp_path, monkeypatch, capsys, read, said):
    ends = [lambda folder, out: None, lambda folder, out: None, read, lambda folder, out: None]
    calls = iter(ends)

    def nth(folder, out):
        next(calls)(folder, out)

    from benchmarks.fuzz.targets import Target

    target = Target(lambda folder: {"a": b"a"}, lambda random, sample: {"a": random.randbytes(3)}, nth)
    monkeypatch.setitem(fuzz_formats.TARGETS, "a test's", target)
    monkeypatch.setattr(fuzz_formats, "FAILED", tmp_path / "failed")
    monkeypatch.setattr(fuzz_formats, "LONGEST_S", 1)
    monkeypatch.setattr(fuzz_formats, "LONGEST_STILL_S", 30 if read is _hang else 2)
    found = fuzz_formats.fuzz("a test's", 3, tmp_path, workers=1)
    number, why = next(iter(found.failures.items()))
    assert number == 1 and said in why and found.outcomes["read"] == 2
    assert (tmp_path / "failed" / "a_test's" / "1" / "a").is_file()
    assert '--only "a test\'s" --number 1' in capsys.readouterr().out
