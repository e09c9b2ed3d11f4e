"""Who dances in each driving clip, so that it can be measured how much of the driver shows in a render."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from faceid.data.dancers import dancer_of, read_dancers


def find_drivers(clips: Iterable[str], drivers_csv: Path | None) -> dict[str, str]:
    """Dancer by clip, for clips of one known dancer: from the table, else from AIST names.

    Raises: DataError when the table is missing or has no columns clip,dancer.
    """
    table = read_dancers(drivers_csv, "drivers_csv") if drivers_csv is not None else {}
    found = {clip: dancer_of(clip, table) for clip in sorted(set(clips))}
    return {clip: dancer for clip, dancer in found.items() if dancer is not None}
