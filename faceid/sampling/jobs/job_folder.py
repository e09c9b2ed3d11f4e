"""Keep the state of each job of an output folder (done, failed, or tried), and give each video its name.

Many workers on many machines share the folder and nothing else. A video is rendered privately, copied beside its place,
hashed, and published by a hard link, which never overwrites. Of two workers that finished the same job one wins, and
the other's bytes are compared with it. Only then is the job recorded as done, so a file without a record counts for
nothing. Nothing here is ever changed once written. It can only be removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from faceid.claims import Claims, refuse_without_links
from faceid.errors import DataError
from faceid.files.documents import find_json, read_json_lines
from faceid.files.outputs import BATCH_FOLDER, claim_folder, is_ours, kind_of, refuse_file, write_output
from faceid.files.outputs import record as note_written
from faceid.files.provenance import sha256_file
from faceid.files.writing import (
    fsync_file,
    fsync_folder,
    is_private,
    json_text,
    make_parents,
    settle_modes,
    sweep,
    temporary_beside,
    write_json,
)
from faceid.sampling.one_video.sidecar import sidecar_of

log = logging.getLogger(__name__)

FOLDER_NAME = ".jobs"
ROWS_NAME, CONCLUSION, POSTERS = "jobs.jsonl", "concluded.json", "gallery/posters"
# The files that a batch writes beside its videos.
SUMMARIES = (ROWS_NAME, "provenance.json", "gallery.html", "scores.jsonl")
# Names in the output folder that no video, sidecar or folder of videos may have. Hidden names are ours, too.
OUR_NAMES = frozenset({*SUMMARIES, PurePosixPath(POSTERS).parts[0], CONCLUSION})
MOST_ERRORS = 3
# An attempt whose worker was killed says nothing of the job, unless there are many.
MOST_DEATHS = 10


@dataclass(frozen=True)
class RenderAttempt:
    """One worker's try, recorded from its beginning. So a job that kills its workers is found out, too."""

    job: str
    path: Path


class JobFolder:
    """The records of an output folder, under `.jobs/`.

    links: whether videos and records get their names by hard links, which let one of several workers win. Without
    links a job has one worker (`--static`), and any file system will do.
    """

    def __init__(self, output_dir: Path, links: bool = True) -> None:
        self.output_dir, self.folder, self.links = output_dir, output_dir / FOLDER_NAME, links
        for name in ("done", "failed", "attempts"):
            make_parents(self.folder / name / "record")

    @classmethod
    def claim(cls, output_dir: Path, inputs: Sequence[Path], private: bool = True, links: bool = True) -> JobFolder:
        """Make a folder one for rendered videos, or check that it is one.

        inputs: folders that are read. private: for a new folder, whether only its owner may look in.
        Raises: DataError when it holds files that no batch of ours wrote, cannot be written, or lacks hard links that
        are needed.
        """
        is_of_before = kind_of(output_dir) is None and (output_dir / FOLDER_NAME / "done").is_dir()
        # Another worker may be making .jobs at this moment.
        claim_folder(output_dir, BATCH_FOLDER, inputs, private, (FOLDER_NAME,), is_known=is_of_before)
        if is_of_before:
            _adopt(output_dir)
        for name in SUMMARIES:
            refuse_file(output_dir / name, key="output_dir", within=BATCH_FOLDER)
        if links:
            refuse_without_links(output_dir, "static: not given, and several workers may render; give --static")
        return cls(output_dir, links)

    @property
    def cache_dir(self) -> Path:
        """Where workers share computed results, until all is rendered."""
        return self.folder / "cache"

    def claims(self) -> Claims:
        """This worker's view of who does what."""
        return Claims(self.folder / "claims")

    def done(self, job: str) -> dict[str, Any] | None:
        """The record of a finished job, if its video is there with the size it had."""
        record = _read(self._record("done", job))
        with suppress(OSError, KeyError, TypeError, ValueError):
            if record is not None and self._is_whole(job, record):
                return record
        return None

    def records(self) -> dict[str, dict[str, Any]]:
        """Every finished job's record by id, each read once. It is not checked that the videos are still there."""
        found = {path.stem: _read(path) for path in (self.folder / "done").glob("*.json")}
        return {job: record for job, record in found.items() if record is not None and _is_inside(record)}

    def settled_among(self, jobs: Iterable[str], records: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """The jobs that have nothing left to do. records: from `records`."""
        given_up = {path.stem for path in (self.folder / "failed").glob("*.json")}
        settled = set()
        for job in jobs:
            with suppress(OSError, KeyError, TypeError, ValueError):
                if job in given_up or (job in records and self._is_whole(job, records[job])):
                    settled.add(job)
        return settled

    def failed(self, job: str) -> dict[str, Any] | None:
        """The record of a job that was given up."""
        return _read(self._record("failed", job))

    def is_settled(self, job: str) -> bool:
        """Whether nothing is left to do for a job."""
        return self.done(job) is not None or self.failed(job) is not None

    def begin(self, job: str, worker: str) -> RenderAttempt | None:
        """Record a try; None when there were too many, and the job is given up."""
        # Each job has a folder, so that other jobs' tries are never listed.
        folder = self.folder / "attempts" / job
        tries = [_read(path) or {} for path in folder.glob("*.json")]
        errors = [attempt["error"] for attempt in tries if attempt.get("error")]
        if len(errors) >= MOST_ERRORS or len(tries) - len(errors) >= MOST_DEATHS:
            last = errors[-1] if errors else f"{len(tries)} workers ended in the middle of it, without a word"
            self.fail(job, last, _last_tail(tries), len(tries))
            return None
        path = folder / f"{uuid.uuid4().hex[:8]}.json"
        write_json(path, {"worker": worker})
        return RenderAttempt(job, path)

    def forget(self, attempt: RenderAttempt) -> None:
        """Take a try back. Its worker was told to stop, which says nothing of the job."""
        attempt.path.unlink(missing_ok=True)

    def note_error(self, attempt: RenderAttempt, error: str, tail: list[str]) -> None:
        """Record how a try ended. tail: the last lines of the worker's log."""
        known = _read(attempt.path) or {}
        write_json(attempt.path, {**known, "error": error, "log": tail})

    def fail(self, job: str, error: str, tail: list[str], attempts: int) -> None:
        """Give a job up. The first record stands."""
        self._write_once(self._record("failed", job), {"id": job, "error": error, "attempts": attempts, "log": tail})

    def make_folder_of(self, output: str) -> None:
        """Make the folder of a video, as open to others as the output folder. Raises: DataError when that fails."""
        try:
            make_parents(self.output_dir / output)
        except OSError as error:
            said = f"output={self.output_dir / output}: its folder cannot be made ({error.strerror}); choose another"
            raise DataError(said) from error

    def refuse_taken(self, output: str) -> None:
        """Raises: DataError when a video or its sidecar would replace a file that no batch of ours wrote."""
        for path in (self.output_dir / output, sidecar_of(self.output_dir / output)):
            if path.is_symlink() or path.exists():
                refuse_file(path, key="output_dir", within=BATCH_FOLDER)

    def publish(
        self,
        job: str,
        video: Path,
        output: str,
        row: dict[str, Any],
        sidecar: dict[str, Any],
        poster: bytes | None = None,
    ) -> None:
        """Give a privately rendered, verified video its name, and record the job as done with `row`.

        output: path in the output folder. poster: a JPEG of it for the gallery, so that no video is decoded again.
        Raises: OSError (disk full). Raises DataError when the copy differs from the original, or when a video of this
        job with other bytes was published before. Raises it also when a file that no batch of ours wrote has its place.
        """
        final = self.output_dir / output
        self.make_folder_of(output)
        # The video goes from a node's own disk to the shared one. The hash is that of the copy.
        copy = final.with_name(f".{job}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            shutil.copyfile(video, copy)
            fsync_file(copy)
            sha256, size = sha256_file(copy), copy.stat().st_size
            if sha256 != sha256_file(video):
                raise DataError(f"{final}: what was written is not what was rendered; is the disk sound?")
            settle_modes(copy, is_private(self.output_dir))
            self._publish_copy(job, copy, final, sha256)
        except FileNotFoundError:
            if self.done(job) is None:
                raise
            return  # Another worker has done the job, and has swept this copy.
        finally:
            copy.unlink(missing_ok=True)
        write_output(sidecar_of(final), json_text(sidecar))
        if poster is not None and not self.poster_of(job).exists():
            write_output(self.poster_of(job), poster)
        record = {**row, "id": job, "output": output, "sha256": sha256, "bytes": size}
        if not self._write_once(self._record("done", job), record) and self.done(job) is None:
            # The old record's video is gone or cut short, so this record takes its place.
            write_json(self._record("done", job), record)

    def poster_of(self, job: str) -> Path:
        """Where a job's picture in the gallery lies."""
        return self.output_dir / POSTERS / f"{job}.jpg"

    def is_concluded(self, jobs: str) -> bool:
        """Whether the rows of these jobs have been written. jobs: a name for all of them."""
        said = _read(self.folder / CONCLUSION)
        return said is not None and said.get("jobs") == jobs and (self.output_dir / ROWS_NAME).is_file()

    def conclusion(self, jobs: str) -> list[dict[str, Any]] | None:
        """The rows that were written for these jobs; None when there are none, or they were changed."""
        said, path = _read(self.folder / CONCLUSION), self.output_dir / ROWS_NAME
        with suppress(OSError, ValueError):
            if said is not None and said.get("jobs") == jobs and said.get("sha256") == sha256_file(path):
                return [row for _, row in read_json_lines(path)]
        return None

    def conclude(self, jobs: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of these jobs, in jobs.jsonl."""
        content = "".join(json.dumps(row) + "\n" for row in rows)
        write_output(self.output_dir / ROWS_NAME, content)
        said = {"jobs": jobs, "sha256": hashlib.sha256(content.encode()).hexdigest()}
        write_json(self.folder / CONCLUSION, said)

    def reopen(self) -> None:
        """Remove the conclusion, because there is work again."""
        (self.folder / CONCLUSION).unlink(missing_ok=True)

    def sweep(self, jobs: Iterable[str]) -> None:
        """Remove what killed workers left of finished jobs: copies on the way to their name, tries and claims."""
        finished = set(jobs)
        for copy in self.output_dir.rglob(".*.tmp"):
            if copy.name[1:].partition(".")[0] in finished:
                copy.unlink(missing_ok=True)
        for folder in (path for path in self.output_dir.rglob("*") if path.is_dir() and not path.is_symlink()):
            sweep(folder)
        for attempt in (self.folder / "attempts").iterdir():
            if attempt.name in finished:
                shutil.rmtree(attempt, ignore_errors=True)
        # A worker that is still at a finished job finds its claim taken, as if stolen.
        for claim in (self.folder / "claims").glob("[!.]*"):
            if claim.name.removeprefix("again-") in finished:
                claim.unlink(missing_ok=True)

    def _publish_copy(self, job: str, copy: Path, final: Path, sha256: str) -> None:
        # Noted before the file gets its name. Whoever finds it knows that it is ours, even if this process dies.
        note_written(final.parent, [(final.name, sha256)])
        if _gets_name(copy, final, self.links):
            fsync_folder(final.parent)
            return
        if final.is_file() and sha256_file(final) == sha256:
            return  # Another worker's file is there, and equals this one to the byte.
        if self.done(job) is not None:
            raise DataError(
                f"{final}: another worker published other bytes for the same job; the first stay. Machines, versions "
                "or numbers of threads differ: render one batch on one kind"
            )
        # No record says that this file is done. It is a killed worker's, or somebody's.
        if not is_ours(final):
            raise DataError(
                f"{final}: exists, and no batch of ours wrote it so; it is left as it is: move it away, remove "
                f"{self.folder / 'failed'}, and give the same command again"
            )
        os.replace(copy, final)
        fsync_folder(final.parent)

    def _is_whole(self, job: str, record: Mapping[str, Any]) -> bool:
        """Whether a record is this job's and its video has its size.

        Raises: OSError, KeyError, TypeError or ValueError for a record without these facts.
        """
        if record["id"] != job or not _is_inside(record):
            return False
        return bool((self.output_dir / record["output"]).stat().st_size == record["bytes"])

    def _write_once(self, path: Path, content: dict[str, Any]) -> bool:
        """Write a record so that the first one stands. Return whether this was the first."""
        temporary = temporary_beside(path)
        try:
            write_json(temporary, content)
            is_first = _gets_name(temporary, path, self.links)
            fsync_folder(path.parent)
            return is_first
        finally:
            temporary.unlink(missing_ok=True)

    def _record(self, kind: str, job: str) -> Path:
        return self.folder / kind / f"{job}.json"


def our_name_in(output: PurePosixPath) -> str | None:
    """The reserved name that a video of this path, or its sidecar, would have; None when there is none.

    output: relative to the output folder. Case is ignored, because some disks ignore it.
    """
    hidden = next((part for part in output.parts if part.startswith(".")), None)
    first = {output.parts[0], sidecar_of(Path(output)).parts[0]}
    return hidden or next((name for name in sorted(first) if name.lower() in OUR_NAMES), None)


def _gets_name(temporary: Path, path: Path, links: bool) -> bool:
    """Give a file its name unless something has it. Return whether the file got it."""
    if links:
        with suppress(FileExistsError):
            os.link(temporary, path)
            return True
        return False
    # Each job has one worker, so nobody else gives this name.
    if path.is_symlink() or path.exists():
        return False
    temporary.rename(path)
    return True


def _adopt(output_dir: Path) -> None:
    """Note as ours what batches before 2026-12 wrote beside the videos. Their .jobs is the proof."""
    for folder in (output_dir, output_dir / POSTERS, output_dir / "gallery" / "references"):
        names = SUMMARIES if folder == output_dir else tuple(path.name for path in folder.glob("*.jpg"))
        files = [folder / name for name in names if (folder / name).is_file() and not (folder / name).is_symlink()]
        if files:
            note_written(folder, [(file.name, sha256_file(file)) for file in files])


def _is_inside(record: Mapping[str, Any]) -> bool:
    """Whether a record names a video within its folder. Folders are passed on, and anybody may edit a record."""
    output = record.get("output")
    if not isinstance(output, str) or not output or "\0" in output:
        return False
    path = PurePosixPath(output)
    return not path.is_absolute() and ".." not in path.parts


def _read(path: Path) -> dict[str, Any] | None:
    return find_json(path, nan=True)


def _last_tail(tries: list[dict[str, Any]]) -> list[str]:
    return next((attempt["log"] for attempt in reversed(tries) if attempt.get("log")), [])
