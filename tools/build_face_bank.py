"""Cut the dancers' faces out of their films at full size, score and embed them, and store them by dancer and film."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections, warn_of_unused
from faceid.data.dancer_faces.face_bank_settings import FaceBankSettings
from faceid.data.films.split_settings import SplitSettings
from faceid.data.selection_settings import SelectionSettings, of_selection
from faceid.errors import run_entry_point
from faceid.faces.identity_settings import FaceSettings
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.build_face_bank")


@dataclass(frozen=True)
class BuildFaceBankSettings:
    """Which films, and where the bank goes. The encoder must be the one of the target's identity."""

    videos_dir: Path
    """Films or clips, the larger the better. A clip made for training has lost most of a face's pixels."""
    output_dir: Path
    """Folder for the bank: shards and index.json. Run again, by any number of processes, to continue."""
    keypoints_dir: Path | None = None
    """Keypoints of the films (AIST++ pickles, COCO JSON). Without them a detector looks for frontal faces."""
    replace: bool = False
    """Remove faces of an earlier run whose films take no part in this one, or that were made with other settings.
    Without it such a run is refused."""
    dry_run: bool = False
    """Say what would be searched and stop."""


def main(argv: list[str] | None = None) -> int:
    """Parse, find the films, cut and embed."""
    words = sys.argv[1:] if argv is None else argv
    sections = [BuildFaceBankSettings, FaceBankSettings, FaceSettings, SelectionSettings]
    tool, bank, faces, selection = parse_sections("tools/build_face_bank.py", __doc__ or "", sections, words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.data.clip_selection import log_left_out
    from faceid.data.films.film_plan import find_films
    from faceid.data.shards.shard_writer import refuse_shards

    set_up_logging()
    films, left_out = find_films(tool.videos_dir, tool.keypoints_dir, SplitSettings(crop="none"), selection)
    log_left_out(left_out, "films")
    log.info("%d films of %d dancers", len(films), len({film.dancer for film in films}))
    unused = [*faces.unused("here, where no identity is made"), *of_selection(selection)]
    warn_of_unused([faces, selection], unused)
    refuse_shards(tool.output_dir, "faces", [tool.videos_dir])
    if tool.dry_run:
        return 0

    # Importing these takes seconds, so it comes after the cheap checks.
    from faceid.data.dancer_faces.face_bank import write_face_bank
    from faceid.data.dancer_faces.face_sources import of_films
    from faceid.faces.identities.photos_to_identity import encoder_of
    from faceid.toy.shipped import resolve_encoder_path

    faces = replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
    write_face_bank(of_films(films), tool.output_dir, encoder_of(faces), faces, bank, tool.replace)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
