"""Record what we wrote into a folder.

`.faceid/written-*.jsonl` has a line with name, sha256 and program for each file. A line is flushed to disk before its
file gets its name. A file that is not in the record is therefore somebody else's. `faceid.files.outputs` decides what
follows from that.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from faceid.files.documents import parse_json
from faceid.files.writing import RECORDS_NAME, fsync_folder, is_private, make_parents, settle_modes
from faceid.processes import process_mark


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(file)


@dataclass
class _Known:
    """The records of one folder as far as they have been read. A batch asks for them a thousand times."""

    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each records file: its inode, and how many of its bytes are in `written`."""
    written: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """For each file name: the programs by sha256."""


_known: dict[str, _Known] = {}


def record(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """Note that files of `folder` are ours, before they get their names. files: (relative name, hex sha256)."""
    written, program = _read(folder), _program()
    new = [(name, digest) for name, digest in files if program not in written.get(name, {}).get(digest, ())]
    if not new:
        return
    place = folder / RECORDS_NAME
    if not place.is_dir():
        make_parents(place / "record")
        fsync_folder(folder)
    # Each process has a file of its own, because appending to one from several machines is not safe.
    path = place / f"written-{process_mark()}.jsonl"
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"name": name, "sha256": digest, "by": program}) + "\n" for name, digest in new)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        settle_modes(path, is_private(folder))
        fsync_folder(place)


def recorded(folder: Path) -> dict[str, set[str]]:
    """What we wrote into a folder: each file's name and the sha256 of all that was ever written under it."""
    return {name: set(digests) for name, digests in _read(folder).items()}


def is_recorded(path: Path, digest: str | None = None, by_this_program: bool = False) -> bool:
    """Whether a file is as we wrote it; False for a file that cannot be read.

    digest: its sha256, where the caller knows it. by_this_program: do not count what another command wrote.
    """
    digests = _read(path.parent).get(path.name)
    if digests is None:
        return False
    try:
        programs = digests.get(digest or sha256_file(path))
    except PermissionError:
        return False
    if programs is None:
        return False
    # A program without a name, as in a notebook, may replace any file of ours.
    return not by_this_program or not _program() or bool(programs & {_program(), ""})


def is_replaced(path: Path) -> bool:
    """Whether we wrote a file of this name, but the present content is none of ours."""
    digests = _read(path.parent).get(path.name)
    return digests is not None and sha256_file(path) not in digests


def _read(folder: Path) -> dict[str, dict[str, set[str]]]:
    """Programs by sha256 by file name, from all records of a folder."""
    place = folder / RECORDS_NAME
    files = sorted(place.glob("written-*.jsonl"))
    known = _known.setdefault(os.path.abspath(place), _Known())
    statuses = {}
    for path in files:
        with suppress(OSError):
            statuses[path.name] = path.stat()
    if any(
        name not in statuses or statuses[name].st_ino != inode or statuses[name].st_size < size
        for name, (inode, size) in known.read.items()
    ):
        # A new folder has this name now.
        known.read, known.written = {}, {}
    for name, status in statuses.items():
        done = known.read.get(name, (0, 0))[1]
        if status.st_size == done:
            continue
        with suppress(OSError), (place / name).open("rb") as file:
            file.seek(done)
            lines = file.read()
            # The last line may be half written: its writer is at work, or was killed.
            whole = lines.rfind(b"\n") + 1
            for line in lines[:whole].splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    said = parse_json(line)
                    programs = known.written.setdefault(str(said["name"]), {}).setdefault(str(said["sha256"]), set())
                    programs.add(str(said.get("by", "")))
            known.read[name] = (status.st_ino, done + whole)
    return known.written


def _program() -> str:
    """The command that runs, such as `sample.py`; "" where it has no name of its own (a notebook, a test)."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return name if name.endswith(".py") and not name.startswith("__") else ""


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()
