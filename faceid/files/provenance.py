"""Record what made a folder, and name contents by the sha256 of files and of plain types.

`provenance.json` says which command, versions and inputs made a folder.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faceid.files.documents import find_json
from faceid.files.outputs import write_bookkeeping
from faceid.files.records import sha256_file as sha256_file
from faceid.files.writing import json_text

PACKAGES = ("torch", "accelerate", "deepspeed", "diffusers", "transformers", "peft", "webdataset", "av")


def sizes_and_times(files: Iterable[Path]) -> list[list[str | int]]:
    """Name, size and time of each large file, in place of its content, in the types that JSON gives back."""
    return [[file.name, (status := file.stat()).st_size, status.st_mtime_ns] for file in files]


def sha256_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON (sorted keys, no spaces) of plain types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
    """Write `folder/provenance.json`. inputs: plain types; they hold hashes rather than contents, and never faces."""
    write_bookkeeping(folder / "provenance.json", json_text(describe_provenance(inputs)))


def made_by(folder: Path, command: str) -> bool:
    """Whether `provenance.json` says that a command made a folder. command: the command's file name."""
    words = (find_json(folder / "provenance.json") or {}).get("command")
    return isinstance(words, list) and words[:1] != [] and Path(str(words[0])).name == command


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _commit() -> str | None:
    """The commit, read once at the start. The running code is of that commit, whatever happens to the files."""
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
