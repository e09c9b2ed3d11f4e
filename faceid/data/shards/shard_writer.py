"""Write folders of tar shards so that a kill at any moment costs one shard at most.

A shard is published whole, then its record (`clips-000123.json`) states its inputs. The index comes last, made from the
records. A second run keeps every shard whose record names the same inputs. Where an index makes a folder whole, new
shards wait and take their places with the new index (`waiting`). Tars are plain WebDataset files, with the same bytes
for the same samples.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceid.claims import CLAIMS_NAME, Claims, share_work
from faceid.data.shards.index import INDEX_NAME, INDEX_VERSION, LARGEST_INDEX_BYTES, Shard, index_sha256, parse_sample
from faceid.data.waiting import (
    WAITING_NAME,
    discard_waiting,
    put_in_place,
    refuse_other_settings,
    waiting_place,
)
from faceid.errors import DataError
from faceid.files.documents import find_json, fitted, read_json
from faceid.files.outputs import claim_folder, is_ours, refuse_folder, set_aside, staged_file, write_bookkeeping
from faceid.files.provenance import sha256_file, write_provenance
from faceid.files.records import record
from faceid.files.writing import write_json

log = logging.getLogger(__name__)

Dropped = dict[str, Any]
"""key, and the reason; for a clip also its video."""


@dataclass(frozen=True)
class Entry:
    """One sample to write. labels: fields that the index repeats (frames, dancer, genre, camera)."""

    key: str
    members: dict[str, bytes]
    labels: dict[str, Any]


@dataclass(frozen=True)
class ShardRecord:
    """The result of one unit of work. shard: None when nothing of it could be used."""

    inputs: str
    shard: dict[str, Any] | None
    samples: list[dict[str, Any]]
    dropped: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """The user's choices, by their flags. Choices that another run may not change anyway are left out."""


def shard_name(kind: str, number: int) -> str:
    """The file name of a shard. It also gives the shard's place among all shards."""
    return f"{kind}-{number:06d}.tar"


def write_shard(
    path: Path,
    inputs: str,
    entries: Iterable[Entry],
    dropped: list[dict[str, Any]],
    settings: dict[str, Any] | None = None,
) -> ShardRecord:
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
    made = ShardRecord(inputs, shard, samples, dropped, settings or {})
    write_json(path.with_suffix(".json"), vars(made))
    return made


def publish_shard(
    path: Path, inputs: str, made: Iterable[Entry | Dropped], settings: dict[str, Any] | None = None
) -> ShardRecord:
    """Publish a shard in its place. While an index makes the folder whole, the shard waits instead.

    made: its entries, and among them what was dropped, with reasons. All is made before anything is moved.
    """
    made = list(made)
    if (path.parent / INDEX_NAME).exists():
        path = waiting_place(path.parent) / path.name
    elif path.exists() and not _is_proved(path):
        set_aside(path)
    entries = [entry for entry in made if isinstance(entry, Entry)]
    return write_shard(path, inputs, entries, [drop for drop in made if not isinstance(drop, Entry)], settings)


def newest(path: Path) -> Path:
    """Where the newest shard is: among the waiting ones, else in its place."""
    waiting = path.parent / WAITING_NAME / path.name
    return waiting if waiting.with_suffix(".json").is_file() else path


def find_reusable(path: Path, inputs: str) -> ShardRecord | None:
    """The record of a shard in its place or waiting, if it was made from the same inputs and is whole."""
    places = (path, path.parent / WAITING_NAME / path.name)
    return next((found for place in places if (found := _reusable_at(place, inputs)) is not None), None)


def _reusable_at(path: Path, inputs: str) -> ShardRecord | None:
    known = read_record(path)
    if known is None or known.inputs != inputs:
        return None
    if known.shard and not (path.is_file() and sha256_file(path) == known.shard["sha256"]):
        return None
    return known


def read_record(path: Path) -> ShardRecord | None:
    """The record beside a shard; None when there is none, or it is torn or of another version."""
    try:
        record = fitted(ShardRecord, read_json(path.with_suffix(".json")))
        if record.shard is not None:
            fitted(Shard, record.shard)
        for sample in record.samples:
            parse_sample({**sample, "shard": 0})
        return record
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def write_index(folder: Path, kind: str, header: dict[str, Any], records: list[ShardRecord]) -> dict[str, Any]:
    """Put waiting shards in place. Write provenance and, last, the index that makes the folder complete.

    One process does this at a time.
    """
    content: dict[str, Any] = {}
    for _ in share_work(["index"], lambda _: False, Claims(folder / CLAIMS_NAME), "index"):
        _put_shards_in_place(folder, kind)
        content = _write_index(folder, kind, header, records)
    return content


def _write_index(folder: Path, kind: str, header: dict[str, Any], records: list[ShardRecord]) -> dict[str, Any]:
    shards: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for each in records:
        dropped += each.dropped
        if each.shard:
            samples += [{**sample, "shard": len(shards)} for sample in each.samples]
            shards.append(each.shard)
    content = {"kind": kind, "version": INDEX_VERSION, **header}
    content |= {"dropped": content.get("dropped", []) + dropped, "shards": shards, "samples": samples}
    content["sha256"] = index_sha256(content)
    if not _has_index(folder, content["sha256"]):
        write_provenance(folder, {"index_sha256": content["sha256"]})
        # The index has no indentation. For 100,000 clips that saves a third of the bytes, and much of the time.
        write_bookkeeping(folder / INDEX_NAME, json.dumps(content) + "\n")
    _remove_strangers(folder, kind, {shard["path"] for shard in shards})
    return content


def _put_shards_in_place(folder: Path, kind: str) -> None:
    """Move waiting shards to their places. The index goes first, because it is no longer true."""
    waiting = folder / WAITING_NAME
    for path in sorted(waiting.glob(f"{kind}-*.json")):
        known = read_record(path)
        if known is None:
            continue
        tar = folder / path.with_suffix(".tar").name
        if (folder / INDEX_NAME).exists():
            if is_ours(folder / INDEX_NAME):
                (folder / INDEX_NAME).unlink()
            else:
                set_aside(folder / INDEX_NAME)
        if tar.exists() and not _is_proved(tar):
            set_aside(tar)
        if known.shard is None:
            tar.unlink(missing_ok=True)
        elif (waiting / tar.name).is_file():
            put_in_place(folder, {tar.name: known.shard["sha256"]})
        # The record moves last. If this run is killed before, the next one sees by the record what has yet to move.
        path.replace(folder / path.name)
    discard_waiting(folder)


def claim_shards(folder: Path, kind: str, inputs: Sequence[Path], private: bool = False) -> None:
    """Claim a folder before any work. inputs: folders that are read. private: whether it shows faces.

    Raises: DataError when the folder is read from, cannot be written, or holds anything else.
    """
    refuse_shards(folder, kind, inputs)
    claim_folder(folder, f"shards of {kind}", inputs, private, is_known=_is_known(folder, kind))


def refuse_shards(folder: Path, kind: str, inputs: Sequence[Path]) -> None:
    """Make only the refusals of `claim_shards`; write nothing. Raises: DataError."""
    refuse_other_content(folder, kind)
    refuse_folder(folder, f"shards of {kind}", inputs, is_known=_is_known(folder, kind))


def _is_known(folder: Path, kind: str) -> bool:
    """Whether a folder without a mark is one of ours from before there were marks, by its shards' records."""
    return any(read_record(file) is not None for file in folder.glob(f"{kind}-*.json"))


def refuse_losing(folder: Path, kind: str, keys: Collection[str], replace: bool, settings: dict[str, Any]) -> None:
    """Refuse, before any work, to lose entries. replace: whether the user said that the folder's content may go.

    keys: of all that takes part now. settings: of this run, by their flags.
    Raises: DataError when the folder holds entries that this run would remove: they are of other films or clips, or
    have other settings.
    """
    if replace:
        return
    held: set[str] = set()
    for file in folder.glob(f"{kind}-*.json"):
        known = read_record(file)
        if known is None:
            continue
        held |= {str(entry["key"]) for entry in (*known.samples, *known.dropped) if entry.get("key")}
        if known.samples:
            # Records from before 2026-12 do not hold their settings. The index does.
            refuse_other_settings(folder, kind, known.settings or _indexed_settings(folder), settings)
    lost = sorted(held - set(keys))
    if lost:
        raise DataError(
            f"output_dir={folder}: holds {len(lost)} {kind} that do not take part in this run, such as {lost[0]}, and "
            "would lose them; name a new folder, or give --replace to remove them"
        )


def _indexed_settings(folder: Path) -> dict[str, Any]:
    settings = (find_json(folder / INDEX_NAME, largest_bytes=LARGEST_INDEX_BYTES) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def refuse_other_content(folder: Path, kind: str) -> None:
    """Raises: DataError when `folder` is a file, or an index of something else in it would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; choose another output folder")
    try:
        content = read_json(folder / INDEX_NAME, None, largest_bytes=LARGEST_INDEX_BYTES)
    except (OSError, ValueError):
        return  # There is none, or a torn one of ours, which is made again.
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
    content = find_json(folder / INDEX_NAME, largest_bytes=LARGEST_INDEX_BYTES)
    return content is not None and content.get("sha256") == sha256


def _remove_strangers(folder: Path, kind: str, kept: set[str]) -> None:
    """Remove shards of an earlier, longer run. Anyone who globs for tars would read them."""
    for file in folder.glob(f"{kind}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"):
        if file.name not in kept:
            if not _is_proved(file):
                log.warning("%s: left where it is; it is not as we wrote it", file)
                continue
            # Another process that shares the work may remove it at the same moment.
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)


def _is_proved(shard: Path) -> bool:
    """Whether a tar is as we wrote it. A tar from before there were records is noted as ours."""
    try:
        if is_ours(shard):
            return True
        known = read_record(shard)
        sha256 = known.shard["sha256"] if known is not None and known.shard else None
        if sha256 is None or sha256_file(shard) != sha256:
            return False
    except (OSError, KeyError, TypeError):
        return False
    record(shard.parent, [(shard.name, sha256)])
    return True
