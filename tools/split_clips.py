"""Cut films into clips: five seconds at the training rate, cropped around the dancer, with joints and head boxes.

Any number of processes on any number of machines may run this command with one output folder. They share the films.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections, warn_of_unused
from faceid.data.films.split_settings import SplitSettings
from faceid.data.selection_settings import SelectionSettings, of_selection
from faceid.errors import run_entry_point
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.split_clips")


@dataclass(frozen=True)
class SplitClipsSettings:
    """Where the films are and where the clips go."""

    videos_dir: Path
    """Folder with the films. dancers.csv (clip,dancer) in it may name the dancers of films without AIST names."""
    output_dir: Path
    """Folder for the clips. Run again to continue."""
    keypoints_dir: Path | None = None
    """Folder with AIST++ keypoints2d (SEQUENCE.pkl) or COCO JSON (FILM.json). Needed for every --crop but none."""
    replace: bool = False
    """Remove clips of an earlier run that this one would not make: those of films that take no part in it, or with
    other settings. Without it such a run is refused."""
    dry_run: bool = False
    """List the films and stop."""


def main(argv: list[str] | None = None) -> int:
    """Parse, find, split."""
    words = sys.argv[1:] if argv is None else argv
    sections = [SplitClipsSettings, SplitSettings, SelectionSettings]
    tool, settings, selection = parse_sections("tools/split_clips.py", __doc__ or "", sections, words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.data.clip_selection import log_left_out
    from faceid.data.films.film_plan import find_films
    from faceid.data.films.split_clips import split_films

    set_up_logging()
    unused = [("max_unknown_share", "without keypoints: give --keypoints_dir")] if tool.keypoints_dir is None else []
    warn_of_unused([settings, selection], [*unused, *of_selection(selection)])
    if tool.dry_run:
        films, left_out = find_films(tool.videos_dir, tool.keypoints_dir, settings, selection)
        for film in films:
            log.info("%s: dancer %s, keypoints %s", film.path.name, film.dancer, film.keypoints)
        log_left_out(left_out, "films")
        return 0
    split_films(tool.videos_dir, tool.output_dir, settings, tool.keypoints_dir, selection, replace=tool.replace)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
