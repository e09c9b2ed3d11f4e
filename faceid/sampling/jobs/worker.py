"""Work on an output folder, as one of any number of workers.

A worker takes jobs, renders them, publishes them, and reports failures.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from faceid.claims import Claim, share_work, take_work
from faceid.errors import DiskError, FaceidError, one_line
from faceid.files.outputs import write_output
from faceid.files.provenance import describe_provenance, sha256_json
from faceid.files.writing import json_text
from faceid.logs import progress
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling.jobs.gallery import make_poster
from faceid.sampling.jobs.job_folder import JobFolder, RenderAttempt
from faceid.sampling.jobs.job_list import RequestedJob
from faceid.sampling.jobs.plan import Job
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.prompt_encoder import PromptEncoder
from faceid.sampling.one_video.renderer import Control, Renderer
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.sampling.one_video.sidecar import InputHashes, describe_video
from faceid.sampling.who.private_folder import private_folder

log = logging.getLogger(__name__)

# Controls of the last poses are kept: a pose is rendered as several people, with several seeds.
CONTROLS_KEPT = 4
TAIL_LINES = 20
# A job is late after this many times the longest time of such jobs so far.
LATE = 1.5
NOT_YET = "not rendered yet"


class Worker:
    """Renders jobs with one loaded base."""

    def __init__(
        self,
        pipeline: FaceIdentityPipeline,
        folder: JobFolder,
        prompts: PromptEncoder,
        cache: ResultCache,
        flags: Mapping[str, Any],
        has_posters: bool = True,
    ) -> None:
        """flags: the command line's, by name, for the files beside the videos. has_posters: for a gallery."""
        self.pipeline, self.folder, self.prompts, self.cache = pipeline, folder, prompts, cache
        self.flags, self.has_posters = flags, has_posters
        self._controls: OrderedDict[tuple[str, VideoShape], Control] = OrderedDict()
        # The longest time that a job has taken here, by its size in pixels.
        self._longest_s: dict[int, float] = {}
        self._tail = Tail()
        logging.getLogger("faceid").addHandler(self._tail)

    def work(self, jobs: Sequence[Job]) -> None:
        """Work until all jobs are done or given up, by this worker or others."""
        by_id = {job.id: job for job in jobs}
        claims = self.folder.claims()
        settled: set[str] = set()

        def is_settled(name: str) -> bool:
            # A settled job stays settled, so jobs that others finished are looked up once.
            if name not in settled and self.folder.is_settled(name):
                settled.add(name)
            return name in settled

        with ThreadPoolExecutor(1) as pool:
            # A job whose try failed comes again, to this worker as to any other.
            while left := [name for name in by_id if not is_settled(name)]:
                finishing: Future[None] | None = None
                for name, claim in take_work(
                    left,
                    is_settled,
                    claims,
                    "videos",
                    "video",
                    places=lambda name: by_id[name].places,
                    again_after=lambda name: self._patience_s(by_id[name]),
                ):
                    try:
                        finish = self.begin(by_id[name], claims.worker)
                        if finishing is not None:
                            finishing.result()
                    except BaseException:
                        # This worker was told to stop, or the disk is full. Others need not wait for its heartbeat.
                        claim.release()
                        raise
                    # The video is decoded, encoded and published while the next one is denoised.
                    finishing = pool.submit(_then_release, finish, claim)
                if finishing is not None:
                    finishing.result()

    def _patience_s(self, job: Job) -> float:
        """Seconds that another worker may hold a job before this one does it too, when no other job is left.

        The time comes from jobs done here that are no longer than this one; from all jobs, if there were none.
        """
        taken = [seconds for pixels, seconds in list(self._longest_s.items()) if pixels <= job.pixels]
        return LATE * max(taken or list(self._longest_s.values()), default=math.inf)

    def work_share(self, jobs: Sequence[Job], rank: int, count: int) -> None:
        """Do every count-th job, without claims. The other ranks do theirs."""
        own = sorted(jobs, key=lambda job: job.places)[rank::count]
        for job in progress(own, "videos", total=len(own), unit="video"):
            while not self.folder.is_settled(job.id):
                if (finish := self.begin(job, f"rank{rank}")) is not None:
                    finish()

    def begin(self, job: Job, worker: str) -> Callable[[], None] | None:
        """Denoise one job. Return the function that finishes it; None if none is needed, since a record exists."""
        if job.setup is None or job.inputs is None:
            give_up(job, self.folder)
            return None
        attempt = self.folder.begin(job.id, worker)
        if attempt is None:
            return None
        began, setup, inputs = time.perf_counter(), job.setup, job.inputs
        with self._recorded(job, attempt):
            self.pipeline.use_adapter(setup.path)
            request, content = job.request, setup.render.content
            content = replace(content, prompt=request.prompt, negative_prompt=request.negative_prompt)
            renderer = Renderer(self.pipeline, replace(setup.render, content=content), self.prompts, job.references)
            control = self._control(inputs, job, renderer)
            latents = renderer.denoise(control, job.face, job.request.seed)
            denoised_s = time.perf_counter() - began

            def finish() -> None:
                with self._recorded(job, attempt):
                    self._finish(job, inputs, renderer, control, latents, denoised_s, worker)

            return finish
        return None

    @contextmanager
    def _recorded(self, job: Job, attempt: RenderAttempt) -> Iterator[None]:
        """Turn every error inside into the attempt's record."""
        try:
            yield
        except DiskError:
            # A full disk is no fault of the job, and there is no room to record it.
            raise
        except FaceidError as error:
            # An error of the files themselves stays the same in another try.
            log.error("%s: %s", job.output, one_line(error))
            self.folder.note_error(attempt, one_line(error), self._tail.lines())
            self.folder.fail(job.id, one_line(error), self._tail.lines(), 1)
        except Exception as error:
            if is_full(error):
                raise
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.exception("%s: %s", job.output, said)
            self.folder.note_error(attempt, said, self._tail.lines())
        except BaseException:
            # The worker was told to stop. On a cluster that reassigns machines, that may happen to one job many times.
            self.folder.forget(attempt)
            raise

    def _finish(
        self,
        job: Job,
        inputs: InputHashes,
        renderer: Renderer,
        control: Control,
        latents: Tensor,
        denoised_s: float,
        worker: str,
    ) -> None:
        began = time.perf_counter()
        with private_folder() as private:
            video = private / "video.mp4"
            frame = renderer.write(latents, video, control.num_frames)
            seconds = denoised_s + time.perf_counter() - began
            row = {**_row(job, renderer.face_scale), "seconds": round(seconds, 2), "worker": worker}
            if control.pose_frames is not None:
                row["pose_frames"] = control.pose_frames
            name, flags = Path(job.output).name, self._flags_of(job.request)
            flags["own_references"] = renderer.own_references
            device = str(self.pipeline.wan.transformer.device)
            sidecar = describe_video(video, name, flags, inputs, device, control.pose_frames)
            poster = make_poster(frame) if self.has_posters else None
            self.folder.publish(job.id, video, job.output, row, sidecar, poster)
        self._longest_s[job.pixels] = max(self._longest_s.get(job.pixels, 0.0), seconds)
        log.info("%s in %.1f s", job.output, seconds)

    def _flags_of(self, request: RequestedJob) -> dict[str, Any]:
        """The flags of a single video like this one, for --like."""
        flags = dict(self.flags)
        if request.identity:
            flags |= dict.fromkeys(("face_embedding", "face_images_dir", "identity_from", "identity_to"))
            flags["identity"] = request.identity
        elif flags["identity"] is None and flags["identity_from"] is None:
            flags["identities_dir"] = None
        return {
            **flags,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "face_lora_path": request.adapter,
            "pose_video": str(request.pose),
            "seed": request.seed,
        }

    def _control(self, inputs: InputHashes, job: Job, renderer: Renderer) -> Control:
        key = inputs.pose, renderer.setup.shape
        if key not in self._controls:
            self._controls[key] = renderer.prepare_once(job.request.pose, inputs, self.cache)
        self._controls.move_to_end(key)
        while len(self._controls) > CONTROLS_KEPT:
            self._controls.popitem(last=False)
        return self._controls[key]


def give_up(job: Job, folder: JobFolder) -> None:
    """Record an impossible job, with the reason."""
    log.error("%s", job.request.problem or f"{job.request.pose.name}: {job.problem}")
    folder.fail(job.id, job.problem, [], 0)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, or a quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _then_release(finish: Callable[[], None] | None, claim: Claim) -> None:
    try:
        if finish is not None:
            finish()
    finally:
        claim.release()


class Tail(logging.Handler):
    """The last lines of this process's log."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record))

    def lines(self) -> list[str]:
        """The kept lines, with the newest last."""
        return list(self._lines)


def conclude(jobs: Sequence[Job], folder: JobFolder, face_scale: float) -> list[dict[str, Any]]:
    """Write jobs.jsonl and provenance.json, once all is settled. Return the rows of jobs.jsonl.

    One of many workers writes them, and the others read what it wrote. With --static, where nobody waits for another,
    each writes what it can know. face_scale: the requested one.
    """
    named = sha256_json([job.id for job in jobs])
    if not folder.links:
        return _write_rows(named, jobs, folder, face_scale)
    rows = None
    for _ in share_work(["rows"], lambda _: folder.is_concluded(named), folder.claims(), "concluding"):
        rows = _write_rows(named, jobs, folder, face_scale)
    return rows or folder.conclusion(named) or _write_rows(named, jobs, folder, face_scale)


def _write_rows(named: str, jobs: Sequence[Job], folder: JobFolder, face_scale: float) -> list[dict[str, Any]]:
    rows = []
    for job in jobs:
        done = folder.done(job.id)
        if done is not None:
            rows.append({**done, "error": ""})
            continue
        record = folder.failed(job.id)
        said = {"output": job.output, "seconds": 0.0, "id": job.id, "sha256": ""}
        # Where no face was found, the requested name is recorded.
        said["identity"] = job.face.name or job.request.identity
        error = record["error"] if record is not None else NOT_YET
        rows.append({**_row(job, face_scale), **said, "error": error})
    if not any(row["error"] == NOT_YET for row in rows):
        folder.sweep(row["id"] for row in rows if not row["error"])
    provenance = describe_provenance({"videos": len(rows), "failed": count_failed(rows)})
    write_output(folder.output_dir / "provenance.json", json_text(provenance))
    folder.conclude(named, rows)
    return rows


def _row(job: Job, face_scale: float) -> dict[str, Any]:
    """The fields of a job's line in jobs.jsonl that do not depend on its result."""
    request = job.request
    return {
        "pose": request.pose.name,
        "identity": job.face.name,
        "face_scale": face_scale,
        "seed": request.seed,
        "prompt": request.prompt,
        "adapter": Path(request.adapter).name if request.adapter else "",
    }


def count_failed(rows: Sequence[Mapping[str, Any]]) -> int:
    """The number of jobs that were given up. A job that others have not rendered yet is no failure."""
    return sum(row["error"] not in ("", NOT_YET) for row in rows)
