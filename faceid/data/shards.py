"""Write folders of tar shards so that a kill at any moment costs one shard at most.

A shard is published whole, then its record (`clips-000123.json`) says what went in; the index comes last, from the
records. A second run keeps every shard whose record names the same inputs. Tars are plain WebDataset files, the same
bytes for the same samples.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceid.data.index import INDEX_NAME, INDEX_VERSION, LARGEST_INDEX_BYTES, Shard, index_sha256, parse_sample
from faceid.documents import fitted, parse_json
from faceid.errors import DataError
from faceid.provenance import sha256_file, staged_file, write_atomic, write_json, write_provenance

Dropped = dict[str, Any]
"""key, and the reason; of a clip also its video."""


@dataclass(frozen=True)
class Entry:
    """One sample to write. labels: what the index repeats of it (frames, dancer, genre, camera)."""

    key: str
    members: dict[str, bytes]
    labels: dict[str, Any]


@dataclass(frozen=True)
class ShardRecord:
    """What one unit of work left behind. shard: None when nothing of it could be used."""

    inputs: str
    shard: dict[str, Any] | None
    samples: list[dict[str, Any]]
    dropped: list[dict[str, Any]] = field(default_factory=list)


def shard_name(kind: str, number: int) -> str:
    """File name of a shard, which is also its place among all of them."""
    return f"{kind}-{number:06d}.tar"


def write_shard(path: Path, inputs: str, entries: Iterable[Entry], dropped: list[dict[str, Any]]) -> ShardRecord:
    """Publish one tar and then its record. inputs: hash of everything that decides its content."""
    entries = sorted(entries, key=lambda entry: entry.key)
    shard, samples = None, []
    if entries:
        with staged_file(path) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for entry in entries:
                    samples.append({"key": entry.key, "members": _add_members(tar, entry), **entry.labels})
            shard = {"size": temporary.stat().st_size, "sha256": sha256_file(temporary)}
        shard = {"path": path.name, **shard, "count": len(samples)}
    record = ShardRecord(inputs, shard, samples, dropped)
    write_json(path.with_suffix(".json"), vars(record))
    return record


def remake_shard(path: Path, inputs: str, make: Callable[[], Iterable[Entry | Dropped]]) -> ShardRecord:
    """Publish a shard of what `make` makes, unless the one there was made from the same inputs and is whole.

    make: gives its entries, and in between what could not become one, with why.
    """
    record = reusable_record(path, inputs)
    if record is not None:
        return record
    # From here on the folder is not what an older index says.
    (path.parent / INDEX_NAME).unlink(missing_ok=True)
    made = list(make())
    entries = [entry for entry in made if isinstance(entry, Entry)]
    return write_shard(path, inputs, entries, [drop for drop in made if not isinstance(drop, Entry)])


def reusable_record(path: Path, inputs: str) -> ShardRecord | None:
    """The record beside a shard when it was made from the same inputs and the tar is still what it says."""
    record = read_record(path)
    if record is None or record.inputs != inputs:
        return None
    if record.shard and not (path.is_file() and sha256_file(path) == record.shard["sha256"]):
        return None
    return record


def read_record(path: Path) -> ShardRecord | None:
    """The record beside a shard; None when there is none, or it is torn or of another version."""
    try:
        record = fitted(ShardRecord, parse_json(path.with_suffix(".json").read_bytes()))
        if record.shard is not None:
            fitted(Shard, record.shard)
        for sample in record.samples:
            parse_sample({**sample, "shard": 0})
        return record
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def write_index(folder: Path, kind: str, header: dict[str, Any], records: list[ShardRecord]) -> dict[str, Any]:
    """Write provenance and, last, the index that makes the folder complete."""
    shards: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for record in records:
        dropped += record.dropped
        if record.shard:
            samples += [{**sample, "shard": len(shards)} for sample in record.samples]
            shards.append(record.shard)
    content = {"kind": kind, "version": INDEX_VERSION, **header}
    content |= {"dropped": content.get("dropped", []) + dropped, "shards": shards, "samples": samples}
    content["sha256"] = index_sha256(content)
    if not _has_index(folder, content["sha256"]):
        write_provenance(folder, {"index_sha256": content["sha256"]})
        # Without indentation: of 100,000 clips that is a third of the bytes, and much of the time.
        write_atomic(folder / INDEX_NAME, json.dumps(content) + "\n")
    _remove_strangers(folder, kind, {shard["path"] for shard in shards})
    return content


def refuse_other_content(folder: Path, kind: str) -> None:
    """Raises: DataError when `folder` is a file, or an index of something else in it would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; choose another output folder")
    try:
        content = parse_json((folder / INDEX_NAME).read_bytes(), largest_bytes=LARGEST_INDEX_BYTES)
    except (OSError, ValueError):
        return  # None there, or a torn one of ours, which is made again.
    found = content.get("kind") if isinstance(content, dict) else None
    if found != kind:
        raise DataError(f"{folder}: holds {found or 'other files'}, not {kind}; choose another output folder")


def _add_members(tar: tarfile.TarFile, entry: Entry) -> dict[str, list[int]]:
    places = {}
    for name, data in sorted(entry.members.items()):
        # TarInfo's defaults (no time, no owner, 0644) make the bytes a function of the content.
        info = tarfile.TarInfo(f"{entry.key}.{name}")
        info.size = len(data)
        places[name] = [tar.offset + tarfile.BLOCKSIZE, len(data)]
        tar.addfile(info, io.BytesIO(data))
    return places


def _has_index(folder: Path, sha256: str) -> bool:
    try:
        content = parse_json((folder / INDEX_NAME).read_bytes(), largest_bytes=LARGEST_INDEX_BYTES)
        return content["sha256"] == sha256
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_strangers(folder: Path, kind: str, kept: set[str]) -> None:
    """Shards of an earlier, longer run would be read by anyone who globs for tars."""
    for file in folder.glob(f"{kind}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"):
        if file.name not in kept:
            # Another process that shares the work may be at the same.
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)
