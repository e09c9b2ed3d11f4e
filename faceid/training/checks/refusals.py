"""List the checks that can refuse a run before it begins.

The run stops at the first fault, and the dry run shows all. Both use this one list. A fault that only preparing can
find (a photo without a face, a damaged clip) is refused then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceid.data.dancer_faces.face_bank import open_face_bank
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.photo_latents import describe_samples, view_keys
from faceid.data.order import hold_out
from faceid.data.shards.index import ShardIndex
from faceid.data.stream.stream_length import StreamLength
from faceid.description.description_file import read_description
from faceid.errors import ConfigError, DataError, ModelError
from faceid.evaluation.videos.recognisers import TOY_RECOGNISERS, check_recogniser_names
from faceid.faces.encoders.face_encoders import check_encoder_is_there
from faceid.faces.identities.identity import check_photos, check_same_photos, load_identity
from faceid.faces.photos.detect import load_detector
from faceid.files.given_paths import why_no_folder
from faceid.files.provenance import sha256_json
from faceid.media import images
from faceid.models.adapter.adapter_file import check_base, check_settings
from faceid.models.compute.execution import check_attention_backend
from faceid.models.lora.lora_formats import check_fits, read_lora
from faceid.toy.shipped import resolve_encoder_path
from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.run_folder import check_run_folder
from faceid.training.checks.run_sections import RunSections, defaults, may_change
from faceid.training.inputs.identity_loss import check_identity_loss
from faceid.training.inputs.input_plan import INIT_ADAPTER, INIT_LORA, TARGET_DESCRIPTION, InputPlan
from faceid.training.inputs.known_data import KnownData
from faceid.training.inputs.origin import known_origin, refuse_incomplete, refuse_other_origin
from faceid.training.inputs.prepare import (
    check_init_encoder,
    clip_size,
    photo_captions,
    photo_views,
)
from faceid.training.inputs.training_data import check_heldout_photos, hold_back_of
from faceid.training.recipe.schedule import total_steps
from faceid.training.validation.best import check_best_metric
from faceid.training.validation.validation_settings import OWN
from faceid.training.world.distributed import check_precision
from faceid.training.world.fence import refuse_if_in_use
from faceid.training.world.launched import Launch, check_meeting

Check = Callable[[], Any]


def refusals(plan: InputPlan, sections: RunSections, launch: Launch) -> list[Check]:
    """Checks in the order in which a run makes them. Each raises a FaceidError on a fault.

    Checks that take long run on the main process alone. So do checks of the run folder, where that process soon writes.
    """
    folder = Path(plan.inputs.output_dir)
    checks: list[Check] = [
        lambda: check_run_folder(folder, _folders_read(plan)),
        check_precision,
        lambda: check_meeting(launch),
        lambda: _check_names(sections),
        lambda: check_identity_loss(sections.identity_loss, plan.inputs.face_images_dir is not None),
        lambda: plan.base,
        lambda: check_before_work(plan),
        lambda: check_expert(plan.base.expert, sections),
        lambda: _check_encoder(plan),
    ]
    if launch.rank > 0:
        return checks
    return [
        *checks,
        lambda: refuse_if_in_use(folder, launch.attempt),
        lambda: _check_resume(sections.saving.resume, folder / "checkpoints"),
        lambda: _check_data(plan, sections),
        lambda: _check_checkpoint(plan, sections),
    ]


def check_before_work(plan: InputPlan) -> None:
    """Make every check that needs no weight. Raises: FaceidError."""
    geometry = plan.base.geometry
    _check_init_adapter(plan)
    if plan.inputs.init_lora is not None:
        check_fits(
            read_lora(Path(plan.inputs.init_lora), INIT_LORA), plan.adapter, f"{INIT_LORA}={plan.inputs.init_lora}"
        )
    _check_words(plan)
    single = ("dance_videos_dir", "pose_videos_dir", "face_images_dir", "face_bank")
    given = [(name, Path(folder)) for name in single if (folder := getattr(plan.inputs, name)) is not None]
    given += [("latents", folder) for folder in plan.inputs.latents_dirs]
    given += [("shards", folder) for folder in plan.inputs.shards_dirs]
    for name, folder in given:
        if (reason := why_no_folder(folder)) is not None:
            raise DataError(f"{name}={folder}: {reason}")
    if plan.inputs.latents is None:
        geometry.latent_shape(plan.clips.num_frames, plan.clips.height, plan.clips.width)
    else:
        _check_latents(plan)
    photos_dir = Path(plan.inputs.face_images_dir) if plan.inputs.face_images_dir is not None else None
    if photos_dir is not None:
        check_photos(photos_dir, plan.faces.allow_few)
        photo_captions(plan, [file.name for file in images.list_photos(photos_dir)])
    if plan.inputs.face_embedding is not None:
        identity = load_identity(plan.inputs.face_embedding)
        check_init_encoder(plan, identity.encoder, identity.encoder_fingerprint, len(identity.embedding))
        if plan.inputs.face_bank is not None:
            open_face_bank(Path(plan.inputs.face_bank), identity.encoder_fingerprint)
        if photos_dir is not None:
            check_same_photos(photos_dir, identity)


def check_expert(expert: str | None, sections: RunSections) -> None:
    """Raises: ConfigError when a run on one of two transformers is to render videos, which needs both."""
    asked = sections.validation
    if expert is not None and asked.validate_every and asked.renders(sections.held_out.heldout_dancers):
        raise ConfigError(
            f"validation_videos={asked.validation_videos}, validation_people={asked.validation_people}: a video "
            f"takes both transformers, expert={expert} is one; give 0 for both"
        )


def _folders_read(plan: InputPlan) -> list[Path]:
    inputs = plan.inputs
    single = (inputs.face_images_dir, inputs.dance_videos_dir, inputs.pose_videos_dir, inputs.face_bank)
    return [Path(folder) for folder in single if folder is not None] + [*inputs.latents_dirs, *inputs.shards_dirs]


def _check_names(sections: RunSections) -> None:
    """Check names of parts that are loaded later, some only at validation. Raises: ConfigError, ModelError."""
    check_best_metric(sections.validation, sections.held_out)
    if sections.execution.attention_backend is not None:
        check_attention_backend(sections.execution.attention_backend)
    judge = sections.validation.judge
    if judge is None or judge in (OWN, *TOY_RECOGNISERS):
        return
    check_recogniser_names([judge], "validation_recogniser")
    kind, _, path = judge.partition(":")
    check_encoder_is_there(kind, resolve_encoder_path(path), "validation_recogniser")


def _check_encoder(plan: InputPlan) -> None:
    """Check the encoder that makes an identity of photos, if there is none yet. Raises: ConfigError, ModelError."""
    if plan.inputs.face_embedding is None:
        load_detector(plan.faces.detector, plan.faces.detector_path)
        check_encoder_is_there(plan.faces.encoder, plan.faces.encoder_path, "encoder_path")


def _check_resume(resume: str, checkpoints: Path) -> None:
    """Raises: ConfigError."""
    if resume == "none" and any(checkpoints.glob("step_*")):
        raise ConfigError(
            f"resume=none: {checkpoints} already holds checkpoints; choose another output_dir, or --resume auto"
        )
    if resume not in ("auto", "none") and not Path(resume).is_dir():
        raise ConfigError(f"resume={resume}: no such checkpoint folder; use auto, none, or a folder checkpoints/step_N")


def _check_data(plan: InputPlan, sections: RunSections) -> None:
    """Raises: DataError, ConfigError when there would be nothing to train on even if nothing is dropped."""
    data = KnownData.of(plan)
    held_out = hold_back_of(data.clips, data.dancers, sections.held_out, sections.optimizer.seed)
    if not data.trained_on(held_out) and not data.num_photos:
        raise DataError("no clips and no photos: nothing to train on")
    check_heldout_photos(sections.held_out.heldout_photos, data.num_photos)


def _check_checkpoint(plan: InputPlan, sections: RunSections) -> None:
    """Check that an existing checkpoint would be resumed. Facts that only preparing can tell are taken to fit."""
    found = checkpoint.to_resume(Path(plan.inputs.output_dir) / "checkpoints", sections.saving.resume)
    if found is None:
        return
    state = checkpoint.verify(found)
    refuse_incomplete(found, state)
    saved = state["origin"]
    origin = {**saved, **_known_origin(plan, sections), "recipe": sections.recipe()}
    refuse_other_origin(found, saved, origin, may_change(), defaults())
    optimizer = sections.optimizer
    first = state["samples_per_epoch"]
    # Checkpoints of earlier versions know one length.
    length = StreamLength(first, state.get("stage2_samples_per_epoch", first), optimizer.freeze_mapper_after_epochs)
    num_steps = total_steps(optimizer.num_epochs, length, optimizer.batch_size)
    refuse_shorter(optimizer.num_epochs, num_steps, state["step"], plan.inputs.output_dir)


def refuse_shorter(num_epochs: int, num_steps: int, done: int, folder: str | Path) -> None:
    """Refuse a shorter run. Its final adapter would replace one that has learnt more. Raises: ConfigError."""
    if done > num_steps:
        raise ConfigError(
            f"num_epochs={num_epochs}: ends after {num_steps} steps, but {folder} has {done} steps done "
            "already; give more epochs, or choose another output_dir"
        )


def _known_origin(plan: InputPlan, sections: RunSections) -> dict[str, Any]:
    """The part of `origin_of` that is known before anything is prepared."""
    inputs = plan.inputs
    known = known_origin(plan)
    if inputs.latents is not None:
        known["latents"] = LatentSets.open(inputs.latents_dirs).sha256
    if inputs.face_embedding is not None:
        identity = load_identity(inputs.face_embedding)
        known["identity"] = sha256_json(identity.embedding.tolist())
        known["photos"] = sha256_json(_photos_known(plan, sorted(identity.photo_sha256), sections))
    if inputs.latents is not None and (inputs.face_embedding is not None or inputs.face_images_dir is None):
        data = KnownData.of(plan)
        held_out = hold_back_of(data.clips, data.dancers, sections.held_out, sections.optimizer.seed)
        kept, shares = sections.held_out.heldout_photos, sections.pairing.stage2_shares
        known["chunk"] = data.mixture(held_out, kept, shares, sections.stream_order()).chunk
    return known


def _photos_known(plan: InputPlan, names: list[str], sections: RunSections) -> list[Any]:
    """As `TrainingSet.photos_described`, of the identity's photos, by name."""
    if not plan.inputs.face_images_dir:
        return []
    kept = hold_out(names, sections.held_out.heldout_photos, sections.optimizer.seed)
    captions = photo_captions(plan, names)
    shown = view_keys([name for name in names if name not in kept], photo_views(plan), clip_size(plan))
    return describe_samples({key: captions.get(photo) for key, photo in shown.items()})


def _check_latents(plan: InputPlan) -> None:
    sets = LatentSets.open(plan.inputs.latents_dirs).sets
    for latents in sets:
        if latents.base_fingerprint != plan.base.latents_fingerprint:
            raise DataError(
                f"latents={latents.index.folder}: encoded with base {latents.base_name} "
                f"({latents.base_fingerprint[:12]}), model_path is {plan.base_name} "
                f"({plan.base.latents_fingerprint[:12]}); encode the shards with this base"
            )
    for latents, shards in zip(sets, plan.inputs.shards_dirs, strict=False):
        if ShardIndex.load(shards, "clips").sha256 != latents.index.header["clips_sha256"]:
            raise DataError(
                f"shards={shards}: latents={latents.index.folder} were not made from these clips; give the shards they "
                "were made from"
            )


def _check_init_adapter(plan: InputPlan) -> None:
    """Raises: ModelError for another base, ConfigError for other sizes than the run's."""
    path, metadata = plan.init_adapter, plan.init_metadata
    if path is not None and metadata is not None:
        check_base(path, metadata, plan.base_name, plan.base, INIT_ADAPTER)
        check_settings(path, metadata, plan.adapter, INIT_ADAPTER)


def _check_words(plan: InputPlan) -> None:
    """Raises: ModelError for another base's language, ConfigError where the words cannot hold it, or the base them."""
    path, words = plan.target_description, plan.adapter.target_words
    length = plan.base.text_tokens
    if words >= length:
        raise ConfigError(f"target_words={words}: the base reads {length} tokens, the prompt's among them; give fewer")
    if path is None:
        return
    description = read_description(path, TARGET_DESCRIPTION)
    is_of_base = description.text_fingerprint == plan.base.latents_fingerprint
    if not is_of_base or description.tokens.shape[1] != plan.base.transformer.config["text_dim"]:
        raise ModelError(
            f"{TARGET_DESCRIPTION}={path}: made for a base with another text encoder than model_path={plan.base_name}; "
            "make it with this base"
        )
    if len(description.tokens) > words:
        raise ConfigError(
            f"target_words={words}: {TARGET_DESCRIPTION}={path} has {len(description.tokens)} tokens; give so many "
            "words, or more"
        )
