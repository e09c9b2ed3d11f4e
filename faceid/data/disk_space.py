"""Check that the output fits on the disk, before hours of work."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from faceid.errors import DataError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises: DataError when fewer than `needed` bytes are free where `folder` is. Quotas are not seen."""
    at = folder.absolute()
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if needed > free:
        raise DataError(
            f"output_dir={folder}: {what} need about {in_words(needed)}, {in_words(free)} are free there; "
            "choose another output folder or make room"
        )


def in_words(size: int) -> str:
    """A number of bytes in a unit in which it does not round to zero: `0.12 GiB`, `3.4 MiB`, `12 KiB`."""
    if size >= GIB / 10:
        return f"{size / GIB:.2f} GiB"
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{math.ceil(size / KIB)} KiB"
