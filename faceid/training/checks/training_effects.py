"""Warn of a run's options that were given and change nothing.

Each section knows how its own options affect each other. Effects across several sections are here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from faceid.config import Reason, changed_fields, warn_of_unused
from faceid.data.latents.latent_sets import LatentSets
from faceid.faces.identity_settings import FaceSettings
from faceid.training.checks.run_sections import RunSections

log = logging.getLogger(__name__)


def warn_without_effect(sections: RunSections) -> None:
    """Report which of the given options change nothing."""
    reasons = [
        *_of_given_inputs(sections),
        *sections.inputs.unused(),
        *sections.validation.unused(sections.held_out.heldout_dancers),
        *sections.loss.unused(),
        *sections.noise.unused(),
        *sections.pairing.unused(),
        *_of_one_stage(sections),
        *sections.faces.unused(),
    ]
    warn_of_unused(sections.all(), reasons)
    cores, num_workers = os.cpu_count() or 1, sections.execution.num_workers
    if num_workers > cores:
        log.warning("num_workers=%d: more than the %d cores here; they wait for each other", num_workers, cores)


def _of_given_inputs(sections: RunSections) -> Iterator[Reason]:
    """Options of how inputs are made, when they were made beforehand."""
    inputs = sections.inputs
    if inputs.latents is not None:
        stored = LatentSets.open(inputs.latents_dirs).settings
        for name in changed_fields(sections.clips):
            if getattr(sections.clips, name) != stored.get(name):
                yield name, f"with --latents, which were made with {stored.get(name)}"
        for name in changed_fields(sections.captions):
            if name != "caption_files" or inputs.face_images_dir is None:
                yield name, "with --latents, which hold the caption of clips and photos"
    if inputs.face_embedding is not None:
        for name in FaceSettings.OF_IDENTITIES:
            yield name, "with --face_embedding, which is made already"


def _of_one_stage(sections: RunSections) -> Iterator[Reason]:
    if not sections.optimizer.has_stage2:
        first = sections.optimizer.freeze_mapper_after_epochs
        for name in ("stage2_photos", "stage2_clips", "stage2_null"):
            yield name, f"with freeze_mapper_after_epochs={first}: there is no stage 2"
