"""Keep tensors on disk by what they were made of, so that no worker of a batch repeats another's work.

Any number of processes share the folder. Files are written under a private name and renamed. When there are too many
bytes, the files unused for longest go first. The folder may vanish at any time, which costs nothing but time. Only
proven entries are removed: they lie in a folder with the cache's mark, have an entry's name, and state inside that they
are one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from faceid.errors import DiskError
from faceid.files.outputs import claim_folder, kind_of
from faceid.files.provenance import sha256_json
from faceid.files.writing import RECORDS_NAME, sweep, write_atomic

log = logging.getLogger(__name__)

FOLDER_KIND = "a cache of rendering"
NAME = "tensor"
MARK = {"faceid": "cache entry"}
DIGITS = 32
ENTRY = re.compile(rf"[a-z_]+_[0-9a-f]{{{DIGITS}}}\.safetensors")


class ResultCache:
    """A bounded folder of tensors. made_by: what all of them depend on (models, number format, hardware)."""

    def __init__(self, folder: Path, limit_bytes: int, made_by: Mapping[str, Any]) -> None:
        self.folder, self.limit_bytes, self.made_by = folder, limit_bytes, dict(made_by)

    def claim(self, key: str = "cache_dir", private: bool = True) -> None:
        """Make the folder a cache, or check that it is one. A cache without write permission is only read.

        key: the flag that gave it. private: for a new folder, whether only its owner may look in.
        Raises: DataError when it holds anything else, or is no cache yet and cannot be written.
        """
        if kind_of(self.folder) == FOLDER_KIND:
            if not os.access(self.folder, os.W_OK):
                said = f"{key}={self.folder}: cannot be written: what it holds is used, and nothing new is kept"
                log.warning("%s", said)
            # Entries carry their own mark, so no record of them is kept.
            sweep(self.folder)
            return
        claim_folder(self.folder, FOLDER_KIND, private=private, key=key)

    def get(self, kind: str, made_of: Mapping[str, Any]) -> Tensor | None:
        """The kept tensor, or None. made_of: all that it depends on besides `made_by`, as JSON takes it."""
        path = self._path(kind, made_of)
        try:
            tensor = load_file(path)[NAME]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s: cannot be read (%s), and is made again", path, error)
            return None
        # Another process may have removed the file, or the cache is only read. The tensor in memory is whole.
        with suppress(OSError):
            os.utime(path)
        return tensor

    def has(self, kind: str, made_of: Mapping[str, Any]) -> bool:
        """Whether a tensor is kept, without reading it."""
        return self._path(kind, made_of).is_file()

    def put(self, kind: str, made_of: Mapping[str, Any], tensor: Tensor) -> bool:
        """Keep a tensor. Return whether that succeeded."""
        path = self._path(kind, made_of)
        try:
            # Written as bytes, because safetensors' own writing has errors of its own for a full disk.
            write_atomic(path, save({NAME: tensor.detach().contiguous().cpu()}, metadata=MARK))
            self._shrink(path)
        except OSError as error:
            log.warning("%s: cannot be kept (%s); it is made again when needed", path, error.strerror or error)
            return False
        except DiskError as error:
            log.warning("%s; it is made again when needed", error)
            return False
        return True

    def remove(self) -> None:
        """Remove every entry, and the folder if nothing else is in it."""
        with suppress(OSError):
            for path in self._entries():
                _remove_entry(path)
            if {path.name for path in self.folder.iterdir()} <= {RECORDS_NAME}:
                for path in (self.folder / RECORDS_NAME).iterdir():
                    path.unlink(missing_ok=True)
                (self.folder / RECORDS_NAME).rmdir()
                self.folder.rmdir()

    def _path(self, kind: str, made_of: Mapping[str, Any]) -> Path:
        digest = sha256_json({**self.made_by, **made_of})
        return self.folder / f"{kind}_{digest[:DIGITS]}.safetensors"

    def _entries(self) -> list[Path]:
        """Files with an entry's name, if the folder is a cache; none in any other folder."""
        if kind_of(self.folder) != FOLDER_KIND:
            return []
        return [path for path in self.folder.iterdir() if ENTRY.fullmatch(path.name)]

    def _shrink(self, newest: Path) -> None:
        found = []
        for path in self._entries():
            with suppress(OSError):
                status = path.stat()
                found.append((path == newest, status.st_mtime_ns, path, status.st_size))
        total = sum(size for *_, size in found)
        for is_newest, _, path, size in sorted(found):
            if total <= self.limit_bytes or is_newest:
                return
            if _remove_entry(path):
                total -= size


def _remove_entry(path: Path) -> bool:
    """Remove a file if it states that it is a cache's entry. Return whether it did."""
    try:
        with safe_open(path, "pt") as file:
            is_entry = (file.metadata() or {}) == MARK
    except (OSError, SafetensorError):
        return False
    if is_entry:
        path.unlink(missing_ok=True)
    return is_entry


def describe_hardware(device: torch.device) -> str:
    """The hardware facts on which a result's last bits depend."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
