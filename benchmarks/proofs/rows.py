"""Rows of a proof: what was promised, the bar, what was measured; printed, and written to benchmarks/records/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import RECORDS, REPOSITORY
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json


@dataclass
class Row:
    """One promise as it was seen. verdict: holds, falls short, not shown."""

    promise: str
    bar: str
    measured: str
    verdict: str
    seconds: float


# promise, bar, measured, whether it holds
Seen = tuple[str, str, str, bool]


def rows_of(seen: Sequence[Seen | Row], seconds: float) -> list[Row]:
    """Rows that were measured together, said at once; the first carries the seconds. What is a row stays as it is."""
    rows = []
    for number, one in enumerate(seen):
        row = one if isinstance(one, Row) else _row(*one, 0 if number else seconds)
        rows.append(row)
        if row is not one:
            print(f"{row.verdict}: {row.promise}: {row.measured}", flush=True)
    return rows


def _row(promise: str, bar: str, measured: str, holds: bool, seconds: float) -> Row:
    return Row(promise, bar, measured, "holds" if holds else "falls short", round(seconds, 1))


def memory_folder() -> str | None:
    """Where a proof's data lies best: in memory where that is a folder; None for the system's choice."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def conclude(name: str, rows: list[Row], is_full: bool, seconds: float, details: dict[str, Any]) -> int:
    """Print the rows and write prove_NAME[_full].json; the exit code: 1 when a promise falls short."""
    print()
    print_rows(rows)
    file = RECORDS / f"prove_{name}{'_full' if is_full else ''}.json"
    _name_lost_promises(file, rows)
    _write(file, ["prove", name], is_full, rows, seconds, details)
    print(f"\n{seconds:.0f} s in all; record in {file.relative_to(REPOSITORY)}")
    return int(any(row.verdict == "falls short" for row in rows))


def conclude_check(name: str, rows: Sequence[Row], argv: Sequence[str], seconds: float) -> int:
    """Of a part of a proof run alone: print, write NAME.json where --record asks for it; 1 when a row falls short."""
    print_rows(rows)
    if "--record" in argv:
        _write(RECORDS / f"{name}.json", [name], "--full" in argv, rows, seconds, {})
    return int(any(row.verdict == "falls short" for row in rows))


def print_rows(rows: Sequence[Row]) -> None:
    """A line for each."""
    for row in rows:
        print(f"{row.verdict.upper():<12} {row.seconds:>7.1f} s  {row.promise} [bar: {row.bar}]: {row.measured}")


def _name_lost_promises(file: Path, rows: Sequence[Row]) -> None:
    """A promise goes with the test that is marked with it: what the record has and these rows have not is said."""
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    for lost in sorted({row["promise"] for row in before} - {row.promise for row in rows}):
        print(f"in the record before, and not now: {lost}")


def _write(
    file: Path, command: list[str], is_full: bool, rows: Sequence[Row], seconds: float, details: dict[str, Any]
) -> None:
    about = {**describe_provenance(), "command": [*command, *(["--full"] if is_full else [])]}
    content = {**about, "sizes": "full" if is_full else "small", "seconds": round(seconds, 1)}
    write_json(file, {**content, "rows": [asdict(row) for row in rows], **details})
