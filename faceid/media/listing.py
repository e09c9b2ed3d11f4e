"""List a user's folder, and report in one line the files that are not read.

Nobody then takes a skipped file for read.
"""

from __future__ import annotations

import functools
import logging
import stat
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

from faceid.errors import DataError, why_not
from faceid.files.documents import is_text
from faceid.files.given_paths import why_no_file

log = logging.getLogger(__name__)

SHOWN = 3


def entries_of(folder: Path, where: str | None = None, any_name: bool = False) -> list[Path]:
    """The entries of a user's folder, sorted by name. Hidden entries are left out, and odd names too, with a message.

    A name that is not UTF-8 cannot stand in an index, list or page. any_name: whether such a name is returned too.
    where: as in `say_passed_over`. Raises: DataError when the folder is closed to this user.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        # One entry is tested: a folder that may be listed but not entered tells nothing of any of its files.
        if entries:
            entries[0].is_file()
    except OSError as error:
        raise DataError(f"{where or folder}: {why_not(error)}") from error
    named = [path for path in entries if is_text(path.name)]
    if len(named) < len(entries) and not any_name:
        odd = [ascii(path.name)[1:-1] for path in entries if not is_text(path.name)]
        _say_once(where or str(folder), "whose names are not UTF-8; rename them", tuple(odd))
    return entries if any_name else named


def check_file(path: Path) -> int:
    """The size in bytes of a file that a user named.

    Raises: DataError when the file is missing, is no file, or is closed to this user. A pipe or device is never opened:
    it may block, or have no end.
    """
    if (reason := why_no_file(path)) is not None:
        raise DataError(f"{path}: {reason}")
    return path.stat().st_size


def say_passed_over(
    folder: Path, taken: Iterable[Path], why: str, belongs: Callable[[Path, set[str]], bool], where: str | None = None
) -> None:
    """Name the files of a folder that are not among `taken`. Hidden files and folders are ignored.

    why: what the message says of them. belongs: whether a file goes with those that were taken, by their stems. where:
    the folder in the words of its flag. The same files of a folder are reported once in a process.
    """
    known = set(taken)
    stems = {path.stem for path in known}
    others = sorted(
        path.name
        for path in entries_of(folder, where)
        if path not in known and path.is_file() and not belongs(path, stems)
    )
    if others:
        _say_once(where or str(folder), why, tuple(others))


@functools.lru_cache(maxsize=1024)
def _say_once(folder: str, why: str, names: tuple[str, ...]) -> None:
    log.warning("%s: %d passed over, %s: %s", folder, len(names), why, some(names))


def some(names: Sequence[str]) -> str:
    """A few of many names for a message, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def files_among(entries: Iterable[Path], endings: Container[str]) -> tuple[list[Path], dict[str, str]]:
    """Files among `entries` (of `entries_of`) with these endings, and names that are no files, with what they are.

    endings: in small letters, with their dots. Nothing is opened, because a pipe would never end.
    """
    files, others = [], {}
    for path in entries:
        if path.suffix.lower() in endings:
            if path.is_file():
                files.append(path)
            else:
                others[path.name] = _what_it_is(path)
    return files, others


@functools.lru_cache(maxsize=1024)
def say_no_files(where: str, found: tuple[tuple[str, str], ...]) -> None:
    """Report what is no file in one line, once in a process. where: the folder, in words. found: from `files_among`."""
    if found:
        log.warning("%s: %d left out that are no files: %s", where, len(found), some([f"{n} ({w})" for n, w in found]))


def _what_it_is(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link to nothing" if path.is_symlink() else "cannot be looked at"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
