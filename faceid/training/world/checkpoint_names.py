"""How checkpoint folders are called and found. Without heavy imports: what asks for a step is in a hurry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"step_(\d{8})")


def name_of(step: int) -> str:
    """The folder's name after `step` steps."""
    return f"step_{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step a folder of that name was saved after."""
    return int(checkpoint.name.removeprefix("step_"))


def is_named_so(path: Path) -> bool:
    """Whether a folder is named as checkpoints are."""
    return _NAME.fullmatch(path.name) is not None


def newest_first(folder: Path) -> Iterator[Path]:
    """Folders named as checkpoints are, valid or not."""
    if folder.is_dir():
        yield from sorted((path for path in folder.iterdir() if is_named_so(path)), reverse=True)
