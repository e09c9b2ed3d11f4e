"""List the videos of a folder by ending, without hidden ones and subfolders.

Nothing is opened. Other files are reported in a line, except those that belong to videos. These are files beside them
under their names, lists of dancers, and files that our own commands write.
"""

from __future__ import annotations

from pathlib import Path

from faceid.errors import DataError
from faceid.files.given_paths import why_no_folder
from faceid.media.listing import entries_of, files_among, say_no_files, say_passed_over

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
# Endings of lists that a user writes, and of tables and records that our commands leave.
COMPANION_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".html", ".pkl"})


def list_videos(folder: Path, key: str | None = None, may_be_none: bool = False, any_name: bool = False) -> list[Path]:
    """The videos in a folder, sorted by name. key: the flag that gave it, for messages. any_name: as in `entries_of`.

    Raises: DataError when the folder is missing, or holds no video and that is not allowed.
    """
    named = f"{key}={folder}" if key else str(folder)
    if (reason := why_no_folder(folder)) is not None:
        raise DataError(f"{named}: {reason}; give the folder with the videos")
    videos, no_videos = files_among(entries_of(folder, named, any_name), VIDEO_SUFFIXES)
    say_no_files(named, tuple(no_videos.items()))
    named_so = [*videos, *(folder / name for name in no_videos)]
    say_passed_over(folder, named_so, "whose endings are not videos'", _belongs, named)
    if not videos and not may_be_none:
        raise DataError(f"{named}: no video in it (looked for {', '.join(sorted(VIDEO_SUFFIXES))}, not in subfolders)")
    return videos


def _belongs(path: Path, stems: set[str]) -> bool:
    """Whether a file is known beside videos: by its kind, or as a caption or poster under a video's name."""
    return path.suffix.lower() in COMPANION_SUFFIXES or path.stem in stems
