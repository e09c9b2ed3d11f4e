"""Tell whether a clip or pose video is still the one that we made.

Somebody may have replaced it by hand under the same name. The record of a film or a pose holds each file's size and
sha256. A file of another size is another file. One of the same size is ours if it is no newer than the record, which is
written after it. So a second run over ten thousand clips reads none of them. Only the rest are hashed, at 0.5 GB/s.
Those are the files of a copied folder, which have their own times. The record holds no time, so that many workers leave
the same bytes as one. An older file of exactly the same size is taken for ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from faceid.errors import DataError
from faceid.files.documents import find_json
from faceid.files.records import is_replaced, sha256_file
from faceid.media.listing import some

# Where render_poses.py records what it drew, in the folder of pose videos.
POSE_RECORDS_NAME = ".rendered"

log = logging.getLogger(__name__)


def describe_made(file: Path) -> dict[str, Any]:
    """The entry of a record for a file that was just written.

    It stays true once the file has been moved to its place.
    """
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)}


def is_as_made(file: Path, made: Mapping[str, Any] | None, record: Path) -> bool:
    """Whether an existing file is the one in a record.

    made: the result of `describe_made`; None in records from before 2026-12. record: its file, written after the other.
    Where an old record says nothing, the folder's own record is asked. A name that is in neither cannot be judged.
    """
    if made is None:
        return not is_replaced(file)
    status = file.stat()
    if status.st_size != made.get("bytes"):
        return False
    is_older = status.st_mtime_ns <= record.stat().st_mtime_ns
    return is_older or sha256_file(file) == made.get("sha256")


def say_replaced(folder: Path, names: Iterable[str], command: str, noun: str) -> None:
    """Name the files that somebody replaced, and what to do. Anyone who lists the folder finds them."""
    replaced = sorted(names)
    if replaced:
        log.warning(
            "%s: %d %s not as %s wrote them, left as they are and not counted: %s; whoever lists the folder takes "
            "them. Move them away and run it again, or give your own files names of their own",
            folder,
            len(replaced),
            noun,
            command,
            some(replaced),
        )


def refuse_pose_of_another_clip(pose: Path, clip: Path) -> None:
    """Raises: DataError when a pose video of ours was drawn from another clip than the one of its name."""
    # There is no record of a pose that is not ours.
    said = (find_json(pose.parent / POSE_RECORDS_NAME / f"{clip.stem}.json") or {}).get("clip_sha256")
    if said is not None and said != sha256_file(clip):
        raise DataError(
            f"{pose.name}: was drawn from another clip of the name {clip.name}, which was replaced since then; run "
            "tools/render_poses.py again"
        )


def warn_of_replaced(files: Iterable[Path]) -> list[Path]:
    """Files under the name of a clip or pose that we made that are not ours.

    They are reported, and read as the user's.
    """
    replaced = [file for file in files if is_replaced(file)]
    for file in replaced:
        log.warning(
            "%s: not the video that was made here under this name; it is taken for yours, and its dancer from its "
            "name: see that both are right, or move it away and make it again",
            file.name,
        )
    return replaced
