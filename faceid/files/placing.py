"""Put a whole result into a folder that has to stay.

The pieces go in one by one, and are never mixed with an older result. A mount cannot be renamed over, nor can a folder
within one that cannot be written. A folder with another owner, group, mode or access list would lose them to a new
folder in its place. So the result is made under a temporary name inside such a folder. When it is whole it becomes
`.faceid/arriving`. From then on it is the result: the older pieces go out, then the new ones come in. The next writer
there finishes what a killed process had begun.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from faceid.files.documents import find_json
from faceid.files.records import record, recorded, sha256_file
from faceid.files.writing import (
    FOLDER_NAME,
    PRIVATE_FOLDER,
    RECORDS_NAME,
    WHOLE,
    current_umask,
    fsync_folder,
    has_acl,
    is_owners_alone,
    is_temporary,
    make_parents,
    set_mode,
    umask_in,
    write_json,
)

log = logging.getLogger(__name__)

# The errors for a folder that cannot be renamed: a mount, a layer of a container's image, somebody else's folder.
STAYS = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES)
# Names of claims (faceid.claims), and what file systems and desktops leave in a folder. They are nobody's work.
NOBODYS = (RECORDS_NAME, ".claims", ".DS_Store", "Thumbs.db", "lost+found", ".directory")
# The search for strangers stops at this number. Messages show fewer.
MOST_NAMED = 4
_ARRIVING, _PLAN, _REPLACED = "arriving", "arriving.json", "replaced"


def has_to_stay(folder: Path, private: bool) -> bool:
    """Whether an existing folder cannot be renamed away, or would lose something if a new one took its name.

    private: whether the new one would be for its owner alone.
    """
    if not folder.is_dir():
        return False
    if _is_mount(folder) or has_acl(folder) or not os.access(folder.parent, os.W_OK | os.X_OK):
        return True
    found, above = folder.stat(), folder.parent.stat()
    is_inherited = above.st_mode & stat.S_ISGID
    wanted = (PRIVATE_FOLDER if private else 0o777 & ~umask_in(folder.parent)) | is_inherited
    # A folder that shows faces is closed in any case. Any other keeps its owner's choice.
    differs = (stat.S_IMODE(found.st_mode) ^ wanted) & (0o7000 if private else 0o7777)
    owner = os.geteuid(), above.st_gid if is_inherited else os.getegid()
    return differs != 0 or (found.st_uid, found.st_gid) != owner


def close_or_say(folder: Path, private: bool) -> None:
    """Set modes before pieces come into a folder that stays: faces are private, and a closed folder stays closed."""
    status = folder.stat()
    if private:
        # A folder of another owner cannot be closed. The files put into it are closed instead.
        with suppress(PermissionError):
            set_mode(folder, status.st_mode & (PRIVATE_FOLDER | stat.S_ISVTX))
    elif is_owners_alone(folder) and current_umask() & 0o077 != 0o077:
        log.warning("%s: only its owner can look into it, and it stays so; chmod it to share it", folder)


def put_inside(temporary: Path, folder: Path, kind: str | None) -> None:
    """Put the pieces of a whole folder, flushed to disk, in the place of our files in `folder`.

    temporary: a folder in `folder`. kind: what the result is, in words. It is None where the result replaces nothing
    and keeps its own record.
    """
    place = folder / RECORDS_NAME
    make_parents(place / _PLAN)
    with _alone(place):
        if (place / _ARRIVING).is_dir():
            # Finish the work of a process that was killed meanwhile.
            _finish(folder)
        if kind is not None:
            # The record is written before any piece has its name.
            record(folder, [(name, digest) for name, sums in recorded(temporary).items() for digest in sums])
            shutil.rmtree(temporary / RECORDS_NAME)
        leaving = {name.split("/")[0] for name in recorded(folder)} | {path.name for path in temporary.iterdir()}
        plan = {"kind": kind, "leaving": sorted(name for name in leaving if _is_there(folder / name))}
        write_json(place / _PLAN, plan)
        temporary.rename(place / _ARRIVING)
        fsync_folder(place)
        _finish(folder)


def finish(folder: Path) -> None:
    """Finish what a process that was killed in `put_inside` had begun."""
    place = folder / RECORDS_NAME
    if any((place / name).exists() for name in (_ARRIVING, _PLAN, _REPLACED)):
        with _alone(place):
            if (place / _ARRIVING).is_dir():
                log.warning("%s: what a process that was ended had begun to put there is put in place now", folder)
            _finish(folder)


def strangers_in(folder: Path, known: Mapping[str, set[str]] | None = None) -> list[str]:
    """Files of a folder that we did not write, or that are not as we wrote them. known: the record, read by default."""
    if not folder.is_dir():
        return []
    known = recorded(folder) if known is None else known
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        top = name.split("/")[0]
        # os.path is used because pathlib raises in a folder that can be listed and not entered.
        is_link = os.path.islink(path)
        if top in NOBODYS or is_temporary(top) or (os.path.isdir(path) and not is_link and _is_seen(path)):
            continue
        if is_link or name not in known or not _is_seen(path) or sha256_file(path) not in known[name]:
            found.append(name)
            if len(found) == MOST_NAMED:
                break
    return found


def names_in(folder: Path) -> list[str]:
    """The names in a folder, without those that are nobody's and those that are half written."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name not in NOBODYS and not is_temporary(name))


def free_name(path: Path) -> Path:
    """A free name: this one, or the next with a number."""
    number = 2
    free = path
    while _is_there(free):
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free


def _finish(folder: Path) -> None:
    place = folder / RECORDS_NAME
    arriving, replaced = place / _ARRIVING, place / _REPLACED
    plan = _read_plan(place / _PLAN)
    if arriving.is_dir():
        replaced.mkdir(PRIVATE_FOLDER, exist_ok=True)
        # All older pieces leave first, so pieces of two results never lie beside each other.
        for name in plan["leaving"]:
            if _is_there(folder / name):
                (folder / name).rename(free_name(replaced / name))
        write_json(place / _PLAN, {**plan, "leaving": []})
        for path in sorted(arriving.iterdir()):
            if _is_there(folder / path.name):
                # Somebody else put this here at this very moment.
                (folder / path.name).rename(free_name(replaced / path.name))
            path.rename(folder / path.name)
        if plan["kind"] is not None:
            write_json(place / FOLDER_NAME, {"kind": plan["kind"], WHOLE: True})
        fsync_folder(folder)
        arriving.rmdir()
    (place / _PLAN).unlink(missing_ok=True)
    if replaced.is_dir():
        _remove_replaced(replaced, folder)
    if plan["kind"] is None:
        # A result that keeps its own record gets no entry here.
        with suppress(OSError):
            place.rmdir()


def _remove_replaced(replaced: Path, folder: Path) -> None:
    strangers = strangers_in(replaced, recorded(folder))
    if not strangers:
        shutil.rmtree(replaced, ignore_errors=True)
        return
    kept = free_name(folder / f"{folder.name}.replaced")
    replaced.rename(kept)
    log.warning("%s: kept as %s: somebody put %s into it before it was replaced", folder, kept, ", ".join(strangers))


def _read_plan(path: Path) -> dict[str, Any]:
    plan = find_json(path) or {}
    leaving = plan.get("leaving") if isinstance(plan.get("leaving"), list) else []
    # Take only names within the folder, because anybody may have written the file.
    names = [name for name in leaving or [] if isinstance(name, str) and Path(name).name == name != RECORDS_NAME]
    return {"kind": plan.get("kind"), "leaving": names}


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a folder against other processes that put pieces there. The hold ends with the process in any case."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        # Some file systems have no locks. Two commands seldom end in one folder at the same moment.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_mount(folder: Path) -> bool:
    if os.path.ismount(folder):
        return True
    # A folder of the same disk can be mounted too, as containers do it. Only the system's list tells.
    name = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", str(folder.resolve()))
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        return any(line.split()[4:5] == [os.fsencode(name)] for line in lines)
    return False


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_seen(path: Path) -> bool:
    return os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))
