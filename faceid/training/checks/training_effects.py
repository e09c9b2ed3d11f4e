"""Options of a run that were given and change nothing: whoever gave one is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from faceid.config import Reason, changed_fields, warn_of_unused
from faceid.data.clip_settings import PairingSettings
from faceid.data.latents.latent_sets import LatentSets
from faceid.faces.identity_effects import OF_IDENTITIES, of_faces
from faceid.training.inputs.prepare import Preparation
from faceid.training.training_settings import TrainingSettings

log = logging.getLogger(__name__)

_OF_VIDEOS = ("validation_steps", "validation_cfg_scale", "validation_recogniser")


def warn_without_effect(plan: Preparation, training: TrainingSettings, pairing: PairingSettings) -> None:
    """Say which of the options that were given change nothing."""
    sections = [plan.inputs, plan.clips, plan.captions, plan.faces, training, pairing]
    reasons = [*_of_inputs(plan), *_of_validation(training), *_of_recipe(training, pairing)]
    warn_of_unused(sections, [*((name, f"with {reason}") for name, reason in reasons), *of_faces(plan.faces)])
    cores = os.cpu_count() or 1
    if training.num_workers > cores:
        log.warning(
            "num_workers=%d: more than the %d cores here; they wait for each other", training.num_workers, cores
        )


def _of_inputs(plan: Preparation) -> Iterator[Reason]:
    inputs = plan.inputs
    if inputs.latents is not None:
        stored = LatentSets.open(inputs.latents_dirs).settings
        for name in changed_fields(plan.clips):
            if getattr(plan.clips, name) != stored.get(name):
                yield name, f"--latents, which were made with {stored.get(name)}"
        for name in changed_fields(plan.captions):
            if name != "caption_files" or inputs.face_images_dir is None:
                yield name, "--latents, which hold the caption of clips and photos"
    if inputs.shards is not None and inputs.face_bank is not None:
        yield "shards", "--face_bank, which has the dancers' faces"
    if inputs.face_embedding is not None:
        for name in OF_IDENTITIES:
            yield name, "--face_embedding, which is made already"


def _of_validation(training: TrainingSettings) -> Iterator[Reason]:
    if training.validate_every == 0:
        for name in (*_OF_VIDEOS, "validation_videos", "validation_people", "best_metric", "early_stop_after"):
            yield name, "validate_every=0"
        return
    if training.heldout_dancers == 0:
        yield "validation_people", "heldout_dancers=0: these are people who are not trained on"
    if training.validation_videos == 0 and (training.validation_people == 0 or training.heldout_dancers == 0):
        for name in _OF_VIDEOS:
            yield name, "no validation videos"


def _of_recipe(training: TrainingSettings, pairing: PairingSettings) -> Iterator[Reason]:
    if training.masked_loss_probability == 0:
        yield "masked_loss_min_cells", "masked_loss_probability=0"
    if training.logit_normal_share == 1:
        yield "shift", "logit_normal_share=1: it moves the other noise levels"
    if pairing.pairing == "constant":
        for name in ("other_clip_share", "max_faces"):
            yield name, "pairing=constant, which gives every clip the target's face"
    if training.freeze_mapper_after_epochs >= training.num_epochs:
        for name in ("stage2_photos", "stage2_clips", "stage2_null"):
            yield name, f"freeze_mapper_after_epochs={training.freeze_mapper_after_epochs}: there is no stage 2"
