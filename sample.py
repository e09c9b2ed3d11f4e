"""Render pose videos as a person: one (--pose_video, --output), or with --batch a folder of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.logs import set_up_logging
from faceid.sampling.jobs.place import place_among_workers
from faceid.sampling.like import words_like
from faceid.sampling.render_sections import SECTIONS, RenderSections
from faceid.sampling.stopping import stop_when_told

if TYPE_CHECKING:
    from faceid.evaluation.score_videos import BatchJudge


def main(argv: list[str] | None = None) -> int:
    """Parse and render."""
    words = words_like(sys.argv[1:] if argv is None else argv)
    sections = parse_sections("sample.py", __doc__ or "", SECTIONS, words, RenderSections)
    rank, _ = place_among_workers()
    set_up_logging(rank)
    stop_when_told()
    # Heavy imports come only once the command line is known to be good.
    from faceid.sampling.sampling_run import run_sampling

    return run_sampling(RenderSections(*sections), make_judge)


def make_judge(sections: RenderSections, adapters: list[Path]) -> BatchJudge:
    """Make the judge of videos that these adapters rendered.

    It is made here, as rendering knows nothing of evaluation.
    """
    from faceid.device import pick_device
    from faceid.evaluation.score_videos import BatchJudge
    from faceid.evaluation.videos.judge_settings import PeopleSettings, RecogniserSettings
    from faceid.evaluation.videos.recognisers import check_recogniser_names

    check_recogniser_names([sections.gallery.score or ""], "score")
    gallery, faces = sections.gallery, sections.faces
    people = PeopleSettings(
        references_dir=Path(gallery.references_dir or ""),
        heads_dir=Path(gallery.heads_dir) if gallery.heads_dir is not None else None,
        detector=faces.detector,
        detector_path=faces.detector_path,
        face_margin=faces.face_margin,
    )
    recognisers = RecogniserSettings(
        recognisers=[gallery.score or ""], device=str(pick_device(sections.compute.device))
    )
    return BatchJudge(people, recognisers, adapters)


if __name__ == "__main__":
    run_entry_point(main)
