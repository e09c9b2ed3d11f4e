"""One call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from faceid.config import build_section
from faceid.data.identities import make_identity
from faceid.errors import DataError
from faceid.faces.identity import Identity, load_identity
from faceid.faces.settings import FaceSettings
from faceid.logs import Progress
from faceid.models.adapter_file import AdapterMetadata, read_adapter
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.models.wan import check_base_folder, read_geometry
from faceid.sampling.batch import find_pose_videos, render_folder
from faceid.sampling.renderer import Renderer, check_face, choose_shape
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
    shape = choose_shape(settings, metadata, read_geometry(base))
    _check_poses(settings)
    face = check_face(_identity(settings, faces, metadata), metadata, settings)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = FaceIdentityPipeline.from_pretrained(
        base, settings.face_lora_path, device, _dtype(settings, device), name
    )
    renderer = Renderer(pipeline, face, shape, settings)
    if settings.batch:
        assert settings.pose_videos_dir is not None and settings.output_dir is not None
        jobs = render_folder(renderer, find_pose_videos(Path(settings.pose_videos_dir)), Path(settings.output_dir))
        failed = [job for job in jobs if job.error]
        log.info("%d of %d videos rendered into %s", len(jobs) - len(failed), len(jobs), settings.output_dir)
        return SOME_FAILED_EXIT_CODE if failed else 0
    assert settings.pose_video is not None and settings.output is not None
    bar = Progress("denoising", total=settings.num_inference_steps)
    renderer.render(Path(settings.pose_video), Path(settings.output), lambda done, of: bar.advance())
    bar.close()
    log.info("%s", settings.output)
    return 0


def _check_poses(settings: SampleSettings) -> None:
    if settings.batch:
        find_pose_videos(Path(settings.pose_videos_dir or ""))
    elif not Path(settings.pose_video or "").is_file():
        raise DataError(f"pose_video={settings.pose_video}: no such file")


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


def _dtype(settings: SampleSettings, device: str) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return getattr(torch, settings.dtype)
