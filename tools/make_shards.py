"""Pack dance clips and their pose videos into clip shards: WebDataset tars with an index."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections, warn_of_unused
from faceid.data.clip_settings import CaptionFiles, ClipSettings
from faceid.data.selection_settings import SelectionSettings, of_selection
from faceid.errors import run_entry_point
from faceid.geometry import Geometry
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.make_shards")


@dataclass(frozen=True)
class MakeShardsSettings:
    """Where the clips are and where the shards go."""

    dance_videos_dir: Path
    """Folder with the dance clips (dance_001.mp4). dancers.csv (clip,dancer) in it may name the dancers."""
    pose_videos_dir: Path
    """Folder with their pose videos (dance_001_pose.mp4). May be the same folder."""
    output_dir: Path
    """Folder for the shards. Run again to continue."""
    caption_files: CaptionFiles = "read"
    """read: NAME.txt beside a clip is its caption. ignore: none are read."""
    model_path: str | None = None
    """Base model the clips are for. If given, size and length are checked against it. `toy`: the embedded one."""
    replace: bool = False
    """Remove clips of an earlier run that take no part in this one, or that were made with other settings. Without it
    such a run is refused."""
    dry_run: bool = False
    """List the pairs and stop."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check, shard."""
    words = sys.argv[1:] if argv is None else argv
    sections = [MakeShardsSettings, ClipSettings, SelectionSettings]
    tool, clips, selection = parse_sections("tools/make_shards.py", __doc__ or "", sections, words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.data.clip_selection import log_left_out
    from faceid.data.clips.clip_shards import captioned, write_clip_shards
    from faceid.data.clips.pairs import find_pairs

    set_up_logging()
    warn_of_unused([clips, selection], of_selection(selection))
    geometry = _geometry(tool.model_path)
    if geometry:
        geometry.latent_shape(clips.num_frames, clips.height, clips.width)
    if tool.dry_run:
        found = find_pairs(tool.dance_videos_dir, tool.pose_videos_dir, selection)
        for pair in captioned(found.pairs, tool.caption_files):
            names = [file.name for file in (pair.video, pair.pose, pair.caption) if file is not None]
            log.info("%s: %s, dancer %s", pair.key, " with ".join(names), pair.dancer)
        log_left_out(found.left_out + found.not_chosen, "clips")
        return 0
    folders = tool.dance_videos_dir, tool.pose_videos_dir, tool.output_dir
    write_clip_shards(*folders, clips, geometry, selection, tool.caption_files, tool.replace)
    return 0


def _geometry(model_path: str | None) -> Geometry | None:
    if model_path is None:
        return None
    # Importing these takes seconds, and only a named model needs them.
    from faceid.models.base.model_files import ModelFiles
    from faceid.toy.shipped import resolve_model_path

    return ModelFiles.find(resolve_model_path(model_path)).geometry


if __name__ == "__main__":
    run_entry_point(main)
