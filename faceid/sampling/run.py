"""One call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from faceid.config import build_section
from faceid.data.identities import make_identity
from faceid.device import pick_device
from faceid.faces.identity import Identity, load_identity
from faceid.faces.settings import FaceSettings
from faceid.logs import Progress
from faceid.models.adapter_file import AdapterMetadata, check_base, read_adapter
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.models.wan import base_fingerprint, check_base_folder, read_config, read_geometry
from faceid.provenance import claimed_folder
from faceid.sampling.batch import Job, plan_jobs, render_folder, seed_suffix
from faceid.sampling.effects import warn_without_effect
from faceid.sampling.identities import Face, check_identity, named_face, read_people
from faceid.sampling.renderer import Renderer, check_how, check_output, choose_shape, choose_window, read_pose
from faceid.sampling.settings import SampleSettings
from faceid.sampling.sidecar import Inputs, check_like, say_whether_like, write_sidecar
from faceid.toy.base import resolve_adapter_path, resolve_encoder_path, resolve_model_path

log = logging.getLogger(__name__)

SOME_FAILED_EXIT_CODE = 1


def run_sampling(settings: SampleSettings, faces: FaceSettings) -> int:
    """Render what was asked for. Exit code 0, or 1 when some videos of a batch failed."""
    adapter = resolve_adapter_path(settings.face_lora_path)
    metadata = read_adapter(Path(adapter))[1] if adapter is not None else None
    name = settings.model_path or (metadata.base_name if metadata is not None else "")
    base = resolve_model_path(name)
    check_base_folder(base)
    if adapter is not None and metadata is not None:
        check_base(Path(adapter), metadata, name, base_fingerprint(base))
    device = pick_device(settings.device)
    geometry = read_geometry(base)
    shape = choose_shape(settings, metadata, geometry)
    warn_without_effect(settings, faces)
    window = choose_window(settings, metadata, geometry)
    check_how(settings, window, read_config(base, "transformer"))
    with ExitStack() as stack:
        # Everything about poses and outputs is refused before photos are embedded or weights loaded.
        people = _people(settings, metadata)
        if settings.batch:
            output_dir = Path(settings.output_dir or "")
            jobs = plan_jobs(Path(settings.pose_videos_dir or ""), output_dir, list(people) or [""], settings.seeds)
            stack.enter_context(claimed_folder(output_dir))
            for job in jobs:
                check_output(job.pose, output_dir / job.output)
        else:
            pose, output = Path(settings.pose_video or ""), Path(settings.output or "")
            check_output(pose, output)
            read_pose(pose, shape, geometry, settings)
        if not people:
            people = {"": _face(settings, faces, metadata)}
        pipeline = FaceIdentityPipeline.from_pretrained(base, adapter, str(device), _dtype(settings, device), name)
        if pipeline.adapter is not None and settings.face_block_scales is not None:
            pipeline.adapter.set_block_strengths(settings.face_block_scales)
        renderer = Renderer(pipeline, shape, settings, window)
        if settings.batch:
            return _render_batch(renderer, jobs, people, output_dir)
        face = people[""]
        inputs = Inputs.of(settings, pipeline.wan.fingerprint, face, pose, adapter)
        kept = check_like(Path(settings.like), settings, inputs) if settings.like else None
        for seed in settings.seeds:
            path = output.with_name(f"{output.stem}{seed_suffix(seed, settings.seeds)}{output.suffix}")
            sha256 = _render_one(renderer, pose, face, path, seed, faces, inputs)
            if kept is not None:
                say_whether_like(kept, path, sha256)
        return 0


def _render_batch(renderer: Renderer, jobs: list[Job], people: dict[str, Face], output_dir: Path) -> int:
    rendered = render_folder(renderer, jobs, people, output_dir)
    failed = [job for job in rendered if job.error]
    log.info("%d of %d videos rendered into %s", len(rendered) - len(failed), len(rendered), output_dir)
    return SOME_FAILED_EXIT_CODE if failed else 0


def _render_one(
    renderer: Renderer, pose: Path, face: Face, output: Path, seed: int, faces: FaceSettings, inputs: Inputs
) -> str:
    """Render, write the sidecar; the video's sha256."""
    bar = Progress("denoising", total=renderer.settings.num_inference_steps)
    control = renderer.prepare(pose)
    renderer.render(control, face, output, seed, lambda done, of: bar.advance())
    bar.close()
    device = str(renderer.pipeline.wan.transformer.device)
    sha256 = write_sidecar(output, renderer.settings, faces, inputs, pose, seed, device)
    log.info("%s", output)
    return sha256


def _people(settings: SampleSettings, metadata: AdapterMetadata | None) -> dict[str, Face]:
    """Everyone of --identities_dir, checked, by name; nobody without it."""
    if settings.identities_dir is None or metadata is None or settings.names_identities:
        return {}
    people = read_people(Path(settings.identities_dir))
    for name, identity in people.items():
        check_identity(identity, metadata, f"identities_dir: {name}")
    if settings.face_scale == 0:
        return {"": Face()}  # the base model renders everyone alike
    return {name: Face(name, identity.embedding) for name, identity in people.items()}


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


def _dtype(settings: SampleSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, settings.dtype)
