"""Let any number of processes on any number of machines make a folder of shards.

A shard is the unit of work. The holder of a shard's claim makes it (or finds that it fits), and publishes tar and
record. It leaves a mark in `.done/` with the sizes and times of input and output files. Later processes believe a mark
that still fits, so a finished folder is recognised without reading it. In the end every process writes the index from
the records. It has the same bytes each time, whatever the order in which shards were finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.claims import CLAIMS_NAME, Claims, hold_plan, share_work
from faceid.data.shards.shard_writer import (
    Dropped,
    Entry,
    ShardRecord,
    find_reusable,
    newest,
    publish_shard,
    read_record,
    shard_name,
)
from faceid.data.waiting import discard_waiting
from faceid.errors import DataError
from faceid.files.documents import find_json
from faceid.files.provenance import sha256_json, sizes_and_times
from faceid.files.writing import make_parents, write_json

DONE_NAME = ".done"


@dataclass(frozen=True)
class ShardUnit:
    """One planned shard. path: its tar. seen: what decides it, cheaply: names, sizes and times, settings, hashes.

    parts: what its entries are made of, one after the other.
    """

    path: Path
    seen: Any
    parts: Sequence[Any] = ()

    @property
    def name(self) -> str:
        """The tar's file name."""
        return self.path.name


def plan_units(
    folder: Path, kind: str, parts: Sequence[Any], size: int, seen_of: Callable[[Sequence[Any]], Any]
) -> list[ShardUnit]:
    """Shards of `size` parts each. seen_of: what decides a shard of these parts."""
    groups = [parts[start : start + size] for start in range(0, len(parts), size)]
    return [ShardUnit(folder / shard_name(kind, number), seen_of(group), group) for number, group in enumerate(groups)]


@contextmanager
def one_plan(
    folder: Path, units: Sequence[ShardUnit], before_another_plan: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a folder to these shards until its index is written.

    before_another_plan: called when the folder was last filled with other settings or from other inputs. It raises when
    something would be lost. Results that wait there from an unfinished run are then removed.
    Raises: DataError when a run with other settings or inputs is at work in the folder.
    """

    def before_another() -> None:
        before_another_plan()
        discard_waiting(folder)

    with hold_plan(Claims(folder / CLAIMS_NAME), sha256_json([unit.seen for unit in units]), before_another):
        yield


def make_shards_together(
    folder: Path,
    units: Sequence[ShardUnit],
    entries_of: Callable[[ShardUnit], Iterable[Entry | Dropped]],
    settings: dict[str, Any] | None = None,
    inputs_of: Callable[[ShardUnit], str] | None = None,
    claims: Claims | None = None,
) -> list[ShardRecord]:
    """Make this process's part of the shards, wait for the others, and return every record in the units' order.

    An existing shard that was made from the same inputs is kept. entries_of: a unit's entries, and among them what was
    dropped, with reasons. settings: the user's choices, by flags, for the records. inputs_of: the hash of all that
    decides a shard's content; by default the hash of what the unit has `seen`. claims: for tests.
    Raises: DataError when a run with other settings or inputs changed the shards meanwhile; see `one_plan`.
    """
    by_name = {unit.name: unit for unit in units}
    make_parents(folder / DONE_NAME / "mark")
    claims = claims or Claims(folder / CLAIMS_NAME)
    for name in share_work(list(by_name), lambda n: is_done(folder, by_name[n]), claims, "shards", "shard"):
        unit = by_name[name]
        inputs = inputs_of(unit) if inputs_of is not None else sha256_json(unit.seen)
        if find_reusable(unit.path, inputs) is None:
            publish_shard(unit.path, inputs, entries_of(unit), settings)
        write_json(_mark_path(folder, unit), _mark(unit))
    return [_finished_record(folder, unit) for unit in units]


def is_done(folder: Path, unit: ShardUnit) -> bool:
    """Whether somebody has made a shard of the present inputs, judged by sizes and times."""
    return find_json(_mark_path(folder, unit)) == _mark(unit)


def _finished_record(folder: Path, unit: ShardUnit) -> ShardRecord:
    record, mark = read_record(newest(unit.path)), find_json(_mark_path(folder, unit))
    # Times are not compared. A slow worker whose claim was taken over may just have written the same bytes again.
    if record is None or mark is None or mark.get("seen") != _mark(unit)["seen"]:
        raise DataError(
            f"{unit.path}: changed by another run with other settings while this one was at work; "
            "give each its own output folder"
        )
    return record


def _mark(unit: ShardUnit) -> dict[str, Any]:
    path = newest(unit.path)
    files = [file for file in (path, path.with_suffix(".json")) if file.is_file()]
    return {"seen": sha256_json(unit.seen), "made": sizes_and_times(files)}


def _mark_path(folder: Path, unit: ShardUnit) -> Path:
    return folder / DONE_NAME / f"{unit.path.stem}.json"
