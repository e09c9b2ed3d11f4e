"""Make folders on a node's own disk for unfinished work.

They hold faces, so a killed process's folders are removed. Their names say which process made them
(`faceid.processes`). Only folders of this user are examined, because the system's temporary folder is everybody's.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faceid.processes import is_mark_running, process_mark

log = logging.getLogger(__name__)

PREFIX = "faceid_private_"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder of this process that is gone afterwards, and remove those of killed processes."""
    sweep_private_folders()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{process_mark()}_") as name:
        yield Path(name)


def sweep_private_folders() -> None:
    """Remove the folders of this user's processes that ran on this machine and are gone."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            # A mark has no underscore. The text after it is tempfile's own.
            mark, status = path.name.removeprefix(PREFIX).partition("_")[0], path.lstat()
            if is_mark_running(mark) is False and status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode):
                log.info("%s: left by a process that was ended; removed", path)
                shutil.rmtree(path, ignore_errors=True)
