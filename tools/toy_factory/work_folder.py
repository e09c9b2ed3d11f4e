"""Keep the work folder of the toy world's weights.

They are published into the package whole, or not at all. A stage's result takes its place only where nothing is, or a
stage's earlier result. The shipped files are replaced only where they match their record (`RECORD`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faceid.errors import OutputError
from faceid.files.documents import read_json
from faceid.files.outputs import is_ours, kind_of, refuse_file, refuse_replacing, staged_folder
from faceid.files.records import record, recorded, sha256_file
from faceid.files.writing import RECORDS_NAME, write_json

log = logging.getLogger(f"faceid.tools.{__name__}")

RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "records" / "toy_base.json"
# The content of the work folder and of each of its parts, in words.
WORK, PART = "the making of the toy world's weights", "weights of the toy world"
# The stages in their order, and the result of each that the package ships.
PARTS: dict[str, str | None] = {
    "vae": "base",
    "vae_finish": "base",
    "text": "base",
    "data": None,
    "transformer": "base",
    "transformer_finish": "base",
    "encoder": "encoder",
    "strong_encoder": "strong_encoder",
    "recogniser": "recogniser",
    "readout": "readout.safetensors",
    "pose_reader": "pose_reader.safetensors",
    "dancers": None,
    "adapter": "adapter",
    "strong_adapter": "strong_adapter",
}
# These run with the published base, as any user's training. So they may come after a publishing.
WITH_PUBLISHED = ("dancers", "adapter", "strong_adapter")


def refuse_work(work: Path, names: Sequence[str]) -> None:
    """Report before any work that a stage would replace what no stage left. names: of stages. Raises: OutputError."""
    for name in names:
        refuse_file(work / f"{name}.json", key="work_dir")
        part = PARTS[name]
        if part and not (work / f"{name}.json").is_file():
            _refuse_part(work / part)


@contextmanager
def made_whole(folder: Path, goes_on: bool = False) -> Iterator[Path]:
    """Yield a folder elsewhere. Its content takes the place of `folder` when the block ends well.

    goes_on: whether it begins with the content of `folder`.
    """
    _refuse_part(folder)
    with TemporaryDirectory() as name:
        scratch = Path(name) / folder.name
        if goes_on and folder.is_dir():
            _copy(folder, scratch)
        yield scratch
        with staged_folder(folder, PART, key="work_dir") as staged:
            _copy(scratch, staged)


def refuse_publishing(weights: Path, record_file: Path) -> None:
    """Report before any work that shipped files differ from their record, or cannot be written. Raises: OutputError."""
    known = recorded(weights)
    for name, sha256 in _said_of_shipped(record_file).items():
        known.setdefault(name, set()).add(sha256)
    for name, (_, sha256) in describe_files(weights).items():
        if sha256 not in known.get(name, ()):
            raise OutputError(f"publish: {weights / name}: is not as {record_file} says; move it away, or take it back")
    for folder in (weights.parent, record_file.parent):
        if not os.access(folder, os.W_OK):
            raise OutputError(f"publish: {folder}: cannot be written; change its permissions")


def publish(work: Path, weights: Path, record_file: Path) -> int:
    """Put the stages' results in the place of `weights`, as a whole, and their records into `record_file`.

    Shipped adapters stay until their stages have run, because those need the new base as `toy`. Returns the size
    in bytes. Raises: OutputError when a stage has not ended, or its result is incomplete or changed.
    """
    refuse_publishing(weights, record_file)
    stages = {name: _ended(work, name) for name in PARTS if name not in WITH_PUBLISHED or _has_ended(work, name)}
    # `refuse_publishing` has checked that all of the older folder is ours.
    if weights.is_dir():
        record(weights, _said_of_shipped(record_file).items())
    with staged_folder(weights, PART, key="publish") as staged:
        for part in dict.fromkeys(part for name in stages if (part := PARTS[name])):
            _copy(work / part, staged / part)
        for name in WITH_PUBLISHED:
            part = PARTS[name]
            if part and name not in stages and (weights / part).is_dir():
                log.warning("%s: the one of before stays; its stage has not ended", part)
                _copy(weights / part, staged / part)
    files = describe_files(weights)
    size = sum(bytes_ for bytes_, _ in files.values())
    sums = {name: sha256 for name, (_, sha256) in files.items()}
    write_json(record_file, {"bytes": size, "sha256": sums, "stages": stages})
    # From here on `record_file` proves them. The package ships no record of its maker's machine.
    shutil.rmtree(weights / RECORDS_NAME)
    return size


def describe_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and sha256 of each file of a folder, by its path in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and RECORDS_NAME not in file.parts)
    return {file.relative_to(folder).as_posix(): (file.stat().st_size, sha256_file(file)) for file in files}


def _said_of_shipped(record_file: Path) -> dict[str, str]:
    return dict(read_json(record_file)["sha256"]) if record_file.is_file() else {}


def _has_ended(work: Path, name: str) -> bool:
    return (work / f"{name}.json").exists()


def _ended(work: Path, name: str) -> dict[str, Any]:
    """The record of a stage that ended and whose result is unchanged."""
    if not is_ours(work / f"{name}.json"):
        raise OutputError(f"publish: stage {name} has not ended in work_dir={work}; give --stages '[{name}]' first")
    if part := PARTS[name]:
        _refuse_part(work / part)
        is_file = Path(part).suffix != ""
        lost = [] if is_file else [file for file in recorded(work / part) if not (work / part / file).is_file()]
        if lost or not (is_ours(work / part) if is_file else kind_of(work / part) == PART):
            lacking = work / part / lost[0] if lost else work / part
            raise OutputError(f"publish: {lacking}: is not there; remove {work / name}.json and run its stage again")
    return dict(read_json(work / f"{name}.json", nan=True))


def _refuse_part(path: Path) -> None:
    if path.suffix:
        refuse_file(path, key="work_dir")
    else:
        refuse_replacing(path, PART, key="work_dir")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(RECORDS_NAME), dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
