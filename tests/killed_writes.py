"""A write in a copy of this process, which kills itself at its n-th change of the disk."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir")


def killed_at(point: int, write: Callable[[], object], calls: Iterable[str] = CALLS, after: bool = False) -> int:
    """The exit code: -SIGKILL, or 0 when the write ended before that point.

    calls: Path's, which count beside flushes and shutil.rmtree. after: the moment after each call is a point, too.
    """
    pid = os.fork()
    if pid == 0:
        left = [point]

        def step() -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(call):
            def wrapper(*args, **kwargs):
                step()
                result = call(*args, **kwargs)
                if after:
                    step()
                return result

            return wrapper

        os.fsync, shutil.rmtree = counted(os.fsync), counted(shutil.rmtree)
        for name in calls:
            setattr(Path, name, counted(getattr(Path, name)))
        try:
            write()
        finally:
            os._exit(0 if left[0] > 0 and sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
