"""Keep a whole result until its replacement is whole. New files wait in `.waiting` meanwhile.

Where a folder holds a finished result, a run writes into `.waiting`, and puts all in place at its end. A run that is
refused or killed leaves the old result unchanged. A folder that was never finished holds nothing whole. There a run
writes files straight to their places.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from faceid.errors import DataError, OutputError
from faceid.files.documents import find_json
from faceid.files.outputs import is_ours, remove_output
from faceid.files.records import RECORDS_NAME, record, sha256_file
from faceid.files.writing import fsync_folder, is_private, make_folder

log = logging.getLogger(__name__)

WAITING_NAME = ".waiting"


def waiting_place(folder: Path) -> Path:
    """Make and return the folder where a folder's next result waits. It is private where the folder is."""
    place = folder / WAITING_NAME
    make_folder(place, is_private(folder))
    return place


def place_for(folder: Path, summary_name: str, records_name: str) -> Path:
    """Where a unit's files and record are written. Beside a finished result, which has a summary, they wait."""
    place = waiting_place(folder) if (folder / summary_name).is_file() else folder
    (place / records_name).mkdir(exist_ok=True)
    return place


def record_in(folder: Path, name: str, is_current: Callable[[Path, dict[str, Any]], bool]) -> dict[str, Any] | None:
    """A unit's record of this name, in its place or waiting. is_current: whether it is true, by where it lies."""
    for place in (folder, folder / WAITING_NAME):
        record = find_json(place / name)
        if record is not None and is_current(place, record):
            return record
    return None


def refuse_other_settings(folder: Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse other settings before any work. before, now: the folder's and this run's settings, by their flags.

    Raises: DataError when they differ, because the run would replace the files made with the old settings.
    """
    other = [name for name in now if name in before and before[name] != now[name]]
    if other:
        wanted, found = (", ".join(f"{name}={said[name]}" for name in other) for said in (now, before))
        raise DataError(
            f"{wanted}: output_dir={folder} holds {what} made with {found}, and would lose them; name a new folder, or "
            "give --replace to remove them"
        )


def refuse_changed(files: Iterable[Path], why: str) -> None:
    """Refuse changed files before the first one is replaced or removed. why: what is to happen to them.

    Raises: OutputError naming the first existing file that is not as we wrote it.
    """
    for file in files:
        if (file.exists() or file.is_symlink()) and not is_ours(file):
            raise OutputError(
                f"{file}: not as this command wrote it, and {why}; it is left as it is: move it away, or name a new "
                "output folder"
            )


def put_in_place(folder: Path, digests: Mapping[str, str | None]) -> None:
    """Give waiting files their names. digests: the sha256 of each, by name, where it is known.

    Raises: OutputError when one would replace what is not ours. No file has been moved then.
    """
    place = folder / WAITING_NAME
    refuse_changed((folder / name for name in digests), "was to be replaced")
    record(folder, [(name, digest or sha256_file(place / name)) for name, digest in digests.items()])
    for name in digests:
        (place / name).replace(folder / name)
    fsync_folder(folder)


def take_places(folder: Path, names: Iterable[str], records_name: str) -> None:
    """Put these waiting files in place, and then the records of their units. Nothing waits after that.

    Some may be in place already, moved by a run that was killed here.
    """
    place = folder / WAITING_NAME
    put_in_place(folder, {name: None for name in names if (place / name).is_file()})
    for path in sorted((place / records_name).glob("*.json")):
        path.replace(folder / records_name / path.name)
    discard_waiting(folder)


def discard_waiting(folder: Path) -> None:
    """Remove what waits from a run that was not finished, or whose files are in place."""
    place = folder / WAITING_NAME
    for file in sorted(place.rglob("*")):
        if file.is_file() and RECORDS_NAME not in file.relative_to(place).parts:
            # Records of units carry no proof. Nobody else writes JSON there.
            file.unlink(missing_ok=True) if file.suffix == ".json" else remove_output(file)
    left = [f for f in place.rglob("*") if f.is_file() and RECORDS_NAME not in f.relative_to(place).parts]
    if not left:
        with suppress(OSError):
            shutil.rmtree(place)
