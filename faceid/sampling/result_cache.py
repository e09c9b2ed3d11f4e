"""Tensors kept on disk by what they were made of, so that no worker of a batch makes twice what another has made.

A folder that any number of processes share: files are written under a private name and renamed, and the ones that were
used longest ago go first when there are too many bytes. It may vanish at any time; nothing depends on it but time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from faceid.outputs import staged_file
from faceid.provenance import sha256_json

log = logging.getLogger(__name__)

NAME = "tensor"
DIGITS = 32


class ResultCache:
    """A bounded folder of tensors. made_by: what every one of them depends on (models, number format, hardware)."""

    def __init__(self, folder: Path, limit_bytes: int, made_by: Mapping[str, Any]) -> None:
        self.folder, self.limit_bytes, self.made_by = folder, limit_bytes, dict(made_by)

    def get(self, kind: str, made_of: Mapping[str, Any]) -> Tensor | None:
        """What was kept, or None. made_of: all that it depends on beside `made_by`, as JSON takes it."""
        path = self._path(kind, made_of)
        try:
            tensor = load_file(path)[NAME]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s: cannot be read (%s), and is made again", path, error)
            return None
        # Removed by another meanwhile, or a cache that is only read: what was read is whole.
        with suppress(OSError):
            os.utime(path)
        return tensor

    def has(self, kind: str, made_of: Mapping[str, Any]) -> bool:
        """Whether something was kept, without reading it."""
        return self._path(kind, made_of).is_file()

    def put(self, kind: str, made_of: Mapping[str, Any], tensor: Tensor) -> bool:
        """Keep a tensor; whether it could be."""
        path = self._path(kind, made_of)
        try:
            with staged_file(path) as temporary:
                # By bytes: safetensors' own writing has errors of its own for a full disk.
                temporary.write_bytes(save({NAME: tensor.detach().contiguous().cpu()}))
            self._shrink(path)
        except OSError as error:
            log.warning("%s: cannot be kept (%s); it is made again when needed", path, error.strerror or error)
            return False
        return True

    def get_or_make(self, kind: str, made_of: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
        """What was kept, on the CPU, else what `make` gives, kept from now on."""
        kept = self.get(kind, made_of)
        if kept is None:
            kept = make()
            self.put(kind, made_of, kept)
        return kept

    def _path(self, kind: str, made_of: Mapping[str, Any]) -> Path:
        digest = sha256_json({**self.made_by, **made_of})
        return self.folder / f"{kind}_{digest[:DIGITS]}.safetensors"

    def _shrink(self, newest: Path) -> None:
        found = []
        for path in self.folder.glob("*.safetensors"):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path == newest, status.st_mtime_ns, path, status.st_size))
        total = sum(size for *_, size in found)
        for is_newest, _, path, size in sorted(found):
            if total <= self.limit_bytes or is_newest:
                return
            path.unlink(missing_ok=True)
            total -= size


def describe_hardware(device: torch.device) -> str:
    """What the last bits of a result depend on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
