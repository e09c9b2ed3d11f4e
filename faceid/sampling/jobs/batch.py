"""A batch from settings to exit code: jobs planned, rendered by this worker and others, told, scored and shown."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from faceid.errors import DataError, DiskError, one_line
from faceid.faces.identity_settings import FaceSettings
from faceid.sampling.jobs.gallery import write_gallery
from faceid.sampling.jobs.job_folder import JobFolder
from faceid.sampling.jobs.job_list import read_job_list, wishes_of_folder
from faceid.sampling.jobs.place import place_among_workers
from faceid.sampling.jobs.plan import Job, Planner, safe_name
from faceid.sampling.jobs.worker import NOT_YET, Worker, conclude, count_failed, give_up, is_full
from faceid.sampling.one_video.loaded_models import Models
from faceid.sampling.one_video.renderer import check_output, check_output_dir
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.sampling.sampling_settings import SampleSettings
from faceid.sampling.who.given_faces import faces_by_name, people_given
from faceid.sampling.who.rendered_identities import check_people_folder

log = logging.getLogger(__name__)

SOME_FAILED_EXIT_CODE = 1


class Judge(Protocol):
    """Scores the videos of a batch."""

    def score(self, output_dir: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Scores by a row's id. rows: of jobs.jsonl."""
        ...


# Who judges, of the settings and the adapters that render. Evaluation is a room of the same floor.
MakeJudge = Callable[[SampleSettings, FaceSettings, list[Path]], Judge]


def run_batch(settings: SampleSettings, faces: FaceSettings, models: Models, make_judge: MakeJudge | None) -> int:
    """Exit code 0, or 1 when some videos failed.

    Raises: DataError when there is no room; what is finished stays.
    """
    try:
        return _run(settings, faces, models, make_judge)
    except DiskError as error:
        raise DataError(f"output_dir={settings.output_dir}: {one_line(error)}: what is finished stays") from error
    except OSError as error:
        if is_full(error):
            raise DataError(
                f"output_dir={settings.output_dir}: {error.strerror or 'the disk is full'}; make room there and in "
                f"{tempfile.gettempdir()}, then give the same command again: what is finished stays"
            ) from error
        raise


def _run(settings: SampleSettings, faces: FaceSettings, models: Models, make_judge: MakeJudge | None) -> int:
    """Everything about poses, people and outputs is refused before photos are embedded or weights loaded."""
    output_dir = Path(settings.output_dir or "")
    planner = Planner(
        settings,
        models.name,
        models.base,
        faces_by_name(settings, faces),
        str(models.dtype),
    )
    if settings.jobs is None or settings.face_lora_path is not None:
        planner.known_rig(settings.face_lora_path)
    if settings.jobs is not None:
        wishes = read_job_list(Path(settings.jobs), settings)
        if settings.identities_dir is not None:
            check_people_folder(Path(settings.identities_dir))
        # Who cannot be used is the fault of the jobs that name them; who is not named is nobody's.
        people = sorted({safe_name(wish.identity) for wish in wishes if not wish.problem})
    else:
        people = people_given(settings, models.metadata)
        wishes = wishes_of_folder(Path(settings.pose_videos_dir or ""), people, settings)
    check_output_dir(output_dir, {wish.pose for wish in wishes}, people)
    folder = JobFolder.claim(output_dir, _folders_read(settings), not faces.shared, not settings.static)
    cache = _cache(settings, faces, models, folder)
    planner.refuse_face_given(wishes)
    records = folder.records()
    jobs = planner.plan(wishes, {record["output"]: job for job, record in records.items()})
    settled = folder.settled_among((job.id for job in jobs), records)
    left = [job for job in jobs if job.id not in settled]
    for job in left:
        if job.rig is not None:
            folder.make_folder_of(job.output)
            check_output(job.wish.pose, output_dir / job.output)
            folder.refuse_taken(job.output)
    judge = None
    is_last_hand = settings.static or place_among_workers()[0] == 0
    if settings.score is not None and make_judge is not None and is_last_hand:
        adapters = dict.fromkeys(Path(job.rig.path) for job in jobs if job.rig is not None and job.rig.path is not None)
        judge = make_judge(settings, faces, list(adapters))
    if settled:
        log.info("%d of %d videos are done or were given up before: not done again", len(settled), len(jobs))
    if left:
        folder.reopen()
        _render(jobs, left, settings, faces, models, folder, cache)
    rows = conclude(jobs, folder, settings)
    failed = count_failed(rows)
    is_over = not any(row["error"] == NOT_YET for row in rows)
    if is_over and is_last_hand:
        scores = judge.score(output_dir, rows) if judge is not None else {}
        if settings.gallery:
            references = Path(settings.references_dir) if settings.references_dir is not None else None
            log.info("to look at: %s", write_gallery(output_dir, rows, references, scores))
    if is_over and settings.cache_dir is None:
        cache.remove()
    log.info("%d of %d videos rendered into %s", len(jobs) - failed, len(jobs), output_dir)
    if failed:
        log.error("%d failed: their reasons are in %s; remove it to try them again", failed, folder.folder / "failed")
    return SOME_FAILED_EXIT_CODE if failed else 0


def _render(
    jobs: Sequence[Job],
    left: Sequence[Job],
    settings: SampleSettings,
    faces: FaceSettings,
    models: Models,
    folder: JobFolder,
    cache: ResultCache,
) -> None:
    """Until all jobs that are left are done or given up. The base is loaded only for what can be rendered."""
    renderable = [job for job in left if job.rig is not None]
    for job in left:
        if job.rig is None:
            give_up(job, folder)
    if not renderable:
        return
    if settings.cache_dir is None:
        cache.claim(private=not faces.shared)
    texts = models.texts(cache)
    texts.prepare([text for job in renderable for text in (job.wish.prompt, job.wish.negative_prompt)])
    worker = Worker(models.load(), settings, faces, folder, texts, cache)
    if settings.static:
        # Of all jobs, so that each worker finds the same shares.
        worker.work_share(jobs, *place_among_workers())
    else:
        worker.work(renderable)


def _cache(settings: SampleSettings, faces: FaceSettings, models: Models, folder: JobFolder) -> ResultCache:
    """Where workers keep what they share. Raises: DataError when --cache_dir is no place for it."""
    if settings.cache_dir is None:
        # Made when there is work: another worker may be removing it, with all done.
        return models.cache(folder.cache_dir)
    cache = models.cache(Path(settings.cache_dir))
    cache.claim(private=not faces.shared)
    return cache


def _folders_read(settings: SampleSettings) -> list[Path]:
    """Folders that no video may be written into."""
    given = ("pose_videos_dir", "identities_dir", "face_images_dir", "references_dir", "heads_dir", "face_embedding")
    return [Path(value) for name in given if (value := getattr(settings, name)) is not None]
