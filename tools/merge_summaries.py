"""Join the summary.json of several evaluations into one.

Values that the first leaves empty come from the next.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.files.documents import parse_json, read_bytes
from faceid.files.outputs import refuse_file, write_output
from faceid.files.writing import json_text

# The key of the intervals, which are by the name of the figure beside them.
INTERVALS = "intervals"


@dataclass(frozen=True)
class MergeSettings:
    """Which summaries, and where the joined one goes."""

    summaries: list[Path]
    """summary.json files, the most important first."""
    output: Path
    """The joined summary.json."""
    verification: Path | None = None
    """A verification.json of tools/verify_encoder.py: its equal error rate becomes `encoder_eer`."""
    wall_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """Seconds that the whole took. Default: the sum of the summaries' own."""

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".json":
            raise ConfigError(f"output={self.output}: JSON is written; name a .json file")


def main(argv: list[str] | None = None) -> int:
    """Parse, join, print."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/merge_summaries.py", __doc__ or "", [MergeSettings], words)
    given = settings.summaries + ([settings.verification] if settings.verification is not None else [])
    refuse_file(settings.output, given)
    read = [_read(path) for path in settings.summaries]
    _refuse_other_judges(settings.summaries, read)
    joined: dict[str, Any] = {}
    for summary in read:
        joined = fill_gaps(joined, summary)
    if settings.verification is not None:
        joined = fill_gaps(joined, _read_eer(settings.verification))
    seconds = [summary.get("wall_s") or 0.0 for summary in read]
    joined["wall_s"] = round(settings.wall_s if settings.wall_s is not None else sum(seconds), 1)
    write_output(settings.output, json_text(joined))
    for key, value in joined.items():
        if not isinstance(value, dict):
            print(f"  {key:<36} {value:.3f}" if isinstance(value, float) else f"  {key:<36} {value}")
    return 0


def fill_gaps(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The first summary, with its empty values filled from the second, dictionary by dictionary.

    Of `intervals` only those whose figures are taken too are taken. Another evaluation's interval is not the figure's.
    """
    joined = dict(first)
    for key, value in second.items():
        held = first.get(key)
        if key == INTERVALS:
            joined[key] = {**(held or {}), **{name: of for name, of in value.items() if first.get(name) is None}}
        elif held is None:
            joined[key] = value
        elif isinstance(value, dict) and isinstance(held, dict):
            joined[key] = fill_gaps(held, value)
    return joined


def _refuse_other_judges(paths: list[Path], read: list[dict[str, Any]]) -> None:
    """Refuse summaries of different first recognisers. Their headlines would stand together as if one had judged."""
    first, *others = [summary.get("primary_recogniser") for summary in read]
    for path, judge in zip(paths[1:], others, strict=True):
        if judge != first:
            raise DataError(
                f"summaries={path}: its headlines are by {judge}, those of {paths[0]} by {first}; evaluate both with "
                "the same recognisers in the same order"
            )


def _read(path: Path, key: str = "summaries", expected: str = "a summary.json of tools/evaluate.py") -> dict[str, Any]:
    try:
        return parse_json(read_bytes(path), nan=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{key}={path}: cannot be read: {error}; give {expected}") from error


def _read_eer(path: Path) -> dict[str, Any]:
    """The equal error rate of a verification and its interval, under the summary's name."""
    expected = "a verification.json of tools/verify_encoder.py"
    rate = _read(path, "verification", expected).get("equal_error_rate")
    if not isinstance(rate, dict) or not isinstance(rate.get("value"), float):
        raise DataError(f"verification={path}: has no equal_error_rate; give {expected}")
    return {"encoder_eer": rate["value"], INTERVALS: {"encoder_eer": [rate["low"], rate["high"]]}}


if __name__ == "__main__":
    run_entry_point(main)
