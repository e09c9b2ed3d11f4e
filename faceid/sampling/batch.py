"""Run a batch from settings to exit code.

The steps are: plan jobs, render them with other workers, report, score and show.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from faceid.errors import DataError, DiskError, one_line
from faceid.sampling.jobs.batch_settings import GallerySettings
from faceid.sampling.jobs.gallery import write_gallery
from faceid.sampling.jobs.job_folder import JobFolder
from faceid.sampling.jobs.job_list import RequestedJob, read_job_list, read_pose_folder
from faceid.sampling.jobs.place import place_among_workers
from faceid.sampling.jobs.plan import Job, Planner, safe_name
from faceid.sampling.jobs.worker import NOT_YET, Worker, conclude, count_failed, give_up, is_full
from faceid.sampling.one_video.loaded_models import Models
from faceid.sampling.one_video.renderer import check_output_dir, check_video_place
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.sampling.one_video.video_settings import PER_VIDEO
from faceid.sampling.render_sections import RenderSections
from faceid.sampling.who.given_faces import faces_by_name, people_given
from faceid.sampling.who.rendered_identities import check_people_folder

log = logging.getLogger(__name__)

SOME_FAILED_EXIT_CODE = 1


class VideoJudge(Protocol):
    """Scores the videos of a batch."""

    def score(self, output_dir: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Scores by a row's id. rows: lines of jobs.jsonl."""
        ...


# Makes the judge from the sections and the adapters that render. Evaluation is a room of the same floor.
MakeJudge = Callable[[RenderSections, list[Path]], VideoJudge]


def run_batch(sections: RenderSections, models: Models, make_judge: MakeJudge | None) -> int:
    """Exit code 0, or 1 when some videos failed.

    Raises: DataError when the disk is full. Finished videos stay.
    """
    output_dir = sections.batch.output_dir
    try:
        return _run(sections, models, make_judge)
    except DiskError as error:
        raise DataError(f"output_dir={output_dir}: {one_line(error)}: what is finished stays") from error
    except OSError as error:
        if is_full(error):
            raise DataError(
                f"output_dir={output_dir}: {error.strerror or 'the disk is full'}; make room there and in "
                f"{tempfile.gettempdir()}, then give the same command again: what is finished stays"
            ) from error
        raise


def _run(sections: RenderSections, models: Models, make_judge: MakeJudge | None) -> int:
    """Run the batch. All about poses, people and outputs is refused before photos are embedded or weights loaded."""
    batch, adapter = sections.batch, sections.models.face_lora_path
    output_dir = Path(batch.output_dir or "")
    face_of = faces_by_name(sections.who, sections.faces, sections.sampling.face_scale > 0)
    planner = Planner(sections.options, sections.compute, models.name, models.base, face_of, str(models.dtype))
    if batch.jobs is None or adapter is not None:
        planner.known_adapter(adapter)
    requests, people = _requests(sections, models)
    check_output_dir(output_dir, {request.pose for request in requests}, people)
    folder = JobFolder.claim(output_dir, _folders_read(sections), not sections.faces.shared, not batch.static)
    # A batch's own cache is made only when there is work. When all is done, another worker may be removing it.
    own_cache = models.cache(folder.cache_dir, sections.cache.cache_gb)
    cache = models.kept_cache(sections.cache, not sections.faces.shared) or own_cache
    planner.refuse_face_given(requests, adapter)
    records = folder.records()
    jobs = planner.plan(requests, {record["output"]: job for job, record in records.items()})
    settled = folder.settled_among((job.id for job in jobs), records)
    left = [job for job in jobs if job.id not in settled]
    _claim_places(left, folder)
    judge = None
    is_last_hand = batch.static or place_among_workers()[0] == 0
    if sections.gallery.score is not None and make_judge is not None and is_last_hand:
        judge = make_judge(sections, _adapters_of(jobs))
    if settled:
        log.info("%d of %d videos are done or were given up before: not done again", len(settled), len(jobs))
    if left:
        folder.reopen()
        _render(jobs, left, sections, models, folder, cache)
    rows = conclude(jobs, folder, sections.sampling.face_scale)
    if not any(row["error"] == NOT_YET for row in rows):
        if is_last_hand:
            _show(rows, output_dir, sections.gallery, judge)
        if sections.cache.cache_dir is None:
            cache.remove()
    failed = count_failed(rows)
    log.info("%d of %d videos rendered into %s", len(jobs) - failed, len(jobs), output_dir)
    if failed:
        log.error("%d failed: their reasons are in %s; remove it to try them again", failed, folder.folder / "failed")
    return SOME_FAILED_EXIT_CODE if failed else 0


def _requests(sections: RenderSections, models: Models) -> tuple[list[RequestedJob], list[str]]:
    """The requested jobs, and the names of the folders for their videos."""
    batch, who, content, adapter = sections.batch, sections.who, sections.content, sections.models.face_lora_path
    if batch.jobs is None:
        # A base without the face renders everyone alike, but for the noise.
        is_of_each = sections.sampling.face_scale > 0 or content.seed == PER_VIDEO
        people = people_given(who, models.metadata, is_of_each)
        return read_pose_folder(Path(batch.pose_videos_dir or ""), people, content, adapter), people
    requests = read_job_list(Path(batch.jobs), batch.pose_videos_dir, content, adapter)
    if who.identities_dir is not None:
        check_people_folder(Path(who.identities_dir))
    # A person who cannot be used fails only the jobs that name them. Without such a job it is no fault.
    return requests, sorted({safe_name(request.identity) for request in requests if not request.problem})


def _claim_places(jobs: Sequence[Job], folder: JobFolder) -> None:
    """Make the folders for the possible videos. Raises: DataError where a video would take another file's place."""
    for job in jobs:
        if job.setup is not None:
            folder.make_folder_of(job.output)
            check_video_place(job.request.pose, folder.output_dir / job.output)
            folder.refuse_taken(job.output)


def _adapters_of(jobs: Sequence[Job]) -> list[Path]:
    """The files of all adapters that render, each once."""
    paths = [job.setup.path for job in jobs if job.setup is not None and job.setup.path is not None]
    return list(dict.fromkeys(map(Path, paths)))


def _show(
    rows: Sequence[Mapping[str, Any]], output_dir: Path, gallery: GallerySettings, judge: VideoJudge | None
) -> None:
    """Score the rendered videos, and write the gallery."""
    scores = judge.score(output_dir, rows) if judge is not None else {}
    if gallery.gallery:
        references = Path(gallery.references_dir) if gallery.references_dir is not None else None
        log.info("to look at: %s", write_gallery(output_dir, rows, references, scores))


def _render(
    jobs: Sequence[Job],
    left: Sequence[Job],
    sections: RenderSections,
    models: Models,
    folder: JobFolder,
    cache: ResultCache,
) -> None:
    """Render until all jobs that are left are done or given up. The base is loaded only for jobs that need it."""
    renderable = [job for job in left if job.setup is not None]
    for job in left:
        if job.setup is None:
            give_up(job, folder)
    if not renderable:
        return
    if sections.cache.cache_dir is None:
        cache.claim(private=not sections.faces.shared)
    prompts = models.prompts(cache)
    prompts.prepare([text for job in renderable for text in (job.request.prompt, job.request.negative_prompt)])
    worker = Worker(models.load(), folder, prompts, cache, sections.flags, sections.gallery.gallery)
    if sections.batch.static:
        # The share is taken of all jobs, so that each worker finds the same shares.
        worker.work_share(jobs, *place_among_workers())
    else:
        worker.work(renderable)


def _folders_read(sections: RenderSections) -> list[Path]:
    """Folders into which no video may be written."""
    given = ("pose_videos_dir", "identities_dir", "face_images_dir", "references_dir", "heads_dir", "face_embedding")
    return [Path(value) for name in given if (value := sections.flags[name]) is not None]
