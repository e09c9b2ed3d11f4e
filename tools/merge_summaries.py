"""Join the summary.json of several evaluations into one: what the first leaves empty is taken from the next."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import DataError, run_entry_point
from faceid.provenance import write_json


@dataclass(frozen=True)
class MergeSettings:
    """Which summaries, and where the joined one goes."""

    summaries: list[Path]
    """summary.json files, the most important first."""
    output: Path
    """The joined summary.json."""
    wall_s: float | None = None
    """Seconds the whole took. Default: the sum of the summaries' own."""


def main(argv: list[str] | None = None) -> int:
    """Parse, join, print."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/merge_summaries.py", __doc__ or "", [MergeSettings], words)
    read = [_read(path) for path in settings.summaries]
    joined: dict[str, Any] = {}
    for summary in read:
        joined.update({key: value for key, value in summary.items() if joined.get(key) is None})
    seconds = [summary.get("wall_s") or 0.0 for summary in read]
    joined["wall_s"] = round(settings.wall_s if settings.wall_s is not None else sum(seconds), 1)
    write_json(settings.output, joined)
    for key, value in joined.items():
        if not isinstance(value, dict):
            print(f"  {key:<36} {value:.3f}" if isinstance(value, float) else f"  {key:<36} {value}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"summaries={path}: cannot be read: {error}; give a summary.json of tools/evaluate.py"
        ) from error


if __name__ == "__main__":
    run_entry_point(main)
