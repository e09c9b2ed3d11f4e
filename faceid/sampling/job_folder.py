"""What has become of each job of an output folder: done, failed, or tried; and how a video gets its name.

Many workers on many machines share the folder and nothing else. A video is rendered privately, copied beside its
place, hashed, and published by a hard link, which never overwrites: of two workers that finished the same job one wins,
and the other's bytes are compared with it. Only then is the job recorded as done, so a file without a record counts for
nothing. Nothing here is ever changed once written, but by removing it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.claims import Claims
from faceid.errors import DataError
from faceid.provenance import sha256_file
from faceid.sampling.sidecar import sidecar_of
from faceid.writing import fsync_file, fsync_folder, write_json

log = logging.getLogger(__name__)

FOLDER_NAME = ".jobs"
MOST_ERRORS = 3
# Attempts whose worker was killed say nothing of the job, unless there are many.
MOST_DEATHS = 10


@dataclass(frozen=True)
class Attempt:
    """One worker's try, on record from its beginning: a job that kills its workers must be found out, too."""

    job: str
    path: Path


class JobFolder:
    """The records of an output folder, under `.jobs/`."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir, self.folder = output_dir, output_dir / FOLDER_NAME
        for name in ("done", "failed", "attempts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def cache_dir(self) -> Path:
        """Where workers share what they have computed, until all is rendered."""
        return self.folder / "cache"

    def claims(self) -> Claims:
        """This worker's view of who does what."""
        return Claims(self.folder / "claims")

    def done(self, job: str) -> dict[str, Any] | None:
        """The record of a finished job, if its video is there with the size it had."""
        record = _read(self._record("done", job))
        if record is None:
            return None
        try:
            is_whole = (self.output_dir / record["output"]).stat().st_size == record["bytes"]
        except (OSError, KeyError, TypeError):
            return None
        return record if is_whole else None

    def names(self) -> dict[str, str]:
        """The names that finished jobs have, and which job has each."""
        records = [_read(path) or {} for path in (self.folder / "done").glob("*.json")]
        return {record["output"]: record["id"] for record in records if "output" in record and "id" in record}

    def failed(self, job: str) -> dict[str, Any] | None:
        """The record of a job that was given up."""
        return _read(self._record("failed", job))

    def is_settled(self, job: str) -> bool:
        """Whether nothing is left to do for a job."""
        return self.done(job) is not None or self.failed(job) is not None

    def begin(self, job: str, worker: str) -> Attempt | None:
        """Record a try; None when there were too many, and the job is given up."""
        tries = [_read(path) or {} for path in self.folder.glob(f"attempts/{job}.*.json")]
        errors = [attempt["error"] for attempt in tries if attempt.get("error")]
        if len(errors) >= MOST_ERRORS or len(tries) - len(errors) >= MOST_DEATHS:
            last = errors[-1] if errors else f"{len(tries)} workers ended in the middle of it, without a word"
            self.fail(job, last, _last_tail(tries), len(tries))
            return None
        path = self.folder / "attempts" / f"{job}.{uuid.uuid4().hex[:8]}.json"
        write_json(path, {"worker": worker})
        return Attempt(job, path)

    def note_error(self, attempt: Attempt, error: str, tail: list[str]) -> None:
        """Record how a try ended. tail: the last lines of the worker's log."""
        known = _read(attempt.path) or {}
        write_json(attempt.path, {**known, "error": error, "log": tail})

    def fail(self, job: str, error: str, tail: list[str], attempts: int) -> None:
        """Give a job up. The first word stands."""
        _write_once(self._record("failed", job), {"id": job, "error": error, "attempts": attempts, "log": tail})

    def publish(self, job: str, video: Path, output: str, row: dict[str, Any], sidecar: dict[str, Any]) -> None:
        """Give a privately rendered, verified video its name, and record the job as done with `row`.

        output: path in the output folder. Raises: OSError (disk full); DataError when the copy is not the original, or
        when a video of this job with other bytes was published before.
        """
        final = self.output_dir / output
        final.parent.mkdir(parents=True, exist_ok=True)
        # From a node's own disk to the shared one; what was copied is what is hashed.
        copy = final.with_name(f".{job}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            shutil.copyfile(video, copy)
            fsync_file(copy)
            sha256, size = sha256_file(copy), copy.stat().st_size
            if sha256 != sha256_file(video):
                raise DataError(f"{final}: what was written is not what was rendered; is the disk sound?")
            self._link(job, copy, final, sha256)
        except FileNotFoundError:
            if self.done(job) is None:
                raise
            return  # Done by another, who has swept this copy.
        finally:
            copy.unlink(missing_ok=True)
        write_json(sidecar_of(final), sidecar)
        record = {**row, "id": job, "output": output, "sha256": sha256, "bytes": size}
        if not _write_once(self._record("done", job), record) and self.done(job) is None:
            # A record whose video is gone or cut short: this one takes its place.
            write_json(self._record("done", job), record)

    def sweep(self, jobs: Iterable[str]) -> None:
        """Remove what killed workers left of jobs that are done: copies on the way to their name, tries and claims."""
        finished = {job for job in jobs if self.done(job) is not None}
        for copy in self.output_dir.rglob(".*.tmp"):
            if copy.name[1:].partition(".")[0] in finished:
                copy.unlink(missing_ok=True)
        for attempt in (self.folder / "attempts").iterdir():
            if attempt.name.partition(".")[0] in finished:
                attempt.unlink(missing_ok=True)
        # Whoever is still at a job that is done finds its claim taken, as if by a thief.
        for claim in (self.folder / "claims").glob("[!.]*"):
            if claim.name.removeprefix("again-") in finished:
                claim.unlink(missing_ok=True)

    def _link(self, job: str, copy: Path, final: Path, sha256: str) -> None:
        with suppress(FileExistsError):
            os.link(copy, final)
            return
        if sha256_file(final) == sha256:
            return  # Another worker's, the same to the byte.
        if self.done(job) is not None:
            raise DataError(
                f"{final}: another worker published other bytes for the same job; the first stay. Machines or "
                "versions differ: render one batch on one kind"
            )
        # No record vouches for it: a leftover of other hands.
        log.warning("%s: was there without a record, and is replaced", final)
        os.replace(copy, final)

    def _record(self, kind: str, job: str) -> Path:
        return self.folder / kind / f"{job}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_once(path: Path, content: dict[str, Any]) -> bool:
    """Write a record by a link, so that the first one stands; whether this was it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write_json(temporary, content)
        with suppress(FileExistsError):
            os.link(temporary, path)
            fsync_folder(path.parent)
            return True
        return False
    finally:
        temporary.unlink(missing_ok=True)


def _last_tail(tries: list[dict[str, Any]]) -> list[str]:
    return next((attempt["log"] for attempt in reversed(tries) if attempt.get("log")), [])
