"""Shapes of the tensors in a weights file, by name. A missing config is read off them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from faceid.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(shapes: Shapes, name: str, source: Path) -> tuple[int, ...]:
    """One tensor's shape. Raises: ModelError when the tensor is not there."""
    if name not in shapes:
        raise ModelError(f"{source}: no {name} in it; not a file of this part of Wan2.1")
    return shapes[name]
