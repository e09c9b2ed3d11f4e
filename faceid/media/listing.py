"""What a folder holds beside the files that are read: said in one line, so that nobody takes a picture for read."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

SHOWN = 3


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
        for path in folder.iterdir()
        if path not in known and path.is_file() and not path.name.startswith(".") and not belongs(path, stems)
    )
    if others:
        _say_once(where or str(folder), why, tuple(others))


@functools.lru_cache(maxsize=1024)
def _say_once(folder: str, why: str, names: tuple[str, ...]) -> None:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    log.warning("%s: %d passed over, %s: %s%s", folder, len(names), why, ", ".join(names[:SHOWN]), more)
