"""One call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from faceid.config import build_section, changed_fields
from faceid.data.identities import make_identity
from faceid.device import pick_device
from faceid.faces.identity import Identity, load_identity
from faceid.faces.settings import FaceSettings
from faceid.logs import Progress
from faceid.models.adapter_file import AdapterMetadata, check_base, read_adapter
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.models.wan import base_fingerprint, check_base_folder, read_geometry
from faceid.provenance import claimed_folder
from faceid.sampling.batch import plan_jobs, render_folder
from faceid.sampling.renderer import Renderer, check_face, check_output, choose_shape, read_pose
from faceid.sampling.settings import SampleSettings
from faceid.toy.base import resolve_encoder_path, resolve_model_path

log = logging.getLogger(__name__)

SOME_FAILED_EXIT_CODE = 1


def run_sampling(settings: SampleSettings, faces: FaceSettings) -> int:
    """Render what was asked for. Exit code 0, or 1 when some videos of a batch failed."""
    metadata = read_adapter(Path(settings.face_lora_path))[1] if settings.face_lora_path else None
    name = settings.model_path or (metadata.base_name if metadata is not None else "")
    base = resolve_model_path(name)
    check_base_folder(base)
    if metadata is not None:
        check_base(Path(settings.face_lora_path or ""), metadata, name, base_fingerprint(base))
    device = pick_device(settings.device)
    geometry = read_geometry(base)
    shape = choose_shape(settings, metadata, geometry)
    _warn_without_effect(settings, faces)
    with ExitStack() as stack:
        # Everything about poses and outputs is refused before photos are embedded or weights loaded.
        if settings.batch:
            poses, output_dir = Path(settings.pose_videos_dir or ""), Path(settings.output_dir or "")
            jobs = plan_jobs(poses, output_dir)
            stack.enter_context(claimed_folder(output_dir))
        else:
            pose, output = Path(settings.pose_video or ""), Path(settings.output or "")
            check_output(pose, output)
            read_pose(pose, shape, geometry, settings)
        face = check_face(_identity(settings, faces, metadata), metadata, settings)
        pipeline = FaceIdentityPipeline.from_pretrained(
            base, settings.face_lora_path, str(device), _dtype(settings, device), name
        )
        renderer = Renderer(pipeline, face, shape, settings)
        return _render_batch(renderer, jobs, output_dir) if settings.batch else _render_one(renderer, pose, output)


def _render_batch(renderer: Renderer, jobs: dict[Path, Path], output_dir: Path) -> int:
    rendered = render_folder(renderer, jobs, output_dir)
    failed = [job for job in rendered if job.error]
    log.info("%d of %d videos rendered into %s", len(rendered) - len(failed), len(rendered), output_dir)
    return SOME_FAILED_EXIT_CODE if failed else 0


def _render_one(renderer: Renderer, pose: Path, output: Path) -> int:
    bar = Progress("denoising", total=renderer.settings.num_inference_steps)
    renderer.render(pose, output, lambda done, of: bar.advance())
    bar.close()
    log.info("%s", output)
    return 0


def _warn_without_effect(settings: SampleSettings, faces: FaceSettings) -> None:
    if settings.face_lora_path is None and settings.face_scale != SampleSettings.face_scale:
        log.warning("face_scale=%s: has no effect without --face_lora_path", settings.face_scale)
    if settings.cfg_scale <= 1 and settings.negative_prompt != SampleSettings.negative_prompt:
        log.warning("negative_prompt: has no effect with cfg_scale=%s; it is used over 1", settings.cfg_scale)
    if settings.face_images_dir is None and (chosen := changed_fields(faces)):
        log.warning("%s: has no effect without --face_images_dir", ", ".join(chosen))


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
