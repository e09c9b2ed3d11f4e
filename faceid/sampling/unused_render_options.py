"""Warn of rendering options that were given and change nothing, or harm."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields

from faceid.config import Reason, warn_of_unused
from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.one_video.video_settings import PER_VIDEO
from faceid.sampling.render_sections import RenderSections

log = logging.getLogger(__name__)

# Outside this range likeness or picture suffer. Users of strengths near 2 report "crunchy" pictures.
FACE_SCALE_RANGE = (0.3, 2.0)


def warn_of_render_options(sections: RenderSections) -> None:
    """Report given options that change nothing, and a face that cannot show, or not well."""
    _warn_of_face(sections)
    every = [getattr(sections, field.name) for field in fields(sections)]
    warn_of_unused(every, unused_render_options(sections))


def unused_render_options(sections: RenderSections) -> Iterator[Reason]:
    """The unused options of each section, which is told about the others."""
    has_adapter = sections.may_have_adapter
    has_face = sections.who.is_somebody or sections.batch.jobs is not None
    yield from sections.content.unused(sections.sampling.cfg_scale)
    yield from sections.sampling.unused(has_adapter, has_face, sections.content.may_have_references(has_adapter))
    yield from sections.cache.unused(sections.batch.batch)
    yield from sections.gallery.unused()
    yield from sections.windows.unused(has_adapter)
    if sections.who.face_images_dir is None:
        # The option about who may look into the folder counts without photos, too. A judge also looks for faces.
        of_judge = ("detector", "detector_path", "face_margin") if sections.gallery.score is not None else ()
        for field in fields(sections.faces):
            if field.name not in ("shared", *of_judge):
                yield field.name, "without --face_images_dir"
    yield from sections.faces.unused()


def _warn_of_face(sections: RenderSections) -> None:
    """Report when the face cannot show, or not well."""
    who, face_scale = sections.who, sections.sampling.face_scale
    low, high = FACE_SCALE_RANGE
    if not sections.may_have_adapter:
        if face_scale != Sampling.face_scale:
            log.warning("face_scale=%s: has no effect without --face_lora_path", face_scale)
    elif face_scale == 0:
        has_one_noise = sections.content.seed != PER_VIDEO
        is_of_many = who.identities_dir is not None and not who.is_named and has_one_noise
        once = "; each pose is rendered once, not as every person" if is_of_many else ""
        log.warning("face_scale=0: the base model alone renders, without the face%s", once)
    elif not who.is_somebody and sections.batch.jobs is None:
        log.warning("no face given: the adapter renders no particular person; give --face_images_dir")
    elif not low <= face_scale <= high:
        log.warning("face_scale=%s: outside %s to %s likeness or picture suffer", face_scale, low, high)
