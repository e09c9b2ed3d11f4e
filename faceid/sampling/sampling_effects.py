"""Options of rendering that were given and change nothing, or harm: whoever gave one is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields

from faceid.config import Reason, warn_of_unused
from faceid.faces.identity_effects import of_faces
from faceid.faces.identity_settings import FaceSettings
from faceid.sampling.sampling_settings import SampleSettings

log = logging.getLogger(__name__)

# Outside it likeness or picture suffer (facts: users of strengths near 2 report "crunchy" pictures).
FACE_SCALE_RANGE = (0.3, 2.0)


def warn_without_effect(settings: SampleSettings, faces: FaceSettings) -> None:
    """Say which of the options that were given change nothing, and when the face cannot show, or not well."""
    _warn_of_face(settings)
    warn_of_unused([settings, faces], [*_of_settings(settings), *_of_photos(settings, faces)])


def _of_photos(settings: SampleSettings, faces: FaceSettings) -> Iterator[Reason]:
    if settings.face_images_dir is None:
        # Who may look into the folder counts without photos, too.
        used = ["shared", *(("detector", "detector_path", "face_margin") if settings.score is not None else ())]
        for field in fields(FaceSettings):
            if field.name not in used:
                yield field.name, "without --face_images_dir"
    yield from of_faces(faces)


def _of_settings(settings: SampleSettings) -> Iterator[Reason]:
    if settings.cfg_scale <= 1:
        yield "negative_prompt", f"with cfg_scale={settings.cfg_scale}; it is used over 1"
        yield "cfg_start", f"with cfg_scale={settings.cfg_scale}; there is guidance over 1"
    if settings.cache_dir is None and not settings.batch:
        yield "cache_gb", "without --cache_dir"
    if settings.score is None:
        yield "heads_dir", "without --score"
    if not settings.gallery and settings.score is None:
        yield "references_dir", "without --gallery or --score"
    if not settings.reference_images:
        yield "reference_scale", "without --reference_image"
    if not may_have_adapter(settings) or settings.face_scale == 0:
        why = "with face_scale=0" if may_have_adapter(settings) else "without --face_lora_path"
        for name in ("face_start", "face_end", "face_guidance", "face_block_scales"):
            yield name, why
    elif not has_face(settings) and settings.jobs is None:
        yield "face_guidance", "without a face"
    if settings.window_frames == 0 or (settings.window_frames is None and not may_have_adapter(settings)):
        yield "window_overlap", "without windows: give --window_frames"


def _warn_of_face(settings: SampleSettings) -> None:
    """Say when the face cannot show, or not well."""
    low, high = FACE_SCALE_RANGE
    if not may_have_adapter(settings):
        if settings.face_scale != SampleSettings.face_scale:
            log.warning("face_scale=%s: has no effect without --face_lora_path", settings.face_scale)
    elif settings.face_scale == 0:
        is_of_many = settings.identities_dir is not None and not settings.names_identities
        once = "; each pose is rendered once, not as every person" if is_of_many else ""
        log.warning("face_scale=0: the base model alone renders, without the face%s", once)
    elif not has_face(settings) and settings.jobs is None:
        log.warning("no face given: the adapter renders no particular person; give --face_images_dir")
    elif not low <= settings.face_scale <= high:
        log.warning("face_scale=%s: outside %s to %s likeness or picture suffer", settings.face_scale, low, high)


def may_have_adapter(settings: SampleSettings) -> bool:
    """Whether an adapter renders: the one given, or those that rows of a list name."""
    return settings.face_lora_path is not None or settings.jobs is not None


def has_face(settings: SampleSettings) -> bool:
    """Whether anybody in particular is rendered."""
    given = (settings.face_images_dir, settings.face_embedding, settings.identities_dir)
    return settings.names_identities or any(one is not None for one in given)
