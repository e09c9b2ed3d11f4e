"""Order the stream when samples differ in size: whole micro-batches of one bucket each.

A micro-batch is one tensor, so its samples must have one size. The stream is made of chunks. A chunk has as many
samples as a micro-batch, all of one kind and one size. Which chunk comes when, and which entry is in it, is a function
of (seed, position) as in `mixture`. Groups get chunks in proportion, spread evenly. So over some epochs each entry
comes as often as any other of its kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from faceid.data.order import epoch_order, permutation
from faceid.data.stream.mixture import Mixture, StreamEntry
from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.stream_length import StreamLength
from faceid.data.stream.stream_order import StreamOrder


@dataclass(frozen=True)
class _Group:
    """Entries of one kind and size. numbers: numbers of clips or photos."""

    kind: Kind
    size: Hashable
    numbers: tuple[int, ...]


def make_mixture(
    clip_sizes: Sequence[Hashable],
    photo_sizes: Sequence[Hashable],
    shares: Mapping[Kind, float],
    order: StreamOrder,
) -> Mixture | BucketedMixture:
    """Mix by sample where any samples can share a micro-batch, or none has to; else by micro-batch."""
    if order.micro_batch_size == 1 or len({*clip_sizes, *photo_sizes}) == 1:
        return Mixture(len(clip_sizes), len(photo_sizes), shares, order)
    return BucketedMixture(clip_sizes, photo_sizes, shares, order)


class BucketedMixture:
    """Maps positions to entries, chunk by chunk."""

    def __init__(
        self,
        clip_sizes: Sequence[Hashable],
        photo_sizes: Sequence[Hashable],
        shares: Mapping[Kind, float],
        order: StreamOrder,
    ) -> None:
        """clip_sizes, photo_sizes: size of each entry. shares: for stage 2.

        An epoch of stage 1 has as many whole chunks as all clips and photos fill; at least one.
        """
        self.seed, self.chunk = order.seed, order.micro_batch_size
        chunks = max((len(clip_sizes) + len(photo_sizes)) // self.chunk, 1)
        in_stage2 = max(order.stage2_samples // self.chunk, 1) if order.stage2_samples else chunks
        self.length = StreamLength(chunks * self.chunk, in_stage2 * self.chunk, order.stage2_from_epoch)
        sizes: dict[Kind, Sequence[Hashable]] = {"clip": clip_sizes, "photo": photo_sizes, "null": clip_sizes}
        groups = [group for kind, of_kind in sizes.items() for group in _groups(kind, of_kind)]
        by_count = {"clip": 1.0, "photo": 1.0, "null": 0.0}
        self._stages = [
            _Stage(1, groups, [by_count[group.kind] * len(group.numbers) for group in groups]),
            _Stage(2, groups, [shares.get(g.kind, 0.0) * len(g.numbers) / max(len(sizes[g.kind]), 1) for g in groups]),
        ]
        self.quotas = self._quotas()
        self._epoch: tuple[int, list[tuple[int, int]]] = (-1, [])
        self._turns: dict[tuple[int, int, int], list[int]] = {}

    def __getitem__(self, g: int) -> StreamEntry:
        """The entry at position g."""
        epoch, at = self.length.place(g)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._chunks(epoch))
        stage = self._stage(epoch)
        number, since = self._epoch[1][at // self.chunk]
        group = stage.groups[number]
        place, count = since * self.chunk + at % self.chunk, len(group.numbers)
        # Turn after turn goes through all of the group, each in an order of its own.
        return StreamEntry(group.kind, group.numbers[self._turn(stage, number, place // count)[place % count]])

    def _stage(self, epoch: int) -> _Stage:
        is_second = epoch >= self.length.stage2_from_epoch and self._stages[1].is_possible
        return self._stages[1 if is_second else 0]

    def _turn(self, stage: _Stage, number: int, turn: int) -> list[int]:
        """The order of a group's turn. The last few orders are remembered."""
        key = (stage.number, number, turn)
        if key not in self._turns:
            if len(self._turns) > 4 * len(stage.groups):
                self._turns.clear()
            group = stage.groups[number]
            purpose = f"turn of {group.kind} {group.size} in stage {stage.number}"
            self._turns[key] = permutation(self.seed, turn, purpose, len(group.numbers))
        return self._turns[key]

    def _chunks(self, epoch: int) -> list[tuple[int, int]]:
        """This epoch's chunks in order: (group, number among the group's chunks since the stage began)."""
        stage = self._stage(epoch)
        since = self.length.before(epoch)
        if stage.number == 2:
            since -= self.length.before(self.length.stage2_from_epoch)
        low, high = (
            stage.chunks_of_each(samples // self.chunk)
            for samples in (since, since + self.length.before(epoch + 1) - self.length.before(epoch))
        )
        chunks = [(n, k) for n, (start, end) in enumerate(zip(low, high, strict=True)) for k in range(start, end)]
        return [chunks[n] for n in epoch_order(self.seed, epoch, len(chunks))]

    def _quotas(self) -> dict[Kind, int]:
        """Samples of an epoch of stage 2 by kind, on average, for the log."""
        stage = self._stages[1]
        quotas: dict[Kind, float] = {}
        if stage.is_possible:
            for group, share in zip(stage.groups, stage.shares, strict=True):
                quotas[group.kind] = quotas.get(group.kind, 0.0) + share * self.length.stage2
        return {kind: round(quota) for kind, quota in quotas.items() if round(quota)}


class _Stage:
    """Groups, and the share of the chunks that each gets."""

    def __init__(self, number: int, groups: Sequence[_Group], weights: Sequence[float]) -> None:
        self.number, self.groups = number, groups
        total = sum(weights)
        self.is_possible = total > 0
        self.shares = np.array(weights, float) / (total or 1.0)

    def chunks_of_each(self, count: int) -> list[int]:
        """How many of the first `count` chunks each group gets. Its k-th chunk is due at time (k + 1/2) / share."""
        low, high = 0.0, 2.0 * count + 4.0
        for _ in range(80):  # bisection, past the last bit of a double
            middle = (low + high) / 2
            if np.floor(self.shares * middle + 0.5).sum() > count:
                high = middle
            else:
                low = middle
        counts, after = (np.floor(self.shares * time + 0.5).astype(int) for time in (low, high))
        # Chunks due at the same time come in the groups' order.
        for n in np.flatnonzero(after > counts)[: count - int(counts.sum())]:
            counts[n] += 1
        return counts.tolist()


def _groups(kind: Kind, sizes: Sequence[Hashable]) -> list[_Group]:
    found: dict[Hashable, list[int]] = {}
    for number, size in enumerate(sizes):
        found.setdefault(size, []).append(number)
    return [_Group(kind, size, tuple(numbers)) for size, numbers in found.items()]
