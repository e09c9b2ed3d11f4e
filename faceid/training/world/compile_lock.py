"""Choose where torch compiles what DeepSpeed needs on a CPU.

A lock that a killed compile leaves there is cleared. torch waits for that lock without an end and without a message.
The compiling process keeps it open, so on this machine open files show whether anybody compiles. A process on another
machine would have written something within a while. The folder may be shared with other projects, so only the locks of
our own extensions are examined.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

from faceid.errors import ConfigError

log = logging.getLogger(__name__)

FOLDER_KEY = "TORCH_EXTENSIONS_DIR"
# The extensions that DeepSpeed compiles for processes on CPUs: NAME of its ShareMemCommBuilder and CCLCommBuilder.
EXTENSIONS = ("deepspeed_shm_comm", "deepspeed_ccl_comm")
# Seconds. A compile takes under a minute here and writes all along.
STALE_S = 120.0
_POLL_S = 0.5


def choose_extensions_folder(environment: MutableMapping[str, str] = os.environ) -> Path:
    """The folder for torch's compiled extensions. If none is set, set one beside the packages it compiles for.

    launch/setup.sh compiles there. Environments that share one folder compile under each other's running processes.
    ninja is also the one that compiled there: another version takes all for out of date, and a start takes a minute.
    """
    own_programs = Path(sys.prefix) / "bin"
    searched = environment.get("PATH", os.defpath).split(os.pathsep)
    if (own_programs / "ninja").exists() and searched[0] != str(own_programs):
        environment["PATH"] = os.pathsep.join([str(own_programs), *searched])
    if given := environment.get(FOLDER_KEY):
        return Path(given)
    own = Path(sys.prefix) / "torch_extensions"
    is_own = sys.prefix != sys.base_prefix and os.access(own if own.exists() else own.parent, os.W_OK)
    if is_own:
        environment[FOLDER_KEY] = str(own)
    return own if is_own else Path(get_default_build_root())


def clear_stale_locks(folder: Path, may_remove: bool, stale_s: float = STALE_S) -> None:
    """Wait while somebody compiles one of `EXTENSIONS` here, and remove a lock that nobody holds, with a message.

    may_remove: True on one process of each machine; the others wait for it. stale_s: seconds after which a lock counts
    as abandoned, if no process of this machine has it open and nothing was written beside it.
    Raises: ConfigError when something there is no lock of torch's. It is left, and torch would wait for it.
    """
    for lock in _locks(folder):
        said = ""
        while (looked := _still_for_s(lock)) is not None:
            holders = list(_holders(lock))
            if not holders and looked >= stale_s and may_remove:
                lock.unlink(missing_ok=True)
                log.warning("%s: left by a compile that was killed; removed, or torch would wait for it for ever", lock)
                break
            who = f"process {holders[0]} compiles" if holders else "nobody on this machine compiles; another one may"
            if who != said:
                said = who
                log.info("%s: %s; waiting, for an hour at most" if holders else "%s: %s; waiting a while", lock, who)
            time.sleep(min(_POLL_S, stale_s))


def _locks(folder: Path) -> Iterator[Path]:
    """The locks of our extensions. torch's locks are empty files."""
    for name in EXTENSIONS:
        # Where the folder is torch's own default, torch puts a folder for each Python in between.
        for lock in sorted([*folder.glob(f"{name}/lock"), *folder.glob(f"*/{name}/lock")]):
            with suppress(FileNotFoundError):
                status = lock.lstat()
                if not stat.S_ISREG(status.st_mode) or status.st_size:
                    raise ConfigError(
                        f"{lock}: torch waits for it for ever, and it is no lock of torch's; move it away"
                    )
                yield lock


def _still_for_s(lock: Path) -> float | None:
    """Seconds since anything was written beside a lock, or to it; None when it is gone."""
    try:
        newest = max(path.stat().st_mtime for path in [lock, *lock.parent.iterdir()])
        return time.time() - newest if lock.exists() else None
    except FileNotFoundError:
        return time.time() - lock.stat().st_mtime if lock.exists() else None


def _holders(lock: Path) -> Iterator[int]:
    """Processes of this machine that have the lock open, as far as this user may look at them."""
    wanted = os.path.realpath(lock)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(entry) == wanted for entry in os.scandir(process / "fd")):
                yield int(process.name)
        except OSError:
            continue
