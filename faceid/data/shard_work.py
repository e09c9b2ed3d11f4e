"""A folder of shards made by any number of processes on any number of machines: a shard is the unit of work.

Whoever holds a shard's claim makes it (or finds that it fits), publishes tar and record, and leaves a mark in `.done/`
that says what it saw: sizes and times of what went in and of what came out. Whoever comes later believes a mark that
still fits, so a finished folder is recognised without reading it. The index is written by everybody in the end, from
the records: the same bytes each time, whatever the order in which shards were finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.claims import CLAIMS_NAME, Claims, share_work
from faceid.data.shards import ShardRecord, read_record
from faceid.documents import parse_json, read_bytes
from faceid.errors import DataError
from faceid.provenance import sha256_json, sizes_and_times
from faceid.writing import make_parents, write_atomic, write_json

DONE_NAME, PLAN_NAME = ".done", ".plan"


@dataclass(frozen=True)
class ShardUnit:
    """One shard to be. path: of its tar. seen: what decides it, cheaply: names, sizes and times, settings, hashes."""

    path: Path
    seen: Any

    @property
    def name(self) -> str:
        """The tar's file name."""
        return self.path.name


def make_shards_together(
    folder: Path,
    units: Sequence[ShardUnit],
    make: Callable[[ShardUnit], ShardRecord],
    claims: Claims | None = None,
    description: str = "shards",
    before_another_plan: Callable[[], None] = lambda: None,
) -> list[ShardRecord]:
    """Make this process's part of the shards, wait for the others', and return every record in the units' order.

    make: publishes a shard and its record, or finds that they are there. claims: for tests. before_another_plan: asked
    when the folder was last filled by other settings or from other inputs; raises when something would be lost.
    Raises: DataError when a run with other settings or inputs is at work in the folder.
    """
    by_name = {unit.name: unit for unit in units}
    make_parents(folder / DONE_NAME / "mark")
    claims = claims or Claims(folder / CLAIMS_NAME)
    _refuse_other_plans(folder, claims, sha256_json([unit.seen for unit in units]), before_another_plan)
    for name in share_work(list(by_name), lambda n: _is_done(folder, by_name[n]), claims, description, "shard"):
        make(by_name[name])
        write_json(_mark_path(folder, by_name[name]), _mark(by_name[name]))
    return [_finished_record(folder, unit) for unit in units]


def _refuse_other_plans(folder: Path, claims: Claims, plan: str, before_another: Callable[[], None]) -> None:
    """One folder, one plan at a time: two would take turns at making each other's shards anew."""
    path = claims.folder / PLAN_NAME
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else plan
    holders = claims.holders()
    if before != plan and holders:
        raise DataError(
            f"{folder}: in use by {holders[0]} with other settings or inputs; wait for it to end or choose another "
            f"output folder (if that process is gone, remove {claims.folder})"
        )
    if before != plan or not path.is_file():
        before_another()
        write_atomic(path, plan)


def _finished_record(folder: Path, unit: ShardUnit) -> ShardRecord:
    record, mark = read_record(unit.path), _read_mark(folder, unit)
    # Times are not compared: a slow worker whose claim was taken over may just have written the same bytes again.
    if record is None or mark is None or mark.get("seen") != _mark(unit)["seen"]:
        raise DataError(
            f"{unit.path}: changed by another run with other settings while this one was at work; "
            "give each its own output folder"
        )
    return record


def _is_done(folder: Path, unit: ShardUnit) -> bool:
    return _read_mark(folder, unit) == _mark(unit)


def _read_mark(folder: Path, unit: ShardUnit) -> dict[str, Any] | None:
    try:
        return parse_json(read_bytes(_mark_path(folder, unit)))
    except (OSError, ValueError):
        return None


def _mark(unit: ShardUnit) -> dict[str, Any]:
    files = [file for file in (unit.path, unit.path.with_suffix(".json")) if file.is_file()]
    return {"seen": sha256_json(unit.seen), "made": sizes_and_times(files)}


def _mark_path(folder: Path, unit: ShardUnit) -> Path:
    return folder / DONE_NAME / f"{unit.path.stem}.json"
