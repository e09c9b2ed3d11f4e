"""What became of each film: a record that makes its clips count, and the summary over all of them.

A record (`films/<film>.json`) is written after a film's clips. It names what they were made from, so that a second run
keeps them, and says what was left out and why. At the end our clips that no record names are removed: whoever lists the
folder would train on them.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faceid.data.dancers import DANCERS_NAME, dancer_of
from faceid.data.films import Film, SplitSettings
from faceid.data.selection import LeftOut
from faceid.documents import parse_json
from faceid.errors import DataError
from faceid.outputs import recorded, remove_output, write_output
from faceid.provenance import sha256_json, sizes_and_times, write_provenance
from faceid.writing import write_json

log = logging.getLogger(__name__)

# Raised when the clips of a film change for the same film and settings.
RECIPE = 3
RECORDS_NAME, SKIPPED_NAME, SUMMARY_NAME = "films", "skipped.csv", "split.json"
CLIP_NAME = re.compile(r"(.+_clip_\d{3,})\..+")


def record_path(output_dir: Path, film: Film) -> Path:
    """Where a film's record is."""
    return output_dir / RECORDS_NAME / f"{film.stem}.json"


def current_record(output_dir: Path, film: Film, settings: SplitSettings) -> dict[str, Any] | None:
    """A film's record when it was made from the same film and settings and its clips are there."""
    try:
        record = parse_json(record_path(output_dir, film).read_bytes())
        is_current = record["inputs"] == inputs_of(film, settings)
        are_there = all((output_dir / f"{clip['name']}.mp4").is_file() for clip in record["clips"])
        return record if is_current and are_there else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def inputs_of(film: Film, settings: SplitSettings) -> str:
    """Names what decides a film's clips. Size and time of a film stand for its content: films are large."""
    files = [file for file in (film.path, film.keypoints) if file is not None]
    return sha256_json([RECIPE, asdict(settings), film.dancer, sizes_and_times(files)])


def finish_split(
    output_dir: Path, records: list[dict[str, Any]], left_out: list[LeftOut], settings: SplitSettings
) -> dict[str, Any]:
    """Remove our clips that no record names; write what was left out, who dances, and the summary; return that."""
    skipped = [(record["film"], entry) for record in records for entry in record["skipped"]]
    clips = [(clip["name"], record) for record in records for clip in record["clips"]]
    _remove_strangers(output_dir, {name for name, _ in clips}, {Path(record["film"]).stem for record in records})
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("film", "start_s", "reason"))
    rows.writerows((film, entry["start_s"], entry["reason"]) for film, entry in skipped)
    rows.writerows((entry.name, "", entry.reason) for entry in left_out)
    write_output(output_dir / SKIPPED_NAME, table.getvalue())
    named = [(name, record["dancer"]) for name, record in clips if dancer_of(name, {}) != record["dancer"]]
    if named:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([("clip", "dancer"), *named])
        write_output(output_dir / DANCERS_NAME, lines.getvalue())
    counts = Counter(entry["kind"] for _, entry in skipped)
    for kind, count in sorted(counts.items()):
        log.warning("%d left out: %s", count, kind)
    summary = {
        "settings": asdict(settings),
        "films": len(records),
        "clips": len(clips),
        "skipped": dict(sorted(counts.items())),
        "left_out": dict(sorted(Counter(entry.kind for entry in left_out).items())),
    }
    if not clips:
        example = skipped[0]
        raise DataError(f"{output_dir}: no clip came of {len(records)} films; {example[0]}: {example[1]['reason']}")
    write_provenance(output_dir, {"records": sha256_json(records)})
    write_json(output_dir / SUMMARY_NAME, summary)
    log.info(
        "%s: %d clips of %d films; what was left out and why: %s", output_dir, len(clips), len(records), SKIPPED_NAME
    )
    return summary


def refuse_losing_films(output_dir: Path, films: Sequence[Film], replace: bool) -> None:
    """To be called before any work. replace: whether the user said that other films' clips may go.

    Raises: DataError when the folder holds clips of films that take no part in this run, which would remove them.
    """
    others = sorted({path.stem for path in _records_in(output_dir)} - {film.stem for film in films})
    if others and not replace:
        raise DataError(
            f"output_dir={output_dir}: holds clips of {len(others)} films that do not take part in this run, such as "
            f"{others[0]}, and would lose them; name a new folder, or give --replace to remove them"
        )


def _remove_strangers(output_dir: Path, names: set[str], films: set[str]) -> None:
    for path in _records_in(output_dir):
        if path.stem not in films:
            path.unlink()
    ours = recorded(output_dir)
    for file in sorted(output_dir.iterdir()):
        match = CLIP_NAME.fullmatch(file.name)
        if match and match.group(1) not in names and file.is_file():
            # A file of that name that no record names is the user's own, or of before there were records.
            if file.name in ours:
                remove_output(file)
            else:
                log.warning("%s: not made here, and left where it is: whoever lists the folder finds it", file)


def _records_in(output_dir: Path) -> list[Path]:
    """Records of films, ours by what they say: a file of the user's in there is none."""
    found = []
    for path in sorted((output_dir / RECORDS_NAME).glob("*.json")):
        try:
            said = parse_json(path.read_bytes())
            if {"film", "inputs", "clips", "skipped"} <= said.keys():
                found.append(path)
        except (OSError, ValueError):
            continue
    return found
