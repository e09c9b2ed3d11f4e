"""Write files so that they appear whole, or not at all.

Everything is written under a temporary name, flushed to disk and renamed. If the writer is killed at any moment, the
old state or the new one remains. A temporary name says which process made it. So the next command can remove what a
killed process left. `faceid.files.outputs` decides what a place may hold already, and what may be replaced there.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import logging
import os
import re
import shutil
import stat
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from faceid.errors import FULL, DiskError, FaceidError
from faceid.processes import is_mark_running, process_mark

log = logging.getLogger(__name__)

# `.faceid-MARK-TOKEN.tmp`, followed by the suffix of the final name.
_TEMPORARY = ".faceid-*.tmp*"
_OURS = re.compile(r"\.faceid-[0-9a-f]{8}-\d{1,9}-\d{1,20}-[0-9a-f]{6}\.tmp.*")
# Seconds. Nothing is known of a process on another machine, but no write takes this long.
ABANDONED_S = 7 * 86400
# The folder of records and the file with a folder's mark (`faceid.files.records`, `faceid.files.outputs`).
RECORDS_NAME, FOLDER_NAME = ".faceid", "folder.json"
# In a folder's mark: its next result replaces it whole.
WHOLE = "is_replaced_whole"
# Errors that come from the user's disk and are no defect of ours.
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# When a writer failed with less free space than this, the cause was want of room, whatever it raised.
_NO_ROOM_BYTES = 1 << 16
# The cause was also want of room when the error holds these words. What the writer had written is gone by then, and
# there is room again. The words are the system's (safetensors repeats them) and torch.save's.
_NO_ROOM_WORDS = ("no space left on device", "disk quota exceeded", "file write failed", "unexpected pos")
# Constants of renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
# The kernel's names of access control lists, and the form of their entries (linux/posix_acl_xattr.h).
_ACL, _DEFAULT_ACL, _ACL_ENTRY = "system.posix_acl_access", "system.posix_acl_default", "<HHI"
_ACL_USER, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 0x01, 0x04, 0x10, 0x20


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file of a folder's own bookkeeping. A reader sees the old file or the whole new one.

    Results for users are written by `outputs.staged_file`, which replaces nothing that is not ours.
    Raises: DiskError when the disk is full or cannot be written.
    """
    with told(path):
        make_parents(path)
        temporary = temporary_beside(path)
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            settle_modes(temporary, is_private(path.parent))
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_atomic` does."""
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """JSON that people read: indented, with a final newline."""
    return json.dumps(value, indent=1) + "\n"


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder, with the same suffix and this process's mark."""
    return path.with_name(f".faceid-{process_mark()}-{uuid.uuid4().hex[:6]}.tmp{path.suffix}")


def is_temporary(name: str) -> bool:
    """Whether `temporary_beside` gives such a name."""
    return _OURS.fullmatch(name) is not None


@functools.cache
def sweep(folder: Path) -> None:
    """Remove the temporary files that dead processes left in a folder, once a process. Some of them hold photos.

    A folder that was whole stays: it may be the one that another replaced (`outputs.sweep_folders`).
    """
    with suppress(OSError):
        for path in abandoned(folder):
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            elif not was_whole(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                continue
            log.info("%s: left by a process that was ended; removed", path)


def abandoned(folder: Path) -> list[Path]:
    """What has a temporary name in a folder and no process that continues it."""
    found = []
    for path in sorted(folder.glob(_TEMPORARY)):
        mark = path.name.split(".tmp")[0].removeprefix(".faceid-").rpartition("-")[0]
        alive = is_mark_running(mark)
        if alive is False or (alive is None and time.time() - path.lstat().st_mtime > ABANDONED_S):
            found.append(path)
    return found


def was_whole(folder: Path) -> bool:
    """Whether a folder carries the mark that it gets when it is complete."""
    return (folder / RECORDS_NAME / FOLDER_NAME).is_file()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Report in one line that a disk is full or cannot be written. path: the file or folder being written.

    Raises: DiskError in place of the OSError, and of any error that a library makes of it.
    """
    try:
        yield
    except DiskError as error:
        # Nobody knows the names within a temporary folder, so the message does not show them.
        if any(fnmatch(part, _TEMPORARY) for part in Path(str(error).split(": ")[0]).parts):
            raise DiskError(f"{path}: {str(error).partition(': ')[2]}") from error
        raise
    except FaceidError:
        raise
    except OSError as error:
        if error.errno in FULL or _is_full(path):
            raise no_room(path) from error
        if error.errno == errno.EROFS or (error.errno in REFUSED and _is_near(error.filename, path)):
            raise DiskError(
                f"{error.filename or path}: cannot be written ({os.strerror(error.errno or 0)}); choose another place, "
                "or change its permissions"
            ) from error
        raise
    except Exception as error:
        # safetensors and torch raise errors of their own.
        if _is_full(path) or any(words in str(error).lower() for words in _NO_ROOM_WORDS):
            raise no_room(path) from error
        raise


def no_room(path: Path) -> DiskError:
    """The error for a full disk."""
    return DiskError(f"{path}: no space left on the disk; make room there and run the same command again")


def fsync_tree(folder: Path) -> None:
    """Make a folder and all in it last through a power cut."""
    for path in [folder, *folder.rglob("*")]:
        fsync_file(path) if path.is_file() else fsync_folder(path)


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make what was written to a file last through a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False when the system cannot. Python has no os.renameat2."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    code = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    if code == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(error, os.strerror(error), str(first), None, str(second))


def is_private(folder: Path) -> bool:
    """Whether only its owner can look into a folder, or into a folder above it.

    The search goes up to the folder of ours that it lies in. So a picture of faces stays private when a part is copied.
    """
    places = []
    for place in (folder, *folder.absolute().parents):
        places.append(place)
        if was_whole(place):
            return any(is_owners_alone(each) for each in places)
    return is_owners_alone(folder)


def is_owners_alone(path: Path) -> bool:
    """Whether a file or folder is there, and only its owner may look into it."""
    try:
        return path.stat().st_mode & 0o077 == 0
    except OSError:
        return False


def make_parents(path: Path) -> None:
    """Make the folders that a file lies in. New ones within a private folder of ours are private, too.

    A folder of records is as open as the folder around it: whoever may write there must be able to record it.
    """
    if path.parent.is_dir():
        return
    private = is_private(path.parent)
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in new:
        if private:
            set_mode(folder, PRIVATE_FOLDER)
        elif folder.name == RECORDS_NAME:
            set_mode(folder, folder.parent.stat().st_mode & (0o777 | stat.S_ISVTX))


def make_folder(path: Path, private: bool) -> None:
    """Make a folder and its parents. private: a new folder is open to its owner alone."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        if private:
            set_mode(path, PRIVATE_FOLDER)


def settle_modes(path: Path, private: bool) -> None:
    """Set permissions of what is about to be published: for its owner alone, or as the umask says.

    Libraries write with 0600 whatever the umask is, and a colleague could not read an adapter.
    """
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        is_dir = each.is_dir()
        if private:
            set_mode(each, PRIVATE_FOLDER if is_dir else PRIVATE_FILE)
        else:
            set_mode(each, (0o777 if is_dir else 0o666) & ~umask_in(each.parent))


def set_mode(path: Path, mode: int) -> None:
    """chmod that keeps a folder's setgid bit. Files made in it later then belong to the folder's group."""
    before = stat.S_IMODE(path.stat().st_mode)
    mode |= before & stat.S_ISGID if path.is_dir() else 0
    # chmod loses setgid where the folder's group is not the caller's. So chmod is called only where something changes.
    if mode != before:
        path.chmod(mode)


def umask_in(folder: Path) -> int:
    """The bits denied to a new file in a folder: by the process's umask, or by the folder's default access list."""
    try:
        entries = os.getxattr(folder, _DEFAULT_ACL)[4:]
    except (OSError, AttributeError):
        return current_umask()
    allowed = {tag: bits for tag, bits, _ in struct.iter_unpack(_ACL_ENTRY, entries) if tag != 0x02 and tag != 0x08}
    # Where a file has an access list, its middle bits are the list's mask.
    group = allowed.get(_ACL_MASK, allowed.get(_ACL_GROUP, 0))
    return 0o777 & ~(allowed.get(_ACL_USER, 0) << 6 | group << 3 | allowed.get(_ACL_OTHER, 0))


def has_acl(folder: Path) -> bool:
    """Whether a folder has an access control list, for itself or for new files in it."""
    try:
        return not {_ACL, _DEFAULT_ACL}.isdisjoint(os.listxattr(folder))
    except (OSError, AttributeError):
        return False


def current_umask() -> int:
    """The process's umask. os.umask would change it for a moment, while other threads write."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def _is_near(filename: str | bytes | int | None, path: Path) -> bool:
    """Whether an error is about the output, not about a file that is read meanwhile."""
    return filename is None or (isinstance(filename, str) and Path(filename).is_relative_to(path.parent))


def _is_full(path: Path) -> bool:
    for place in (path, *path.parents):
        with suppress(OSError):
            status = os.statvfs(place)
            return status.f_bavail * status.f_frsize < _NO_ROOM_BYTES or (status.f_files > 0 and status.f_favail == 0)
    return False
