"""Rows of a proof: what was promised, the bar, what was measured; printed, and written to benchmarks/records/."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceid.provenance import describe_provenance, write_json

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


def conclude(name: str, rows: list[Row], is_full: bool, seconds: float, details: dict[str, Any] | None = None) -> int:
    """Print the rows and write prove_NAME[_full].json; the exit code: 1 when a promise falls short."""
    print()
    for row in rows:
        print(f"{row.verdict.upper():<12} {row.seconds:>7.1f} s  {row.promise} [bar: {row.bar}]: {row.measured}")
    file = RECORDS / f"prove_{name}{'_full' if is_full else ''}.json"
    record = {**describe_provenance(), "sizes": "full" if is_full else "small", "seconds": round(seconds, 1)}
    write_json(file, {**record, "rows": [asdict(row) for row in rows], **(details or {})})
    print(f"\n{seconds:.0f} s in all; record in {file.relative_to(REPOSITORY)}")
    return int(any(row.verdict == "falls short" for row in rows))
