"""Join several folders of latents: a run may mix portrait, landscape and clips of other lengths.

Each folder has one size. Sizes go into separate buckets (`data/stream/buckets.py`), because samples of one micro-batch
must have one size. All folders must have one base, and no clip may be in two folders.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from faceid.data.latents.latent_reader import LatentSample, LatentSet
from faceid.errors import DataError
from faceid.files.provenance import sha256_json

Size = tuple[int, int, int]
"""Frames, height and width in pixels."""


class LatentSets:
    """Like a `LatentSet`, over several folders. Samples are numbered through, folder after folder."""

    def __init__(self, sets: Sequence[LatentSet]) -> None:
        """Raises: DataError when the folders have different bases, or share a clip."""
        self.sets = list(sets)
        first = self.sets[0]
        for other in self.sets[1:]:
            if (other.base_fingerprint, other.geometry) != (first.base_fingerprint, first.geometry):
                raise DataError(
                    f"latents={other.index.folder}: encoded with base {other.base_name}, {first.index.folder} with "
                    f"{first.base_name}; encode all with one base"
                )
        seen: dict[str, Path] = {}
        for one in self.sets:
            for key in one.keys:
                if key in seen:
                    raise DataError(f"latents={one.index.folder}: {key} is in {seen[key]} as well; give it once")
                seen[key] = one.index.folder
        self._ends = list(itertools.accumulate(len(one) for one in self.sets))
        self.base_fingerprint, self.base_name, self.geometry = first.base_fingerprint, first.base_name, first.geometry
        # With one folder the hash stays that folder's own. Checkpoints from before there could be several thus fit.
        self.sha256 = first.sha256 if len(self.sets) == 1 else sha256_json([one.sha256 for one in self.sets])
        # Of each sample, by number: its key, the key of the clip that it is a view of, its dancer, its size.
        self.keys = [key for one in self.sets for key in one.keys]
        self.clips = [clip for one in self.sets for clip in one.clips]
        self.dancers = [dancer for one in self.sets for dancer in one.dancers]
        self.sizes = [size_of(one.settings) for one in self.sets for _ in range(len(one))]
        # How the first folder's clips were cut: adapters store it, and photos are cut to it. And the caption with which
        # photos without one of their own are trained.
        self.settings, self.caption = first.settings, first.caption

    @classmethod
    def open(cls, folders: Sequence[Path]) -> LatentSets:
        """Open folders of latent shards. Raises: DataError when one is missing, unfinished or damaged."""
        return cls([LatentSet.open(folder) for folder in folders])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> LatentSample:
        """Read one sample. Raises: DamagedError."""
        one, at = self._place(number)
        return one[at]

    def head_boxes(self, number: int) -> list[tuple[float, float, float, float] | None]:
        """As `LatentSet.head_boxes`."""
        one, at = self._place(number)
        return one.head_boxes(at)

    def prompt(self, text: str) -> Tensor:
        """Embedding [L, D] of a stored prompt: a clip's, "" or the default negative one."""
        return self._of_any(lambda one: one.prompt(text))

    def inactive(self, f: int, h: int, w: int) -> Tensor:
        """The inactive half for a latent size, raw [C, f, h, w] float32."""
        return self._of_any(lambda one: one.inactive(f, h, w))

    def _of_any(self, read: Callable[[LatentSet], Tensor]) -> Tensor:
        """What the first folder has that has it. Raises: DataError of the last one, where none has it."""
        for one in self.sets[:-1]:
            with suppress(DataError):
                return read(one)
        return read(self.sets[-1])

    def _place(self, number: int) -> tuple[LatentSet, int]:
        which = bisect.bisect_right(self._ends, number)
        return self.sets[which], number - (self._ends[which - 1] if which else 0)


def size_of(settings: dict[str, Any]) -> Size:
    """Frames, height and width of a folder's clips."""
    return settings["num_frames"], settings["height"], settings["width"]
