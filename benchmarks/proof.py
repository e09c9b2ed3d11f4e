"""Rows of a proof: what was promised, the bar, what was measured; printed, and written to benchmarks/records/."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "benchmarks" / "records"


@dataclass
class Row:
    """One promise as it was seen. verdict: holds, falls short, not shown."""

    promise: str
    bar: str
    measured: str
    verdict: str
    seconds: float


@dataclass(frozen=True)
class Promise:
    """One row. tests: pytest node ids; a file or a test, without parameters."""

    promise: str
    bar: str
    tests: tuple[str, ...]
    longest_s: float | None = None


# promise, bar, measured, whether it holds
Seen = tuple[str, str, str, bool]


def rows_of(seen: Sequence[Seen], seconds: float) -> list[Row]:
    """Rows that were measured together, said at once; the first carries the seconds."""
    rows = []
    for number, (promise, bar, measured, holds) in enumerate(seen):
        verdict = "holds" if holds else "falls short"
        rows.append(Row(promise, bar, measured, verdict, round(0 if number else seconds, 1)))
        print(f"{verdict}: {promise}: {measured}", flush=True)
    return rows


def row_of_time(longest_s: float, seconds: float) -> list[Row]:
    """Whether a proof at its default size kept its time."""
    return rows_of(
        [("this proof at its default size", f"<= {longest_s} s", f"{seconds:.0f} s", seconds <= longest_s)], 0
    )


def memory_folder() -> str | None:
    """Where a proof's data lies best: in memory where that is a folder; None for the system's choice."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def conclude(name: str, rows: list[Row], is_full: bool, seconds: float, details: dict[str, Any] | None = None) -> int:
    """Print the rows and write prove_NAME[_full].json; the exit code: 1 when a promise falls short."""
    print()
    print_rows(rows)
    file = RECORDS / f"prove_{name}{'_full' if is_full else ''}.json"
    record = {**describe_provenance(), "sizes": "full" if is_full else "small", "seconds": round(seconds, 1)}
    write_json(file, {**record, "rows": [asdict(row) for row in rows], **(details or {})})
    print(f"\n{seconds:.0f} s in all; record in {file.relative_to(REPOSITORY)}")
    return int(any(row.verdict == "falls short" for row in rows))


def print_rows(rows: Sequence[Row]) -> None:
    """A line for each."""
    for row in rows:
        print(f"{row.verdict.upper():<12} {row.seconds:>7.1f} s  {row.promise} [bar: {row.bar}]: {row.measured}")


def conclude_check(name: str, rows: Sequence[Row], argv: Sequence[str], seconds: float) -> int:
    """Of a part of a proof run alone: print, write NAME.json where --record asks for it; 1 when a row falls short."""
    print_rows(rows)
    if "--record" in argv:
        about = {**describe_provenance(), "sizes": "full" if "--full" in argv else "small"}
        content = {**about, "seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
        write_json(RECORDS / f"{name}.json", content)
    return int(any(row.verdict == "falls short" for row in rows))


def run_tests(tests: list[str], is_full: bool, processes: int = 1) -> list[ElementTree.Element]:
    """All tests in one pytest run; their junit cases. processes: that share them by their xdist_group."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FACEID_SIZES": "full" if is_full else "small"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-v", "-o", "junit_family=xunit1", f"--junitxml={report}", *tests]
        if processes > 1:
            command += ["-n", str(processes), "--dist", "loadgroup"]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)
        return list(ElementTree.parse(report).getroot().iter("testcase"))


def judge_tests(promise: Promise, cases: list[ElementTree.Element]) -> Row:
    """What a promise's tests say of it, and the figures they measured."""
    mine = [case for case in cases if any(_belongs(case, test) for test in promise.tests)]
    seconds = sum(float(case.get("time", 0)) for case in mine)
    failed = [case for case in mine if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in mine if case.find("skipped") is not None]
    figures = [p.get("value", "") for case in mine for p in case.iter("property") if p.get("name") == "measured"]
    measured = (
        "; ".join(dict.fromkeys(figures)) or f"{len(mine) - len(failed) - len(skipped)} of {len(mine)} checks pass"
    )
    too_slow = promise.longest_s is not None and seconds > promise.longest_s
    if not mine or failed or too_slow:
        verdict = "falls short"
        measured += f"; failed: {', '.join(case.get('name', '') for case in failed)}" if failed else ""
    elif len(skipped) == len(mine):
        reason = next(iter(skipped[0])).get("message", "")
        verdict, measured = "not shown", f"skipped: {reason}"
    else:
        verdict = "holds"
    return Row(promise.promise, promise.bar, measured, verdict, round(seconds, 1))


def _belongs(case: ElementTree.Element, test: str) -> bool:
    file, _, name = test.partition("::")
    is_file = (case.get("file") or "").replace(os.sep, "/") == file
    return is_file and (not name or (case.get("name") or "").split("[")[0] == name)
