"""Read the rows of a job list as they were written.

A list is .jsonl with an object a line, or .csv with a first line of names. A row that cannot be read is one bad row,
and the rows after it are read. Nothing is guessed. Cells and texts come out as they stand in the file, with line
breaks. A value has the type that its row wrote.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from faceid.errors import DataError
from faceid.files.documents import DocumentError, parse_json, read_bytes

KEYS = ("pose", "identity", "seed", "prompt", "negative_prompt", "face_lora_path", "output")
# Bytes of a million rows of 200 characters.
LARGEST_LIST = 256 << 20
NOT_UTF8 = "is not UTF-8; save the list as UTF-8"
# Characters of a row that a message shows at most.
MOST_SHOWN = 60

# A row's first line and its content, or why the row is bad.
Row = tuple[int, dict[str, Any] | DataError]


def read_rows(path: Path) -> Iterator[Row]:
    """Every row that is not empty, in order. Raises: DataError for a file that is no list at all."""
    try:
        # Line breaks may be part of a cell, so none is translated. A byte that is not UTF-8 spoils its row alone.
        text = read_bytes(path, LARGEST_LIST).removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    except (OSError, DocumentError) as error:
        raise DataError(f"jobs={path}: cannot be read ({error})") from error
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(path, text)
    elif path.suffix.lower() == ".jsonl":
        yield from _json_rows(path, text)
    else:
        raise DataError(f"jobs={path}: is neither .jsonl nor .csv")


def shown(value: object) -> str:
    """A value as a message shows it: on one line, printable whatever it holds, and shortened."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text)} characters)"


def unknown_key(key: object) -> str:
    """The message for a key that no row may have."""
    near = difflib.get_close_matches(str(key)[:MOST_SHOWN], KEYS, 1)
    return f"unknown key {shown(key)}" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}")


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    # Only line feeds split lines. U+2028 and its like are text inside JSON.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"jobs={path}, line {number}"
        if _is_foreign(line):
            yield number, DataError(f"{where}: {NOT_UTF8}")
            continue
        try:
            row = parse_json(line, None)
        except DocumentError as error:
            yield number, DataError(f"{where}: is not JSON of a row ({error})")
        else:
            said = f'{where}: is not an object such as {{"pose": "a_pose.mp4"}}'
            yield number, row if isinstance(row, dict) else DataError(said)


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    records = _csv_records(path, list(io.StringIO(text, newline="")))
    names: list[str] | None = None
    for number, cells in records:
        if names is None:
            if isinstance(cells, DataError):
                raise cells
            names = _csv_names(path, cells)
        elif isinstance(cells, DataError):
            yield number, cells
        elif any(map(_is_foreign, cells)):
            yield number, DataError(f"jobs={path}, line {number}: {NOT_UTF8}")
        elif len(cells) > len(names):
            yield number, DataError(f"jobs={path}, line {number}: more cells than the first line has names")
        else:
            yield number, {name: _cell(name, cell) for name, cell in zip(names, cells, strict=False) if cell != ""}


def _is_foreign(text: str) -> bool:
    """Whether some bytes of the text were not UTF-8. They have become half characters."""
    return re.search("[\udc80-\udcff]", text) is not None


def _csv_names(path: Path, names: list[str]) -> list[str]:
    for name in names:
        if name not in KEYS:
            raise DataError(f"jobs={path}, line 1: {unknown_key(name)}")
        if names.count(name) > 1:
            raise DataError(f"jobs={path}, line 1: {name} is there twice; keep one of the columns")
    return names


def _csv_records(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, list[str] | DataError]]:
    """Records with the number of their first line. After an unreadable one the next line begins another record."""
    at = 0
    while at < len(lines):
        # Each record has a reader, because after an error a reader's own place in the file is lost.
        reader = csv.reader((lines[number] for number in range(at, len(lines))), strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            why = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
            yield at + 1, DataError(f"jobs={path}, line {at + 1}: is not a row of csv ({why}); correct it")
            at += 1
            continue
        if cells:
            yield at + 1, cells
        at += reader.line_num


def _cell(name: str, cell: str) -> Any:
    """A csv cell: a list if it is one in JSON, a seed if it is a whole number, else its text."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return parse_json(cell, None)
        except DocumentError:
            return cell
    digits = cell.strip(" ")
    is_whole = digits.removeprefix("-").isascii() and digits.removeprefix("-").isdigit()
    return int(digits) if name == "seed" and is_whole and len(digits) < MOST_SHOWN else cell
