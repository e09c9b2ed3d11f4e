"""Order the endless stream of samples: clips, the target's photos, and clips without a face.

Stage 1 takes every clip and every photo once an epoch. Stage 2 takes the same number of samples an epoch in given
shares. Each epoch has its own permutation, and entries of a kind come in turn. So over some epochs each comes equally
often. All of it is a function of (seed, epoch). So a position determines its entry, on any machine, after any restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from faceid.data.order import epoch_order, permutation
from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.stream_length import StreamLength
from faceid.data.stream.stream_order import StreamOrder


class StreamEntry(NamedTuple):
    """The entry at one position. number: of a clip or of a photo. It is a tuple, as an epoch may have 100,000."""

    kind: Kind
    number: int


class Mixture:
    """Maps positions to entries."""

    def __init__(self, num_clips: int, num_photos: int, shares: Mapping[Kind, float], order: StreamOrder) -> None:
        """shares: for stage 2. The share of a missing kind falls to the others, in proportion."""
        self.counts: dict[Kind, int] = {"clip": num_clips, "photo": num_photos, "null": num_clips}
        self.seed, self.chunk = order.seed, 1
        count = num_clips + num_photos
        self.length = StreamLength(count, order.stage2_samples or count, order.stage2_from_epoch)
        self.quotas = _quotas(self.length.stage2, {k: s for k, s in shares.items() if self.counts[k]})
        self._epoch: tuple[int, list[StreamEntry]] = (-1, [])

    def __getitem__(self, g: int) -> StreamEntry:
        """The entry at position g."""
        epoch, place = self.length.place(g)
        if self._epoch[0] != epoch:
            # The epoch's places are remembered. A permutation of 100,000 clips takes longer than reading one of them.
            self._epoch = (epoch, self._places(epoch))
        return self._epoch[1][place]

    def _places(self, epoch: int) -> list[StreamEntry]:
        first = self.length.stage2_from_epoch
        if epoch < first or not self.quotas:
            clips, size = self.counts["clip"], self.length.before(epoch + 1) - self.length.before(epoch)
            # Without a kind that stage 2 asks for, it goes on as stage 1 does.
            whole = self.counts["clip"] + self.counts["photo"]
            order = [n % whole for n in epoch_order(self.seed, epoch, size)]
            return [StreamEntry("clip", n) if n < clips else StreamEntry("photo", n - clips) for n in order]
        order = epoch_order(self.seed, epoch, self.length.stage2)
        places = [place for kind in sorted(self.quotas) for place in self._places_of(kind, epoch)]
        return [places[n] for n in order]

    def _places_of(self, kind: Kind, epoch: int) -> list[StreamEntry]:
        """This epoch's entries of a kind. Turn after turn goes through all of them, each in an order of its own."""
        count, quota = self.counts[kind], self.quotas[kind]
        first = (epoch - self.length.stage2_from_epoch) * quota
        turns = {
            turn: permutation(self.seed, turn, f"turn of {kind}", count)
            for turn in range(first // count, (first + quota - 1) // count + 1)
        }
        return [StreamEntry(kind, turns[at // count][at % count]) for at in range(first, first + quota)]


def _quotas(total: int, shares: Mapping[Kind, float]) -> dict[Kind, int]:
    """Samples an epoch by largest remainder. They sum to `total`, each less than one sample from its share."""
    whole = sum(shares.values())
    if not whole:
        return {}
    exact = {kind: total * share / whole for kind, share in shares.items()}
    quotas = Counter({kind: int(value) for kind, value in exact.items()})
    left = sorted(exact, key=lambda kind: (quotas[kind] - exact[kind], kind))
    quotas.update(left[: total - sum(quotas.values())])
    return {kind: count for kind, count in quotas.items() if count}
