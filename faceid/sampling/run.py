"""One call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import faceid
from faceid.config import build_section
from faceid.data.identities import make_identity
from faceid.device import pick_device
from faceid.errors import ConfigError, DataError
from faceid.faces.identity import Identity, load_identity
from faceid.faces.settings import FaceSettings
from faceid.logs import Progress
from faceid.models.adapter_file import AdapterMetadata, check_base, read_adapter
from faceid.models.context_parallel import join_processes
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.models.wan import base_fingerprint, check_base_folder, latents_fingerprint, read_config, read_geometry
from faceid.provenance import write_json
from faceid.sampling.effects import warn_without_effect
from faceid.sampling.gallery import write_gallery
from faceid.sampling.identities import Face, check_identity, check_people_folder, named_face, read_people
from faceid.sampling.job_folder import JobFolder
from faceid.sampling.job_list import read_job_list, wishes_of_folder
from faceid.sampling.place import place_among_workers
from faceid.sampling.plan import Planner, safe_name
from faceid.sampling.renderer import (
    Renderer,
    check_how,
    check_output,
    check_output_dir,
    choose_shape,
    choose_window,
    read_pose,
)
from faceid.sampling.result_cache import ResultCache, describe_hardware
from faceid.sampling.settings import SampleSettings
from faceid.sampling.sidecar import Inputs, check_like, describe_video, say_whether_like, sidecar_of
from faceid.sampling.texts import Texts
from faceid.sampling.worker import NOT_YET, Worker, conclude, count_failed, is_full
from faceid.toy.base import resolve_adapter_path, resolve_encoder_path, resolve_model_path

log = logging.getLogger(__name__)

SOME_FAILED_EXIT_CODE = 1
# The text encoder is in memory only while prompts are encoded (Texts).
PARTS = ("transformer", "vae")
GB = 10**9


class Judge(Protocol):
    """Scores the videos of a batch."""

    def score(self, output_dir: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Scores by a row's id. rows: of jobs.jsonl."""
        ...


# Who judges, of the settings and the adapters that render. Evaluation is a room of the same floor.
MakeJudge = Callable[[SampleSettings, FaceSettings, list[Path]], Judge]


def run_sampling(settings: SampleSettings, faces: FaceSettings, make_judge: MakeJudge | None = None) -> int:
    """Render what was asked for. Exit code 0, or 1 when some videos of a batch failed. make_judge: for --score."""
    adapter = resolve_adapter_path(settings.face_lora_path)
    metadata = read_adapter(Path(adapter))[1] if adapter is not None else None
    name = settings.model_path or (metadata.base_name if metadata is not None else "")
    base = resolve_model_path(name)
    check_base_folder(base)
    if adapter is not None and metadata is not None:
        check_base(Path(adapter), metadata, name, base_fingerprint(base))
    device = pick_device(settings.device)
    warn_without_effect(settings, faces)
    if settings.batch:
        try:
            return _run_batch(settings, faces, adapter, metadata, name, base, str(device), make_judge)
        except OSError as error:
            if is_full(error):
                raise DataError(
                    f"output_dir={settings.output_dir}: {error.strerror or 'the disk is full'}; make room there and in "
                    f"{tempfile.gettempdir()}, then give the same command again: what is finished stays"
                ) from error
            raise
    geometry = read_geometry(base)
    shape = choose_shape(settings, metadata, geometry)
    window = choose_window(settings, metadata, geometry)
    check_how(settings, window, read_config(base, "transformer"))
    _check_processes(settings)
    # Everything about pose and output is refused before photos are embedded or weights loaded.
    pose, output = Path(settings.pose_video or ""), Path(settings.output or "")
    check_output(pose, output)
    read_pose(pose, shape, geometry, settings)
    face = _face(settings, faces, metadata)
    inputs = Inputs.of(settings, base_fingerprint(base), face, pose, adapter)
    kept = check_like(Path(settings.like), settings, inputs) if settings.like else None
    cache = _cache(Path(settings.cache_dir), settings, base, device) if settings.cache_dir is not None else None
    texts = Texts(base, device, dtype_of(settings, device), cache)
    texts.prepare([settings.prompt, settings.negative_prompt])
    pipeline = _load(settings, base, adapter, device, name)
    if settings.context_parallel > 1:
        join_processes(device)
        pipeline.compute_together(*place_among_workers())
    renderer = Renderer(pipeline, shape, settings, window, texts)
    if cache is None:
        control = renderer.prepare(pose)
    else:
        made_of = renderer.made_of(inputs.pose, inputs.references)
        control = cache.get_or_make("control", made_of, lambda: renderer.prepare(pose))
    for seed in settings.seeds:
        suffix = f"_seed{seed}" if len(settings.seeds) > 1 else ""
        path = output.with_name(f"{output.stem}{suffix}{output.suffix}")
        sha256 = _render_one(renderer, control, pose, face, path, seed, faces, inputs)
        if kept is not None and sha256:
            say_whether_like(kept, path, sha256)
    if settings.context_parallel > 1:
        torch.distributed.destroy_process_group()
    return 0


def _run_batch(
    settings: SampleSettings,
    faces: FaceSettings,
    adapter: str | None,
    metadata: AdapterMetadata | None,
    name: str,
    base: Path,
    device: str,
    make_judge: MakeJudge | None,
) -> int:
    """Everything about poses, people and outputs is refused before photos are embedded or weights loaded."""
    output_dir = Path(settings.output_dir or "")
    dtype = dtype_of(settings, torch.device(device))
    config, face_of = read_config(base, "transformer"), _faces_by_name(settings, faces)
    geometry, fingerprint = read_geometry(base), base_fingerprint(base)
    planner = Planner(settings, name, fingerprint, geometry, config, face_of, str(dtype))
    if settings.jobs is None or settings.face_lora_path is not None:
        planner.known_rig(settings.face_lora_path)
    if settings.jobs is not None:
        wishes = read_job_list(Path(settings.jobs), settings)
        if settings.identities_dir is not None:
            check_people_folder(Path(settings.identities_dir))
        # Who cannot be used is the fault of the jobs that name them; who is not named is nobody's.
        people = sorted({safe_name(wish.identity) for wish in wishes})
    else:
        people = _people(settings, metadata)
        wishes = wishes_of_folder(Path(settings.pose_videos_dir or ""), people, settings)
    check_output_dir(output_dir, {wish.pose for wish in wishes}, people)
    folder = JobFolder(output_dir)
    jobs = planner.plan(wishes, folder)
    for job in jobs:
        check_output(job.wish.pose, output_dir / job.output)
    judge = None
    is_last_hand = settings.static or place_among_workers()[0] == 0
    if settings.score is not None and make_judge is not None and is_last_hand:
        adapters = dict.fromkeys(Path(job.rig.path) for job in jobs if job.rig is not None and job.rig.path is not None)
        judge = make_judge(settings, faces, list(adapters))
    left = [job for job in jobs if not folder.is_settled(job.id)]
    if len(left) < len(jobs):
        log.info("%d of %d videos are done or were given up before: not done again", len(jobs) - len(left), len(jobs))
    if left:
        kept_in = Path(settings.cache_dir) if settings.cache_dir is not None else folder.cache_dir
        cache = _cache(kept_in, settings, base, torch.device(device))
        texts = Texts(base, torch.device(device), dtype, cache)
        texts.prepare([text for job in left for text in (job.wish.prompt, job.wish.negative_prompt)])
        pipeline = _load(settings, base, adapter, torch.device(device), name)
        worker = Worker(pipeline, settings, faces, folder, texts, cache)
        if settings.static:
            worker.work_share(jobs, *place_among_workers())
        else:
            worker.work(jobs)
    rows = conclude(jobs, folder, settings)
    failed = count_failed(rows)
    is_over = not any(row["error"] == NOT_YET for row in rows)
    if is_over and is_last_hand:
        scores = judge.score(output_dir, rows) if judge is not None else {}
        if settings.gallery:
            references = Path(settings.references_dir) if settings.references_dir is not None else None
            log.info("to look at: %s", write_gallery(output_dir, rows, references, scores))
    log.info("%d of %d videos rendered into %s", len(jobs) - failed, len(jobs), output_dir)
    if failed:
        log.error("%d failed: their reasons are in %s; remove it to try them again", failed, folder.folder / "failed")
    return SOME_FAILED_EXIT_CODE if failed else 0


def _check_processes(settings: SampleSettings) -> None:
    """Raises: ConfigError when there are not as many processes as render a video together."""
    count, wanted = place_among_workers()[1], settings.context_parallel
    if count == wanted:
        return
    if wanted == 1:
        raise ConfigError(
            f"context_parallel=1: {count} processes for one video; give --context_parallel {count}, or --batch"
        )
    raise ConfigError(
        f"context_parallel={wanted}: but {count} process{'es' if count > 1 else ''}; start it with "
        f"accelerate launch --num_processes {wanted} sample.py"
    )


def _cache(folder: Path, settings: SampleSettings, base: Path, device: torch.device) -> ResultCache:
    made_by = {
        "program": faceid.__version__,
        "encoders": latents_fingerprint(base),
        "dtype": str(dtype_of(settings, device)),
        "hardware": describe_hardware(device),
    }
    return ResultCache(folder, int(settings.cache_gb * GB), made_by)


def _load(
    settings: SampleSettings, base: Path, adapter: str | None, device: torch.device, name: str
) -> FaceIdentityPipeline:
    dtype = dtype_of(settings, device)
    pipeline = FaceIdentityPipeline.from_pretrained(base, adapter, str(device), dtype, name, PARTS, settings.offload)
    pipeline.set_execution(settings.attention_backend, settings.compile)
    return pipeline


def _render_one(
    renderer: Renderer,
    control: Tensor,
    pose: Path,
    face: Face,
    output: Path,
    seed: int,
    faces: FaceSettings,
    inputs: Inputs,
) -> str:
    """Render, write the sidecar; the video's sha256, empty in a process that only helped with it."""
    is_first = place_among_workers()[0] == 0
    bar = Progress("denoising", total=renderer.settings.num_inference_steps, is_shown=is_first)
    latents = renderer.denoise(control, face, seed, lambda done, of: bar.advance())
    bar.close()
    if not is_first:
        return ""
    renderer.write(latents, output)
    device = str(renderer.pipeline.wan.transformer.device)
    content = describe_video(output, output.name, renderer.settings, faces, inputs, pose, seed, device)
    write_json(sidecar_of(output), content)
    log.info("%s", output)
    return content["video"]["sha256"]


def _people(settings: SampleSettings, metadata: AdapterMetadata | None) -> list[str]:
    """The names of everyone of --identities_dir, checked; one empty name without it, or where the face is off."""
    if settings.identities_dir is None or metadata is None or settings.names_identities:
        return [""]
    people = read_people(Path(settings.identities_dir))
    for name, identity in people.items():
        check_identity(identity, metadata, f"identities_dir: {name}")
    return list(people) if settings.face_scale > 0 else [""]  # the base model renders everyone alike


def _faces_by_name(settings: SampleSettings, faces: FaceSettings) -> Callable[[str, AdapterMetadata | None], Face]:
    """The face of an identity's text, as --identity says it; of an empty one that of the command line."""

    def face_of(text: str, metadata: AdapterMetadata | None) -> Face:
        if not text:
            return _face(settings, faces, metadata)
        if metadata is None or settings.face_scale == 0:
            return Face()
        named = replace(settings, identity=text, identity_from=None, identity_to=None, face_embedding=None)
        return named_face(replace(named, face_images_dir=None), metadata)

    return face_of


def _face(settings: SampleSettings, faces: FaceSettings, metadata: AdapterMetadata | None) -> Face:
    """The one person of the photos, the embedding or the names, checked; nobody when none is given or shown."""
    if settings.names_identities and metadata is not None:
        named = named_face(settings, metadata)
        return named if settings.face_scale > 0 else Face()
    identity = _identity(settings, faces, metadata)
    if identity is None or metadata is None:
        return Face()
    check_identity(identity, metadata, "face_embedding" if settings.face_embedding else "face_images_dir")
    return Face(identity.name, identity.embedding) if settings.face_scale > 0 else Face()


def _identity(settings: SampleSettings, faces: FaceSettings, metadata: AdapterMetadata | None) -> Identity | None:
    if settings.face_embedding is not None:
        return load_identity(settings.face_embedding)
    if settings.face_images_dir is None:
        return None
    if metadata is not None and faces.encoder_path is None:
        # The encoder the adapter was trained with, unless another is named (and then refused if it differs).
        chosen = {**asdict(faces), "encoder": metadata.encoder, "encoder_path": metadata.encoder_path}
        faces = build_section(FaceSettings, chosen)
    faces = replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
    with tempfile.TemporaryDirectory(prefix="faceid_identity_") as folder:
        return make_identity(Path(settings.face_images_dir), Path(folder) / "identity", faces)


def dtype_of(settings: SampleSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, settings.dtype)
