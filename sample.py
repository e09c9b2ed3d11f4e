"""Render pose videos as a person: one (--pose_video, --output), or with --batch a folder of them."""

from __future__ import annotations

import sys

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.faces.settings import FaceSettings
from faceid.logs import set_up_logging
from faceid.sampling.place import place_among_workers
from faceid.sampling.settings import SampleSettings
from faceid.sampling.sidecar import words_like


def main(argv: list[str] | None = None) -> int:
    """Parse and render."""
    words = words_like(sys.argv[1:] if argv is None else argv)
    sections = parse_sections("sample.py", __doc__ or "", (SampleSettings, FaceSettings), words)
    rank, _ = place_among_workers()
    set_up_logging(rank)
    # Heavy imports only once the command line is known to be good.
    from faceid.sampling.run import run_sampling

    return run_sampling(*sections)


if __name__ == "__main__":
    run_entry_point(main)
