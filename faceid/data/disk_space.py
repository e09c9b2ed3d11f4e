"""Whether what is to be written fits on the disk, asked before hours of work."""

from __future__ import annotations

import shutil
from pathlib import Path

from faceid.errors import DataError

GIB = 1 << 30


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises: DataError when fewer than `needed` bytes are free where `folder` is. Quotas are not seen."""
    at = folder.absolute()
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if needed > free:
        raise DataError(
            f"output_dir={folder}: {what} need about {needed / GIB:.2f} GiB, {free / GIB:.2f} GiB are free there; "
            "choose another output folder or make room"
        )
