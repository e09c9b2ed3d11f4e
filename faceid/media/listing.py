"""What a user's folder holds: what can be read, and the rest in one line, so that nobody takes a picture for read."""

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
    """What lies in a user's folder, sorted by name; hidden ones are left out, and so is, with a line, an odd name.

    A name that is not UTF-8 can stand in no index, list or page. any_name: it is returned, too. where: as
    `say_passed_over`. Raises: DataError when the folder is closed to this user.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        # Asked of one: a folder that may be listed and not entered answers of none of its files.
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
    """How many bytes a file has that a user named.

    Raises: DataError when it is missing, no file (a pipe or device is never opened: it may block, or have no end), or
    closed to this user.
    """
    if (reason := why_no_file(path)) is not None:
        raise DataError(f"{path}: {reason}")
    return path.stat().st_size


def say_passed_over(
    folder: Path, taken: Iterable[Path], why: str, belongs: Callable[[Path, set[str]], bool], where: str | None = None
) -> None:
    """Name the files of a folder that are not among `taken`; hidden files and folders are not asked for.

    why: what is said of them. belongs: whether a file goes with those that were taken, by their stems. where: the
    folder in the words of its flag. The same files of a folder are said once in a process.
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
    """A few of many names, for a line, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def files_among(entries: Iterable[Path], endings: Container[str]) -> tuple[list[Path], dict[str, str]]:
    """Of `entries_of` a folder the files with these endings, and the names of what is no file, with what it is instead.

    endings: in small letters, with their dots. Nothing is opened: a pipe would never end.
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
    """Name what is no file in a line, once in a process. where: the folder, in words. found: of `files_among`."""
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
