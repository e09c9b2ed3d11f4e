"""What a user did wrong, in one line, and how an entry point says so.

A `FaceidError` names the key or file, what it was, why it cannot be, and what to do. Anything else that is raised
is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

USER_ERROR_EXIT_CODE = 2
# Longer than launchers take to end the other processes once one has left.
GRACE_S = 5.0
# What a full disk answers.
FULL = (errno.ENOSPC, errno.EDQUOT)
# What a file, its folder or its server answers to a user who may not, or cannot for now; never a defect of ours.
CLOSED = (errno.EACCES, errno.EPERM)
UNREACHABLE = (errno.EROFS, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
# A message repeats what was wrong, and that may be a text of megabytes.
LONGEST_LINE = 2_000


class FaceidError(Exception):
    """A user's fault, told in one line."""


class ConfigError(FaceidError):
    """A key, flag or YAML value that cannot be."""


class DataError(FaceidError):
    """A file or folder that cannot be used: missing, undecodable, damaged, of the wrong shape."""


class OutputError(DataError):
    """A place that cannot be written, or that holds what we did not write."""


class DiskError(OutputError):
    """A disk that is full or read-only: it fails for everything that comes after, too."""


class ModelError(FaceidError):
    """A model or adapter that does not fit: wrong base, wrong rank, missing or unused keys."""


def run_entry_point(main: Callable[[], int | None]) -> None:
    """Run `main` and leave the process: exit 2 with one line for a user's error.

    Under a launcher every process usually meets the same error, and the main one prints it. Another one waits a little:
    if the main one left too, the launcher ends it meanwhile; if not, the error is its own, and it prints it.
    """
    try:
        try:
            code = main()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                name = str(error.filename)
                why = "a name that is too long: file systems take 255 bytes of a name, 4,095 of a whole path"
                raise DataError(f"{name[:80]}... ({len(name)} characters): {why}; give a shorter one") from error
            # Most reads and writes say it with more words; no other that meets this is a defect either.
            if error.errno in FULL:
                why = "no space left on the disk; make room and run the same command again"
                raise DiskError(f"{error.filename or 'writing'}: {why}") from error
            if error.filename is None or error.errno not in (*CLOSED, *UNREACHABLE):
                raise
            raise DataError(f"{os.fsdecode(error.filename)}: {why_not(error)}") from error
    except FaceidError as error:
        # A RANK that is no number may be the very error that is told here.
        rank = os.environ.get("RANK", "0")
        if rank.isdecimal() and int(rank) > 0:
            time.sleep(GRACE_S)
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(USER_ERROR_EXIT_CODE)
    sys.exit(code or 0)


def why_not(error: OSError) -> str:
    """Why a file cannot be read or written, without its name, and what to do: for a user who may not, whose it is."""
    said = error.strerror or str(error)
    if error.errno not in CLOSED:
        return said
    closed = _closed(Path(os.fsdecode(error.filename))) if error.filename is not None else None
    return f"{said}{f': {closed}' if closed else ''}; ask its owner to open it, or give another"


def _closed(path: Path) -> str:
    """What keeps this user from `path`: the first folder on the way that may not be entered, else the file itself."""
    for place in [*reversed(path.absolute().parents), path.absolute()]:
        try:
            status = place.stat()
        except OSError:
            return ""
        if place == path.absolute() or not os.access(place, os.X_OK, effective_ids=True):
            try:
                owner = pwd.getpwuid(status.st_uid).pw_name
            except KeyError:
                owner = f"user {status.st_uid}"
            name = "it" if place == path.absolute() else str(place)
            return f"{name} is {owner}'s, mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def printable(text: str) -> str:
    """A text without what a terminal would obey: a file's name may hold any of it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(error: FaceidError) -> str:
    """The message as it is shown: no line break, nothing a terminal would obey, not longer than can be read."""
    text = str(error)
    if "Original Traceback" in text:
        # torch's loader puts the whole traceback of a reader process into the message; ours comes last.
        text = text.rpartition(f"{type(error).__qualname__}: ")[2]
    text = printable(" ".join(text.split()))
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}… ({len(text)} characters)"
