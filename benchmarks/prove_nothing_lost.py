"""Show, row by row, that nothing of the user's is lost, nothing wrong is trained on, and that tests would notice.

`make prove-nothing-lost` runs smaller sizes, `make prove-nothing-lost FULL=1` the stated ones. Ends non-zero when a
promise falls short; writes benchmarks/records/prove_nothing_lost[_full].json. As root: it mounts small disks.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import films_as_seen
import films_memory
import fuzz_formats
from proof import REPOSITORY, Promise, Row, Seen, conclude, judge_tests, row_of_time, rows_of, run_tests

sys.path.insert(0, str(REPOSITORY / "tests"))
import planted_faults

TESTED = (
    Promise(
        "every command that writes: output = input, a folder of the user's, a read-only disk, a full disk, killed, an "
        "older result",
        "the stated outcome of each; no file of the user's changes",
        ("tests/test_nothing_lost.py",),
    ),
    Promise(
        "a write killed before and after each of its calls",
        "the old state or the new one; the next command sweeps the rest",
        ("tests/files/test_outputs.py",),
    ),
    Promise(
        "a batch of renders, its cache, and a file that somebody sent",
        "deletes its own entries alone; no place to write is taken from a file",
        ("tests/sampling/test_folders_of_others.py", "tests/sampling/one_video/test_result_cache.py"),
    ),
    Promise(
        "a validation leaves no trace in a run, on one process, DDP and ZeRO-2, and when it is killed",
        "every tensor, scale, mode, hook and generator as before",
        ("tests/training/test_looking_leaves_no_trace.py", "tests/models/rendering/test_rendering_state.py"),
    ),
    Promise(
        "a dry run and a run refuse the same",
        "the same line for each refusal",
        ("tests/training/checks/test_refusals.py",),
    ),
)
LONGEST_TEST_S = 10.0
# Of the planted faults, every so many at the default size.
SMALL_EVERY = 8
LEAST_NOTICED = 0.95
LONGEST_DEFAULT_S = 600


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    began = time.perf_counter()
    details: dict[str, Any] = {"load_average_at_start": os.getloadavg()}
    cases = run_tests([test for promise in TESTED for test in promise.tests], is_full)
    rows: list[Row] = [judge_tests(promise, cases) for promise in TESTED]
    rows += films_as_seen.check(is_full)
    rows += films_memory.check(is_full)
    rows += fuzz_formats.check(is_full)
    rows += _planted(is_full, details)
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    return conclude("nothing_lost", rows, is_full, seconds, details)


def _planted(is_full: bool, details: dict[str, Any]) -> list[Row]:
    began = time.perf_counter()
    found = planted_faults.look_at(planted_faults.read_faults()[:: 1 if is_full else SMALL_EVERY])
    noticed = sum(each.noticed is True for each in found)
    missed = [each.fault.name for each in found if each.noticed is not True]
    details["planted"] = {each.fault.name: {"noticed": each.noticed, "test_s": round(each.test_s, 1)} for each in found}
    longest = max(found, key=lambda each: each.test_s)
    noticing: Seen = (
        "careless changes, planted one at a time, are noticed by the test that is named for each",
        f"at least {LEAST_NOTICED:.0%}",
        f"{noticed} of {len(found)}" + (f"; not: {', '.join(missed)}" if missed else ""),
        noticed >= LEAST_NOTICED * len(found),
    )
    short: Seen = (
        "the test that notices a planted fault is short (two at a time, without the inputs that tests share)",
        f"each under {LONGEST_TEST_S:.0f} s",
        f"the longest {longest.test_s:.1f} s: {longest.fault.name}",
        longest.test_s < LONGEST_TEST_S,
    )
    return rows_of([noticing, short], time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
