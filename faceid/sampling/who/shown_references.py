"""Decide which pictures of a person the base itself looks at, and read them when they are needed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from faceid.errors import DataError
from faceid.files.provenance import sha256_file
from faceid.media.images import read_photo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShownReference:
    """One picture: in a file, or in memory where its file does not last. pixels: uint8 RGB [H, W, 3]."""

    path: Path | None = None
    pixels: np.ndarray | None = None

    @property
    def picture(self) -> Image.Image:
        """The picture. Raises: DataError when its file cannot be read."""
        if self.pixels is not None:
            return Image.fromarray(self.pixels)
        assert self.path is not None
        return Image.fromarray(read_photo(self.path))

    @cached_property
    def sha256(self) -> str:
        """Of the file, or of the pixels."""
        if self.path is not None:
            return sha256_file(self.path)
        assert self.pixels is not None
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()


def pictures_of(paths: Iterable[Path | str], in_memory: bool = False) -> tuple[ShownReference, ...]:
    """References at these paths. in_memory: they are read now, because their folder does not last."""
    if in_memory:
        return tuple(ShownReference(pixels=read_photo(Path(path))) for path in paths)
    return tuple(ShownReference(Path(path)) for path in paths)


def choose_references(
    given: tuple[ShownReference, ...],
    own: tuple[ShownReference, ...],
    asked: int | None,
    is_trained_with: bool,
    name: str,
) -> tuple[ShownReference, ...]:
    """The pictures that the base looks at: those given, else as many of the person's own as asked.

    own: of the identity, best first; empty for nobody. asked: None for one where the adapter was trained with
    references. name: of the identity, for messages. Raises: DataError when the identity has fewer than asked.
    """
    if given:
        return given
    count = (1 if is_trained_with else 0) if asked is None else asked
    if asked is not None and asked > len(own):
        raise DataError(
            f"own_references={asked}: {name or 'nobody'} has {len(own)}; make the identity again from photos with "
            "tools/prepare_face_embeddings.py, or give --reference_image"
        )
    if count > len(own) and name:
        log.warning("%s: no reference picture, with which the adapter was trained; make the identity again", name)
    return own[:count]
