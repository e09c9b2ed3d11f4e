"""Wishes to jobs: what each is made of, hashed into its id, and the name its video gets.

The same in every worker, since it depends on the files alone. A job's id is a hash of everything that its bytes depend
on: who finds it done need not ask by what command. What cannot be rendered (no such pose, an adapter of another base)
has an id as well, of what was asked for, and a problem that becomes its record.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
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
from faceid.sampling.jobs.job_list import Wish
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.renderer import SAME_IN_SAMPLING, check_how, choose_shape, choose_window
from faceid.sampling.one_video.sidecar import Inputs, hash_references
from faceid.sampling.sampling_settings import SampleSettings
from faceid.sampling.who.rendered_identities import Face
from faceid.toy.shipped import resolve_adapter_path

log = logging.getLogger(__name__)

ID_DIGITS = 16
# What file systems take is 255: a sidecar's ending is longer by one.
MOST_OUTPUT_BYTES = 250
# Settings that say what is rendered; the others say where from, where to and by whom.
HOW = (*SAME_IN_SAMPLING, "attention_backend", "compile", "fit", "pose_timing")


@dataclass(frozen=True)
class Rig:
    """An adapter (or none), and what follows from it."""

    path: str | None
    """As resolved."""
    sha256: str
    metadata: AdapterMetadata | None
    shape: VideoShape
    window: tuple[int | None, int]


@dataclass(frozen=True)
class Job:
    """One video to render. problem: why it cannot be; then `rig` is None."""

    id: str
    wish: Wish
    output: str
    face: Face
    inputs: Inputs | None = None
    rig: Rig | None = None
    problem: str = ""
    pixels: int = 0
    """Of all frames, as far as the pose video's header knows: how long it will take, beside others."""

    @property
    def places(self) -> tuple[str, int, str, str]:
        """What workers keep between jobs, dearest first: adapter, pose, itself. Of an adapter's jobs the longest first:
        a long one that is begun last keeps all waiting.
        """
        return (self.rig.sha256 if self.rig else "", -self.pixels, self.inputs.pose if self.inputs else "", self.id)


class Planner:
    """Looks at each file once. face_of: the face of an identity's text for an adapter, checked against it."""

    def __init__(
        self,
        settings: SampleSettings,
        base_name: str,
        base: ModelFiles,
        face_of: Callable[[str, AdapterMetadata | None], Face],
        dtype: str,
    ) -> None:
        self.settings, self.base_name, self.base = settings, base_name, base
        self.face_of, self.dtype = face_of, dtype
        self._rigs: dict[str | None, Rig | str] = {}
        self._faces: dict[tuple[str, str | None], Face | str] = {}
        self._poses: dict[Path, str] = {}
        self._frames: dict[Path, int] = {}

    def plan(self, wishes: Sequence[Wish], taken: Mapping[str, str]) -> list[Job]:
        """Jobs in the wishes' order. Two wishes for one video are one job. taken: as `name_outputs`."""
        jobs: dict[str, Job] = {}
        for wish in wishes:
            job = self._job(wish)
            if job.id in jobs:
                log.warning("%s: the same video as %s; rendered once", _said(wish), _said(jobs[job.id].wish))
            jobs.setdefault(job.id, job)
        return name_outputs(list(jobs.values()), taken)

    def refuse_face_given(self, wishes: Sequence[Wish]) -> None:
        """Refuse the command line's own face before anything is loaded; a face that a row names is that row's affair.

        Raises: DataError or ModelError when it cannot be used with the command line's own adapter.
        """
        adapter = self.settings.face_lora_path
        if any(not (wish.identity or wish.problem) and wish.adapter == adapter for wish in wishes):
            metadata = self.known_rig(adapter).metadata
            self._known(("", adapter), self._faces, lambda key: self.face_of("", metadata))

    def _job(self, wish: Wish) -> Job:
        try:
            if wish.problem:
                raise DataError(wish.problem)
            rig, face = self.known_rig(wish.adapter), self._face(wish)
            pose = self._pose(wish.pose)
        except FaceidError as error:
            asked = {**asdict(wish), "pose": str(wish.pose)}
            return Job("x" + sha256_json(asked)[: ID_DIGITS - 1], wish, "", Face(), problem=one_line(error))
        content = {
            # Two names for the same bytes are two videos: who asked for both looks for both.
            "named": [wish.pose.stem, wish.identity, wish.output],
            "program": faceid.__version__,
            "base": self.base.exact_fingerprint,
            "adapter": rig.sha256,
            "pose": pose,
            "face": face.numbers,
            "references": list(self._references),
            "seed": wish.seed,
            "prompt": wish.prompt,
            "negative_prompt": wish.negative_prompt if self.settings.cfg_scale > 1 else "",
            "shape": asdict(rig.shape),
            "window": rig.window,
            "dtype": self.dtype,
            **{name: getattr(self.settings, name) for name in HOW},
        }
        inputs = Inputs(self.base.exact_fingerprint, rig.sha256, face.sha256, pose, self._references)
        pixels = self._pixels(wish.pose, rig.shape)
        return Job(sha256_json(content)[:ID_DIGITS], wish, "", face, inputs, rig, pixels=pixels)

    def known_rig(self, adapter: str | None) -> Rig:
        """What follows from an adapter, looked at once. Raises: ModelError or ConfigError when it cannot be used so."""
        return self._known(adapter, self._rigs, self._rig)

    def _rig(self, adapter: str | None) -> Rig:
        path = resolve_adapter_path(adapter)
        metadata = read_adapter(Path(path))[1] if path is not None else None
        if path is not None and metadata is not None:
            check_base(Path(path), metadata, self.base_name, self.base)
        window = choose_window(self.settings, metadata, self.base.geometry)
        check_how(self.settings, window, self.base.transformer.config)
        shape = choose_shape(self.settings, metadata, self.base.geometry)
        return Rig(path, sha256_file(Path(path)) if path is not None else "", metadata, shape, window)

    def _face(self, wish: Wish) -> Face:
        rig = self.known_rig(wish.adapter)
        return self._known(
            (wish.identity, wish.adapter), self._faces, lambda key: self.face_of(wish.identity, rig.metadata)
        )

    def _pose(self, path: Path) -> str:
        if path not in self._poses:
            if (reason := why_no_file(path, "pose video")) is not None:
                raise DataError(f"{path}: {reason}; correct its name, or --pose_videos_dir")
            self._poses[path] = sha256_file(path)
        return self._poses[path]

    def _pixels(self, pose: Path, shape: VideoShape) -> int:
        num_frames = shape.num_frames
        if num_frames == 0:
            # Looked for only where lengths differ.
            if pose not in self._frames:
                self._frames[pose] = promised_frames(pose)
            num_frames = self._frames[pose]
        return num_frames * shape.height * shape.width

    @cached_property
    def _references(self) -> tuple[str, ...]:
        return hash_references(self.settings)

    def _known(self, key: Any, kept: dict[Any, Any], make: Callable[[Any], Any]) -> Any:
        """What `make` gives or raises for a key, made once."""
        if key not in kept:
            try:
                kept[key] = make(key)
            except FaceidError as error:
                kept[key] = error
        if isinstance(kept[key], FaceidError):
            raise kept[key]
        return kept[key]


def name_outputs(jobs: Sequence[Job], taken: Mapping[str, str]) -> list[Job]:
    """Give each job its video's name: NAME/POSE.mp4, with what else tells it from others of this list.

    taken: names that finished jobs have, and their ids: a job of another id (another adapter, another prompt) gets its
    id besides. A job whose name cannot be gets a problem in its place.
    """
    wishes = [job.wish for job in jobs if not job.wish.problem]
    several: dict[str, dict[Any, int]] = {
        "seed": _numbered({wish.seed for wish in wishes}),
        "prompt": _numbered({(wish.prompt, wish.negative_prompt) for wish in wishes}),
        "adapter": _numbered({wish.adapter or "" for wish in wishes}),
    }
    named = [
        job if job.wish.problem else replace(job, output=job.wish.output or _name(job.wish, several)) for job in jobs
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
    """Each value's place among all of them, from 1."""
    return {value: number for number, value in enumerate(sorted(values), start=1)}


def _name(wish: Wish, several: Mapping[str, Mapping[Any, int]]) -> str:
    name = wish.pose.stem
    if len(several["seed"]) > 1:
        name += f"_seed{wish.seed}"
    if len(several["prompt"]) > 1:
        name += f"_prompt{several['prompt'][wish.prompt, wish.negative_prompt]}"
    if len(several["adapter"]) > 1:
        name += f"_adapter{several['adapter'][wish.adapter or '']}"
    person = safe_name(wish.identity)
    return f"{person}/{name}.mp4" if person else f"{name}.mp4"


def _nameable(job: Job, outputs: set[str]) -> Job:
    """The job, or with a problem one whose video no file system could hold beside the others."""
    path = PurePosixPath(job.output)
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    problem = ""
    if longest > MOST_OUTPUT_BYTES:
        problem = f"its video's name would be of {longest} bytes, {MOST_OUTPUT_BYTES} at most; give a shorter output"
    elif above := next((str(folder) for folder in path.parents if str(folder) in outputs), ""):
        problem = f"output={job.output}: {above} is another job's video, and no folder; give another output"
    elif job.output and (name := our_name_in(path)):
        # Of an identity or a pose that has that name.
        problem = f"its video would be {job.output}, and {name} is a name of the batch's own; give an output"
    if not problem or job.problem:
        return job
    return replace(job, output="", rig=None, inputs=None, problem=f"{_said(job.wish)}: {problem}")


def safe_name(identity: str) -> str:
    """An identity's text as a folder's name: a path's last part, a blend's names joined by +."""
    parts = [PurePosixPath(part.strip()).name for part in identity.split(",")]
    return re.sub(r'[/\\<>:"|?*\x00-\x1f]', "", "+".join(parts)).strip(" .-")


def _with_id(job: Job) -> str:
    path = PurePosixPath(job.output)
    return str(path.with_name(f"{path.stem}_{job.id[:8]}{path.suffix}"))


def _said(wish: Wish) -> str:
    return f"{wish.pose.name} as {wish.identity or 'given'}, seed {wish.seed}"
