"""Choose what is kept from training for measurement: whole dancers, and performances of other dancers.

Performances are kept, not clips. Parts of one, or other cameras' films of it, show the same movement, clothes and
light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceid.data.aist import performance_of
from faceid.data.order import hold_out


@dataclass(frozen=True)
class HeldOut:
    """The held-out dancers, and the held-out performances of others."""

    dancers: frozenset[str] = frozenset()
    performances: frozenset[str] = frozenset()

    def has(self, clip: str, dancer: str) -> bool:
        """Whether a dancer's clip, by its key, is kept from training."""
        return dancer in self.dancers or (bool(self.performances) and performance_of(clip) in self.performances)


NOTHING = HeldOut()


def hold_back(
    clips: Sequence[str], dancers: Sequence[str], num_dancers: int, num_performances: int, seed: int
) -> HeldOut:
    """Draw, by hash, `num_dancers` of the dancers, and `num_performances` of each other dancer, who keeps at least one.

    clips, dancers: keys and their dancers. Clips that are added later change little.
    """
    held = frozenset(hold_out(dancers, num_dancers, seed))
    of: dict[str, set[str]] = {}
    for clip, dancer in zip(clips, dancers, strict=True):
        if dancer not in held:
            of.setdefault(dancer, set()).add(performance_of(clip))
    performances: list[str] = []
    for all_of_dancer in of.values():
        performances += hold_out(all_of_dancer, min(num_performances, len(all_of_dancer) - 1), seed)
    return HeldOut(held, frozenset(performances))
