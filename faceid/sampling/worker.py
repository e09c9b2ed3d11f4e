"""One of any number of workers on an output folder: takes jobs, renders them, publishes them, and tells what failed."""

from __future__ import annotations

import errno
import json
import logging
import math
import shutil
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from faceid.claims import Claim, take_work
from faceid.errors import FaceidError, one_line
from faceid.faces.settings import FaceSettings
from faceid.logs import progress
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.provenance import write_provenance
from faceid.sampling.job_folder import Attempt, JobFolder
from faceid.sampling.plan import Job
from faceid.sampling.renderer import Renderer, VideoShape
from faceid.sampling.result_cache import ResultCache
from faceid.sampling.settings import SampleSettings
from faceid.sampling.sidecar import Inputs, describe_video
from faceid.sampling.texts import Texts
from faceid.writing import write_atomic

log = logging.getLogger(__name__)

# Controls of the last poses: a pose is rendered as several people, with several seeds.
CONTROLS_KEPT = 4
TAIL_LINES = 20
# Times the longest of such jobs so far.
LATE = 1.5
NOT_YET = "not rendered yet"


class Worker:
    """Renders jobs with one loaded base."""

    def __init__(
        self,
        pipeline: FaceIdentityPipeline,
        settings: SampleSettings,
        faces: FaceSettings,
        folder: JobFolder,
        texts: Texts,
        cache: ResultCache,
    ) -> None:
        self.pipeline, self.settings, self.faces, self.folder = pipeline, settings, faces, folder
        self.texts, self.cache = texts, cache
        self._controls: OrderedDict[tuple[str, VideoShape], Tensor] = OrderedDict()
        # Of each length in pixels, the longest that a job has taken here.
        self._longest_s: dict[int, float] = {}
        self._tail = Tail()
        logging.getLogger("faceid").addHandler(self._tail)

    def work(self, jobs: Sequence[Job]) -> None:
        """Until all jobs are done or given up, by this worker or others."""
        by_id = {job.id: job for job in jobs}
        claims = self.folder.claims()
        with ThreadPoolExecutor(1) as pool:
            # A job whose try failed comes again: to this worker as to any other.
            while left := [name for name in by_id if not self.folder.is_settled(name)]:
                finishing: Future[None] | None = None
                for name, claim in take_work(
                    left,
                    self.folder.is_settled,
                    claims,
                    "videos",
                    "video",
                    places=lambda name: by_id[name].places,
                    again_after=lambda name: self._patience_s(by_id[name]),
                ):
                    finish = self.begin(by_id[name], claims.worker)
                    if finishing is not None:
                        finishing.result()
                    # Decoded, encoded and published while the next is denoised.
                    finishing = pool.submit(_then_release, finish, claim)
                if finishing is not None:
                    finishing.result()

    def _patience_s(self, job: Job) -> float:
        """How long a job may be in other hands before it is done here as well, when nothing else is left.

        By what jobs took here that are no longer than it; by all, where none was.
        """
        taken = [seconds for pixels, seconds in list(self._longest_s.items()) if pixels <= job.pixels]
        return LATE * max(taken or list(self._longest_s.values()), default=math.inf)

    def work_share(self, jobs: Sequence[Job], rank: int, count: int) -> None:
        """Every count-th job, without claims; the others' are theirs."""
        own = sorted(jobs, key=lambda job: job.places)[rank::count]
        for job in progress(own, "videos", total=len(own), unit="video"):
            while not self.folder.is_settled(job.id):
                self.do(job, f"rank{rank}")

    def do(self, job: Job, worker: str) -> None:
        """Render one job and publish it, or record why not."""
        finish = self.begin(job, worker)
        if finish is not None:
            finish()

    def begin(self, job: Job, worker: str) -> Callable[[], None] | None:
        """Denoise one job; what is left to do for it, or None when there is nothing, for which there is a record."""
        if job.rig is None or job.inputs is None:
            log.error("%s: %s", job.wish.pose.name, job.problem)
            self.folder.fail(job.id, job.problem, [], 0)
            return None
        attempt = self.folder.begin(job.id, worker)
        if attempt is None:
            return None
        began, rig, inputs = time.perf_counter(), job.rig, job.inputs
        with self._recorded(job, attempt):
            self.pipeline.use_adapter(rig.path)
            settings = replace(self.settings, prompt=job.wish.prompt, negative_prompt=job.wish.negative_prompt)
            renderer = Renderer(self.pipeline, rig.shape, settings, rig.window, self.texts)
            latents = renderer.denoise(self._control(inputs, job, renderer), job.face, job.wish.seed)
            denoised_s = time.perf_counter() - began

            def finish() -> None:
                with self._recorded(job, attempt):
                    self._finish(job, inputs, renderer, latents, denoised_s, worker)

            return finish
        return None

    @contextmanager
    def _recorded(self, job: Job, attempt: Attempt) -> Iterator[None]:
        """Whatever goes wrong inside becomes the attempt's record, and nothing else."""
        try:
            yield
        except FaceidError as error:
            # What the files themselves are will not change by trying again.
            log.error("%s: %s", job.output, one_line(error))
            self.folder.note_error(attempt, one_line(error), self._tail.lines())
            self.folder.fail(job.id, one_line(error), self._tail.lines(), 1)
        except Exception as error:
            if is_full(error):
                # No fault of the job, and there is no room to record it.
                raise
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.exception("%s: %s", job.output, said)
            self.folder.note_error(attempt, said, self._tail.lines())

    def _finish(
        self, job: Job, inputs: Inputs, renderer: Renderer, latents: Tensor, denoised_s: float, worker: str
    ) -> None:
        began, wish = time.perf_counter(), job.wish
        with tempfile.TemporaryDirectory(prefix="faceid_render_") as private:
            video = Path(private) / "video.mp4"
            renderer.write(latents, video)
            seconds = denoised_s + time.perf_counter() - began
            row = {**_row(job, renderer.face_scale), "seconds": round(seconds, 2), "worker": worker}
            name = Path(job.output).name
            sidecar = describe_video(
                video, name, self._said(job), self.faces, inputs, wish.pose, wish.seed, self._device
            )
            self.folder.publish(job.id, video, job.output, row, sidecar)
        self._longest_s[job.pixels] = max(self._longest_s.get(job.pixels, 0.0), seconds)
        log.info("%s in %.1f s", job.output, seconds)

    def _said(self, job: Job) -> SampleSettings:
        """The settings of a single video like this one: what --like needs."""
        wish, settings = job.wish, self.settings
        if wish.identity:
            settings = replace(settings, identity=wish.identity, face_embedding=None, face_images_dir=None)
        elif not settings.names_identities:
            settings = replace(settings, identities_dir=None)
        return settings.for_one(
            prompt=wish.prompt,
            negative_prompt=wish.negative_prompt,
            face_lora_path=wish.adapter,
            pose_video=str(wish.pose),
            output=Path(job.output).name,
        )

    @property
    def _device(self) -> str:
        return str(self.pipeline.wan.transformer.device)

    def _control(self, inputs: Inputs, job: Job, renderer: Renderer) -> Tensor:
        key = inputs.pose, renderer.shape
        if key not in self._controls:
            self._controls[key] = renderer.prepare_once(job.wish.pose, inputs, self.cache)
        self._controls.move_to_end(key)
        while len(self._controls) > CONTROLS_KEPT:
            self._controls.popitem(last=False)
        return self._controls[key]


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
        """The newest last."""
        return list(self._lines)


def conclude(jobs: Sequence[Job], folder: JobFolder, settings: SampleSettings) -> list[dict[str, Any]]:
    """Write jobs.jsonl and provenance.json; the former's rows. Every worker may: all write the same."""
    rows = []
    for job in jobs:
        done = folder.done(job.id)
        if done is not None:
            rows.append({**done, "error": ""})
            continue
        record = folder.failed(job.id)
        said = {"output": job.output, "seconds": 0.0, "id": job.id, "sha256": ""}
        # Whoever was asked for, where no face was found.
        said["identity"] = job.face.name or job.wish.identity
        error = record["error"] if record is not None else NOT_YET
        rows.append({**_row(job, settings.face_scale), **said, "error": error})
    if not any(row["error"] == NOT_YET for row in rows):
        folder.sweep(job.id for job in jobs)
        shutil.rmtree(folder.cache_dir, ignore_errors=True)
    write_atomic(folder.output_dir / "jobs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_provenance(folder.output_dir, {"videos": len(rows), "failed": count_failed(rows)})
    return rows


def _row(job: Job, face_scale: float) -> dict[str, Any]:
    """What a line of jobs.jsonl says of a job, whatever became of it."""
    wish = job.wish
    return {
        "pose": wish.pose.name,
        "identity": job.face.name,
        "face_scale": face_scale,
        "seed": wish.seed,
        "prompt": wish.prompt,
        "adapter": Path(wish.adapter).name if wish.adapter else "",
    }


def count_failed(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many were given up; what others have not rendered yet is no failure."""
    return sum(row["error"] not in ("", NOT_YET) for row in rows)
