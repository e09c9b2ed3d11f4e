"""Name and find checkpoint folders.

No heavy imports, because callers that ask for a step are in a hurry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"step_(\d{8})")


def name_of(step: int) -> str:
    """The folder's name after `step` steps."""
    return f"step_{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step after which a folder of that name was saved."""
    return int(checkpoint.name.removeprefix("step_"))


def is_named_so(path: Path) -> bool:
    """Whether a folder has a checkpoint's name."""
    return _NAME.fullmatch(path.name) is not None


def newest_first(folder: Path) -> Iterator[Path]:
    """Folders with a checkpoint's name, newest first, valid or not."""
    if folder.is_dir():
        yield from sorted((path for path in folder.iterdir() if is_named_so(path)), reverse=True)
