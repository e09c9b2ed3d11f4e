"""Find the dancer of a clip: in a table, else from an AIST name, else unknown.

`dancers.csv` beside the clips (UTF-8, first line `clip,dancer`) names them. Clips of one dancer share a name there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from faceid.data.aist import parse_aist_name, several_people
from faceid.data.video_files import VIDEO_SUFFIXES
from faceid.errors import DataError
from faceid.files.documents import DocumentError, read_csv

log = logging.getLogger(__name__)

DANCERS_NAME = "dancers.csv"


def read_dancers(path: Path, key: str | None = None) -> dict[str, str]:
    """Dancer by clip, with or without the clip's video ending. key: the flag that gave the table, for messages.

    Raises: DataError when the file cannot be read, lacks a column, or a line names no clip or no dancer.
    """
    named = f"{key}={path}" if key else str(path)
    try:
        rows = read_csv(path)
    except DocumentError as error:
        raise DataError(f"{named.removesuffix(str(path))}{error}") from error
    dancers: dict[str, str] = {}
    for number, row in rows:
        clip, dancer = (row.get(name, "").strip() for name in ("clip", "dancer"))
        if not clip or not dancer:
            raise DataError(f"{named}: line {number} has no clip or no dancer; the first line must be `clip,dancer`")
        stem = Path(clip).stem if Path(clip).suffix.lower() in VIDEO_SUFFIXES else clip
        if dancers.setdefault(stem, dancer) != dancer:
            raise DataError(f"{named}: line {number}: {clip} is of {dancer}, and of {dancers[stem]} before; name one")
    return dancers


def dancers_beside(videos_dir: Path, stems: set[str]) -> dict[str, str]:
    """The table beside the videos, empty when there is none. A message names clips in it that are not there."""
    path = videos_dir / DANCERS_NAME
    table = read_dancers(path) if path.is_file() else {}
    unknown = sorted(set(table) - stems)
    if unknown:
        log.warning("%s: names %d clips that are not in the folder, such as %s", path, len(unknown), unknown[0])
    return table


def dancer_of(stem: str, table: dict[str, str]) -> str | None:
    """The one dancer of a clip; None when the table and the name say nothing."""
    if stem in table:
        return table[stem]
    name = parse_aist_name(stem)
    return name.dancers[0] if name is not None and several_people(stem) is None else None


def why_left_out(stem: str, table: dict[str, str]) -> str | None:
    """Why a clip can teach no single face, by its AIST name; None when it can. A dancer in the table overrules it."""
    kind = None if stem in table else several_people(stem)
    if kind == "group":
        return "a group dance: several people in one picture"
    if kind == "show":
        return "a showcase, cypher or battle: several people in one picture"
    return None
