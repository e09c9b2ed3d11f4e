"""What made a folder, and how files come to exist: whole, or not at all.

Every stage writes to a temporary name, flushes it to disk and renames; killing it at any moment leaves either the
old state or the new one. `provenance.json` says which command, versions and inputs made a folder.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "accelerate", "deepspeed", "diffusers", "transformers", "peft", "webdataset", "av")

# Of renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(file)


def sizes_and_times(files: Iterable[Path]) -> list[list[str | int]]:
    """What stands for the content of large files, as JSON reads it back: name, size and time of each."""
    return [[file.name, (status := file.stat()).st_size, status.st_mtime_ns] for file in files]


def sha256_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON (sorted keys, no spaces) of plain types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file through a temporary name, fsync and rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, with a final newline."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` (same suffix); publish it under `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        fsync_file(temporary)
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; publish it under `path` when the block ends well.

    An older folder at `path` is replaced in one step where the file system can exchange names (local ones can; NFS
    cannot: there it is moved away first), and deleted last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for path_in in [temporary, *temporary.rglob("*")]:
            fsync_file(path_in) if path_in.is_file() else fsync_folder(path_in)
        if path.exists() and not _exchange(temporary, path):
            # This file system cannot exchange names: for a moment the folder is only under its second name.
            path.rename(path.with_name(f".{path.name}.{token}.old"))
        if not path.exists():
            temporary.rename(path)
        fsync_folder(path.parent)
        shutil.rmtree(path.with_name(f".{path.name}.{token}.old"), ignore_errors=True)
    finally:
        # After an exchange the old folder lies here.
        shutil.rmtree(temporary, ignore_errors=True)


def describe_provenance(inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Command, versions, machine, commit and the inputs given, as plain types."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "commit": _commit(),
        "inputs": inputs or {},
    }


def write_provenance(folder: Path, inputs: dict[str, Any] | None = None) -> None:
    """Write `folder/provenance.json`. Inputs: plain types; hashes rather than contents, and never faces."""
    write_json(folder / "provenance.json", describe_provenance(inputs))


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
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


def fsync_file(path: Path) -> None:
    """Make what was written to a file last through a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _commit() -> str | None:
    """Asked once: what runs is what was read at the start, whatever becomes of the files."""
    here = Path(__file__).resolve().parent
    try:
        out = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.strip() or None
