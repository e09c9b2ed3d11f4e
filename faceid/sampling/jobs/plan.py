"""Plan requested jobs: find what each is made of, hash that into its id, and name its video.

The plan is the same in every worker, since it depends on the files alone. A job's id is a hash of everything on which
its bytes depend. So a finished job can be used whatever command made it. A job that cannot be rendered (no such pose,
an adapter of another base) has an id as well, made of its request. It also has a problem, which becomes its record.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import faceid
from faceid.errors import DataError, FaceidError, one_line
from faceid.files.given_paths import why_no_file
from faceid.files.provenance import sha256_file, sha256_json
from faceid.media.video import promised_frames
from faceid.models.adapter.adapter_file import AdapterMetadata, check_base, read_adapter
from faceid.models.base.model_files import ModelFiles
from faceid.sampling.jobs.job_folder import our_name_in
from faceid.sampling.jobs.job_list import RequestedJob
from faceid.sampling.one_video.model_settings import ComputeSettings
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.render_setup import RenderSetup, check_setup, references_of, settle
from faceid.sampling.one_video.sidecar import InputHashes
from faceid.sampling.one_video.video_settings import RenderOptions
from faceid.sampling.who.rendered_identities import Face, warn_of_others
from faceid.sampling.who.shown_references import ShownReference, pictures_of
from faceid.toy.shipped import resolve_adapter_path

log = logging.getLogger(__name__)

ID_DIGITS = 16
# File systems take 255. A sidecar's ending is longer by one.
MOST_OUTPUT_BYTES = 250


@dataclass(frozen=True)
class AdapterSetup:
    """An adapter (or none), and the set-up that follows from it. path: as resolved."""

    path: str | None
    sha256: str
    metadata: AdapterMetadata | None
    render: RenderSetup


@dataclass(frozen=True)
class Job:
    """One video to render. problem: why it is impossible; `setup` is then None."""

    id: str
    request: RequestedJob
    output: str
    face: Face
    inputs: InputHashes | None = None
    setup: AdapterSetup | None = None
    problem: str = ""
    references: tuple[ShownReference, ...] = ()
    """Pictures of the person that the base looks at."""
    pixels: int = 0
    """Pixels of all frames, by the pose video's header. They tell how long the job takes, compared with others."""

    @property
    def places(self) -> tuple[str, int, str, str]:
        """What workers keep between jobs, dearest first: adapter, pose, the job itself.

        An adapter's longest jobs come first, because a long job that is begun last keeps all waiting.
        """
        return (self.setup.sha256 if self.setup else "", -self.pixels, self.inputs.pose if self.inputs else "", self.id)


class Planner:
    """Examines each file once. face_of: the face of an identity's text for an adapter, checked against it."""

    def __init__(
        self,
        options: RenderOptions,
        compute: ComputeSettings,
        base_name: str,
        base: ModelFiles,
        face_of: Callable[[str, AdapterMetadata | None], Face],
        dtype: str,
    ) -> None:
        self.options, self.compute, self.base_name, self.base = options, compute, base_name, base
        self.face_of, self.dtype = face_of, dtype
        self._adapters: dict[str | None, AdapterSetup | str] = {}
        self._faces: dict[tuple[str, str | None], Face | str] = {}
        self._poses: dict[Path, str] = {}
        self._frames: dict[Path, int] = {}
        # Each is hashed once, for all jobs.
        self._given = pictures_of(options.content.reference_images)

    def plan(self, requests: Sequence[RequestedJob], taken: Mapping[str, str]) -> list[Job]:
        """Jobs in the requested order. Two requests for one video are one job. taken: as in `name_outputs`."""
        jobs: dict[str, Job] = {}
        for request in requests:
            job = self._job(request)
            if job.id in jobs:
                log.warning("%s: the same video as %s; rendered once", _said(request), _said(jobs[job.id].request))
            jobs.setdefault(job.id, job)
        _warn_of_others(list(jobs.values()))
        return name_outputs(list(jobs.values()), taken)

    def refuse_face_given(self, requests: Sequence[RequestedJob], adapter: str | None) -> None:
        """Refuse the command line's own face before anything is loaded. A face in a row concerns that row alone.

        adapter: the command line's own. Raises: DataError or ModelError when the face cannot be used with it.
        """
        if any(not (request.identity or request.problem) and request.adapter == adapter for request in requests):
            metadata = self.known_adapter(adapter).metadata
            self._known(("", adapter), self._faces, lambda: self.face_of("", metadata))

    def _job(self, request: RequestedJob) -> Job:
        try:
            if request.problem:
                raise DataError(request.problem)
            setup, face = self.known_adapter(request.adapter), self._face(request)
            pose = self._pose(request.pose)
            references = references_of(self._given, self.options.content.own_references, face, setup.metadata)
            hashes = tuple(reference.sha256 for reference in references)
        except FaceidError as error:
            asked = {**asdict(request), "pose": str(request.pose)}
            return Job("x" + sha256_json(asked)[: ID_DIGITS - 1], request, "", Face(), problem=one_line(error))
        sampling, compute, render = self.options.sampling, self.compute, setup.render
        content = {
            # Two names for the same bytes are two videos: whoever asked for both looks for both.
            "named": [request.pose.stem, request.identity, request.output],
            "program": faceid.__version__,
            "base": self.base.exact_fingerprint,
            "adapter": setup.sha256,
            "pose": pose,
            "face": face.numbers,
            "references": list(hashes),
            "seed": request.seed,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt if sampling.cfg_scale > 1 else "",
            "shape": asdict(render.shape),
            "window": [render.windows.size, render.windows.overlap],
            "dtype": self.dtype,
            **asdict(sampling),
            **asdict(self.options.pose),
            "attention_backend": compute.attention_backend,
            "compile": compute.compile,
        }
        if not sampling.reference_guidance:
            # Videos of before this option keep their ids.
            del content["reference_guidance"]
        if hashes:
            # The noise of the references is drawn apart from the video's (pipeline.py: draw_noise).
            content["reference_noise"] = "apart"
        if setup.metadata is not None and (shares := face.shares_of(setup.metadata.target_name)):
            content["target_shares"] = shares
        inputs = InputHashes(self.base.exact_fingerprint, setup.sha256, face.sha256, pose, hashes)
        pixels = self._pixels(request.pose, render.shape)
        id = sha256_json(content)[:ID_DIGITS]
        return Job(id, request, "", face, inputs, setup, references=references, pixels=pixels)

    def known_adapter(self, adapter: str | None) -> AdapterSetup:
        """What follows from an adapter, examined once. Raises: ModelError or ConfigError when it cannot be used."""
        return self._known(adapter, self._adapters, lambda: self._adapter(adapter))

    def _adapter(self, adapter: str | None) -> AdapterSetup:
        path = resolve_adapter_path(adapter)
        metadata = read_adapter(Path(path))[1] if path is not None else None
        if path is not None and metadata is not None:
            check_base(Path(path), metadata, self.base_name, self.base)
        render = settle(self.options, metadata, self.base.geometry)
        check_setup(render, self.compute.context_parallel, self.base.transformer.config)
        return AdapterSetup(path, sha256_file(Path(path)) if path is not None else "", metadata, render)

    def _face(self, request: RequestedJob) -> Face:
        metadata = self.known_adapter(request.adapter).metadata
        key = (request.identity, request.adapter)
        return self._known(key, self._faces, lambda: self.face_of(request.identity, metadata))

    def _pose(self, path: Path) -> str:
        if (reason := why_no_file(path, "pose video")) is not None:
            raise DataError(f"{path}: {reason}; correct its name, or --pose_videos_dir")
        return self._known(path, self._poses, lambda: sha256_file(path))

    def _pixels(self, pose: Path, shape: VideoShape) -> int:
        num_frames = shape.num_frames
        if num_frames == 0:
            # The frames are needed only where lengths differ.
            num_frames = self._known(pose, self._frames, lambda: promised_frames(pose))
        return num_frames * shape.height * shape.width

    def _known(self, key: Any, kept: dict[Any, Any], make: Callable[[], Any]) -> Any:
        """The result or error of `make` for a key. `make` is called once a key."""
        if key not in kept:
            try:
                kept[key] = make()
            except FaceidError as error:
                kept[key] = error
        if isinstance(kept[key], FaceidError):
            raise kept[key]
        return kept[key]


def _warn_of_others(jobs: Sequence[Job]) -> None:
    found: dict[str, tuple[AdapterMetadata, list[Face]]] = {}
    for job in jobs:
        metadata = job.setup.metadata if job.setup else None
        if metadata is not None:
            found.setdefault(str(job.request.adapter), (metadata, []))[1].append(job.face)
    for adapter, (metadata, faces) in found.items():
        warn_of_others(adapter, metadata, faces)


def name_outputs(jobs: Sequence[Job], taken: Mapping[str, str]) -> list[Job]:
    """Give each job its video's name: NAME/POSE.mp4, with further parts that tell it from others in this list.

    taken: names of finished jobs, with their ids. A job of another id (another adapter, another prompt) gets its id
    added to the name. A job with an impossible name gets a problem.
    """
    requests = [job.request for job in jobs if not job.request.problem]
    several: dict[str, dict[Any, int]] = {
        # Noises of a video's own are told apart by their numbers.
        "seed": _numbered({request.seed for request in requests if request.noise is None}),
        "prompt": _numbered({(request.prompt, request.negative_prompt) for request in requests}),
        "adapter": _numbered({request.adapter or "" for request in requests}),
    }
    named = [
        job if job.request.problem else replace(job, output=job.request.output or _name(job.request, several))
        for job in jobs
    ]
    asked = Counter(job.output for job in named)
    named = [
        replace(job, output=_with_id(job))
        if job.output and (asked[job.output] > 1 or taken.get(job.output, job.id) != job.id)
        else job
        for job in named
    ]
    outputs = {job.output for job in named}
    return [_nameable(job, outputs) for job in named]


def _numbered(values: set[Any]) -> dict[Any, int]:
    """Each value's place among all values, from 1."""
    return {value: number for number, value in enumerate(sorted(values), start=1)}


def _name(request: RequestedJob, several: Mapping[str, Mapping[Any, int]]) -> str:
    name = request.pose.stem
    if request.noise:
        name += f"_noise{request.noise}"
    elif request.noise is None and len(several["seed"]) > 1:
        name += f"_seed{request.seed}"
    if len(several["prompt"]) > 1:
        name += f"_prompt{several['prompt'][request.prompt, request.negative_prompt]}"
    if len(several["adapter"]) > 1:
        name += f"_adapter{several['adapter'][request.adapter or '']}"
    person = safe_name(request.identity)
    return f"{person}/{name}.mp4" if person else f"{name}.mp4"


def _nameable(job: Job, outputs: set[str]) -> Job:
    """The job; with a problem if no file system could hold its video beside the others."""
    path = PurePosixPath(job.output)
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    problem = ""
    if longest > MOST_OUTPUT_BYTES:
        problem = f"its video's name would be of {longest} bytes, {MOST_OUTPUT_BYTES} at most; give a shorter output"
    elif above := next((str(folder) for folder in path.parents if str(folder) in outputs), ""):
        problem = f"output={job.output}: {above} is another job's video, and no folder; give another output"
    elif job.output and (name := our_name_in(path)):
        # An identity or a pose may have one of our names.
        problem = f"its video would be {job.output}, and {name} is a name of the batch's own; give an output"
    if not problem or job.problem:
        return job
    return replace(job, output="", setup=None, inputs=None, problem=f"{_said(job.request)}: {problem}")


def safe_name(identity: str) -> str:
    """An identity's text as a folder's name: a path's last part, or a blend's names joined by +."""
    parts = [PurePosixPath(part.strip()).name for part in identity.split(",")]
    return re.sub(r'[/\\<>:"|?*\x00-\x1f]', "", "+".join(parts)).strip(" .-")


def _with_id(job: Job) -> str:
    path = PurePosixPath(job.output)
    return str(path.with_name(f"{path.stem}_{job.id[:8]}{path.suffix}"))


def _said(request: RequestedJob) -> str:
    return f"{request.pose.name} as {request.identity or 'given'}, seed {request.seed}"
