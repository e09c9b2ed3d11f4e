"""Say what is at a path that somebody gave, where a file or a folder is needed, and what to do about it.

This is for messages alone. Whether the file can be read, its reader decides. `documents.py` reads without waiting.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from faceid.errors import why_not


def why_no_file(path: str | Path, what: str = "file") -> str | None:
    """Why there is no file to read, worded to follow `key=path: `; None where there is one. what: the expected file."""
    mode = _mode(path)
    if isinstance(mode, str):
        return mode.replace("{}", what)
    if stat.S_ISDIR(mode):
        return "is a folder; name a file"
    if not stat.S_ISREG(mode):
        return "a pipe or a device, not a file; write what it gives into a file, and name that"
    return None if os.access(path, os.R_OK, effective_ids=True) else _closed(path)


def why_no_folder(path: str | Path) -> str | None:
    """Why there is no folder to look into, worded to follow `key=path: `; None where there is one."""
    mode = _mode(path)
    if isinstance(mode, str):
        return mode.replace("{}", "folder")
    if not stat.S_ISDIR(mode):
        return "is no folder but a file" if stat.S_ISREG(mode) else "a pipe or a device, not a folder"
    return None if os.access(path, os.R_OK | os.X_OK, effective_ids=True) else _closed(path)


def _closed(path: str | Path) -> str:
    return why_not(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)))


def _mode(path: str | Path) -> int | str:
    """The mode of what a path or a link leads to. If that is nothing: the reason, with a place for the thing's name.

    Raises: OSError for a name that no file system takes (`errors.run_entry_point` reports it), or for a faulty disk.
    """
    try:
        return os.stat(path).st_mode
    except PermissionError:
        return _closed(path)
    except (OSError, ValueError) as error:
        # A ValueError means half a character or a NUL, which no file's name has.
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return "no such {}, only a link to what is not there" if os.path.islink(path) else "no such {}"
