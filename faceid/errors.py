"""What a user did wrong, in one line, and how an entry point reports it.

A `FaceidError` names the key or file, what it was, why it cannot be, and what to do. Any other exception is a defect of
ours and keeps its traceback.
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
# Seconds. Launchers take less to end the other processes once one has left.
GRACE_S = 5.0
# The errors of a full disk.
FULL = (errno.ENOSPC, errno.EDQUOT)
# The errors for a user without permission on a file or folder. They are never a defect of ours.
CLOSED = (errno.EACCES, errno.EPERM)
UNREACHABLE = (errno.EROFS, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
# A message repeats the wrong value, which may be a text of megabytes.
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
    """A disk that is full or read-only. Everything that comes after fails there, too."""


class ModelError(FaceidError):
    """A model or adapter that does not fit: wrong base, wrong rank, missing or unused keys."""


def run_entry_point(main: Callable[[], int | None]) -> None:
    """Run `main` and leave the process: exit 2 with one line for a user's error.

    Under a launcher every process usually meets the same error, and the main process prints it. Another process waits a
    little. If the main process left too, the launcher ends the waiting one meanwhile. If not, the error concerns the
    waiting process alone, and it prints the error.
    """
    try:
        try:
            code = main()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                name = str(error.filename)
                why = "a name that is too long: file systems take 255 bytes of a name, 4,095 of a whole path"
                raise DataError(f"{name[:80]}... ({len(name)} characters): {why}; give a shorter one") from error
            # Most reads and writes report this with more words. Where one does not, it is still no defect of ours.
            if error.errno in FULL:
                why = "no space left on the disk; make room and run the same command again"
                raise DiskError(f"{error.filename or 'writing'}: {why}") from error
            if error.filename is None or error.errno not in (*CLOSED, *UNREACHABLE):
                raise
            raise DataError(f"{os.fsdecode(error.filename)}: {why_not(error)}") from error
    except FaceidError as error:
        # RANK may be no number, and that may be the very error reported here.
        rank = os.environ.get("RANK", "0")
        if rank.isdecimal() and int(rank) > 0:
            time.sleep(GRACE_S)
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(USER_ERROR_EXIT_CODE)
    sys.exit(code or 0)


def why_not(error: OSError) -> str:
    """Why a file cannot be read or written and what to do, without its name. Without permission: whose the file is."""
    said = error.strerror or str(error)
    if error.errno not in CLOSED:
        return said
    closed = _closed(Path(os.fsdecode(error.filename))) if error.filename is not None else None
    return f"{said}{f': {closed}' if closed else ''}; ask its owner to open it, or give another"


def _closed(path: Path) -> str:
    """What keeps this user from `path`: the first folder on the way without access, else the file itself."""
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
    """A text without terminal control characters, which a file's name may hold."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(error: FaceidError) -> str:
    """The message as it is shown: on one line, without terminal control characters, and cut to a readable length."""
    text = str(error)
    if "Original Traceback" in text:
        # torch's loader puts a reader process's whole traceback into the message. Our own message comes last.
        text = text.rpartition(f"{type(error).__qualname__}: ")[2]
    text = printable(" ".join(text.split()))
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}… ({len(text)} characters)"
