"""Count what a run was fed: samples of each kind, draws made for them, and clips that could not be used.

Every rank counts. The counts are summed over all ranks, and logged as shares. Counting begins anew when a run is
resumed, so the shares cover the draws since this attempt began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from faceid.data.shards.index import DAMAGES
from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.training_set import CHOICES, FACE, REFERENCE, TrainingSample
from faceid.errors import DataError

KINDS: tuple[str, ...] = get_args(Kind)
MASKED = "masked_loss"
NAMES = (*KINDS, *CHOICES, MASKED, *DAMAGES)


class SampleCounts:
    """Counts by name. `add` takes a rank's own batches, `take` gives new counts, and `share` takes sums over ranks."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._new: Counter[str] = Counter()

    def add(self, batch: TrainingSample, masked: int) -> None:
        """Count one of this rank's micro-batches. masked: entries whose loss was taken inside the head alone."""
        self._new.update([*batch.kinds, *batch.choices, *batch.damages])
        self._new[MASKED] += masked

    def take(self) -> list[float]:
        """This rank's counts since the last call, in the order of NAMES."""
        counts = [float(self._new[name]) for name in NAMES]
        self._new.clear()
        return counts

    def share(self, counts: Sequence[float]) -> None:
        """Add counts that were summed over all ranks."""
        self.totals.update({name: round(count) for name, count in zip(NAMES, counts, strict=True)})

    def metrics(self) -> dict[str, float]:
        """Shares of each kind and draw, and counts of each damage, by the names for the log."""
        drawn = max(self._samples(), 1)
        names = [*KINDS, *(name for name in CHOICES if name not in (FACE, REFERENCE)), MASKED]
        shares = {f"data/{name}_share": self.totals[name] / drawn for name in names}
        faced = self.totals["other_clip"] + self.totals["same_clip"]
        faces = {"data/faces_per_clip": self.totals[FACE] / faced} if faced else {}
        damages = {f"data/damaged_{name}": float(self.totals[name]) for name in DAMAGES if self.totals[name]}
        references = {"data/references_per_sample": self.totals[REFERENCE] / drawn}
        return shares | faces | references | damages

    def is_over(self, samples_per_epoch: int, max_damaged_share: float) -> bool:
        """Whether damaged clips exceed their share of the draws, or of an epoch where that is more."""
        damaged = sum(self.totals[name] for name in DAMAGES)
        return damaged > max_damaged_share * max(self._samples(), samples_per_epoch)

    def error(self, samples_per_epoch: int, max_damaged_share: float) -> DataError:
        """The error for that case."""
        found = ", ".join(f"{name} {self.totals[name]}" for name in DAMAGES if self.totals[name])
        return DataError(
            f"latents: damaged clips in {self._samples()} samples: {found}; over max_damaged_share "
            f"{max_damaged_share:g} of them, or of an epoch of {samples_per_epoch}; the log names them: make their "
            "shards again, then run the same command"
        )

    def _samples(self) -> int:
        return sum(self.totals[kind] for kind in KINDS)
