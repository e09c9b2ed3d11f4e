"""Who dances in each driving clip, so that it can be measured how much of the driver shows in a render."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from faceid.data.aist_names import parse_aist_name
from faceid.data.pairs import VIDEO_SUFFIXES
from faceid.errors import DataError


def find_drivers(clips: Iterable[str], drivers_csv: Path | None) -> dict[str, str]:
    """Dancer by clip, for clips of one known dancer: from the table, else from AIST names.

    Raises: DataError when the table is missing or has no columns clip,dancer.
    """
    listed = _read_table(drivers_csv) if drivers_csv is not None else {}
    drivers = {}
    for clip in sorted(set(clips)):
        name = parse_aist_name(clip)
        if clip in listed:
            drivers[clip] = listed[clip]
        elif name is not None and len(name.dancers) == 1:
            drivers[clip] = name.dancers[0]
    return drivers


def _read_table(path: Path) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"drivers_csv={path}: cannot be read as a CSV file in UTF-8: {error}") from error
    drivers = {}
    for number, row in enumerate(rows, start=2):
        clip, dancer = ((row.get(name) or "").strip() for name in ("clip", "dancer"))
        if not clip or not dancer:
            raise DataError(
                f"drivers_csv={path}: line {number} has no clip or no dancer; the first line must be `clip,dancer`"
            )
        drivers[Path(clip).stem if Path(clip).suffix.lower() in VIDEO_SUFFIXES else clip] = dancer
    return drivers
