"""Say what clips would teach, before any training: head sizes, dancers, genres and odd clips, in plain words."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections, warn_of_unused
from faceid.data.clip_settings import ClipSettings
from faceid.data.selection_settings import SelectionSettings, of_selection
from faceid.errors import run_entry_point
from faceid.files.outputs import refuse_replacing
from faceid.geometry import WAN_SPATIAL_FACTOR
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.audit_dataset")


@dataclass(frozen=True)
class AuditSettings:
    """Which clips, and where the report goes."""

    dance_videos_dir: Path
    """Folder with the dance clips."""
    pose_videos_dir: Path
    """Folder with their pose videos. May be the same folder."""
    output_dir: Path
    """Folder for audit.html and audit.json alone. An earlier audit there is replaced."""
    model_path: str | None = None
    """Base model the clips are for, whose latent cells are counted. Default: Wan's cells, of 8 pixels."""


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, report."""
    words = sys.argv[1:] if argv is None else argv
    sections = [AuditSettings, ClipSettings, SelectionSettings]
    tool, clips, selection = parse_sections("tools/audit_dataset.py", __doc__ or "", sections, words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.data.clip_selection import log_left_out
    from faceid.data.clips.audit import audit_pairs
    from faceid.data.clips.audit_report import AUDIT, write_audit
    from faceid.data.clips.pairs import find_pairs

    set_up_logging()
    warn_of_unused(
        [clips, selection], [("clips_per_shard", "here, where no shards are written"), *of_selection(selection)]
    )
    refuse_replacing(tool.output_dir, AUDIT)
    found = find_pairs(tool.dance_videos_dir, tool.pose_videos_dir, selection)
    left_out = found.left_out + found.not_chosen
    log_left_out(left_out, "clips")
    factor = _spatial_factor(tool.model_path)
    audit = audit_pairs(found.pairs, clips, factor, len(left_out))
    for warning in audit.warnings:
        log.warning("%s", warning)
    log.info("%s", write_audit(audit, tool.output_dir, factor))
    return 0


def _spatial_factor(model_path: str | None) -> int:
    if model_path is None:
        return WAN_SPATIAL_FACTOR
    # Importing these takes seconds, and only a named model needs them.
    from faceid.models.base.model_files import ModelFiles
    from faceid.toy.shipped import resolve_model_path

    return ModelFiles.find(resolve_model_path(model_path)).geometry.spatial_factor


if __name__ == "__main__":
    run_entry_point(main)
