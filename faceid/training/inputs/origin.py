"""What a run came from, and what of it may differ in the run that goes on from its checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from faceid.data.stream.training_set import TrainingSet
from faceid.faces.identities.identity import Identity
from faceid.files.provenance import sha256_file, sha256_json
from faceid.models.base.wan import WanModel
from faceid.training.checkpoints import checkpoint
from faceid.training.inputs.prepare import INIT_ADAPTER, INIT_LORA

log = logging.getLogger(__name__)

# What may differ between the run that saved a checkpoint and the one that goes on: nothing here changes what is learnt,
# but for num_epochs, which stretches the learning rate and is warned about.
MAY_CHANGE = {
    "num_epochs",
    "micro_batch_size",
    "gradient_checkpointing",
    "compile",
    "attention_backend",
    "peak_tflops",
    "accelerate_config",
    "dry_run",
    "validation_videos",
    "validation_people",
    "validation_recogniser",
    "best_metric",
    "early_stop_after",
    "validate_every",
    "validation_steps",
    "validation_cfg_scale",
    "save_every",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "resume",
    "log_every_steps",
    "max_damaged_share",
    "watchdog_s",
    "log_samples",
    "num_workers",
    "tensorboard",
}

# What runs did before there was a setting for it, so that their checkpoints go on as they began.
BEFORE_IT_WAS_A_SETTING: dict[str, Any] = {
    "ema": 0.0,
    "null_target": "data",
    "heldout_clips": 0,
    "lora_layers": "attention",
}


def what_is_learnt_by(recipe: dict[str, Any]) -> dict[str, Any]:
    """The settings that say what is learnt; not those that say how it is computed, kept or looked at."""
    return {name: value for name, value in recipe.items() if name not in MAY_CHANGE or name == "num_epochs"}


def origin_of(
    training_set: TrainingSet,
    identity: Identity,
    recipe: dict[str, Any],
    wan: WanModel,
    init_adapter: Path | None,
    init_lora: Path | None,
) -> dict[str, Any]:
    """What a resumed run must share with the one that saved; hashes, never faces."""
    return {
        "base": wan.files.exact_fingerprint,
        "latents": training_set.latents.sha256,
        "photos": sha256_json(training_set.photos_described),
        "identity": sha256_json(identity.embedding.tolist()),
        # Checkpoints from before these keys had fresh weights, as None says.
        **{
            key: {"path": str(path), "sha256": sha256_file(path)} if path else None
            for key, path in ((INIT_ADAPTER, init_adapter), (INIT_LORA, init_lora))
        },
        # Samples of one size in a row: another order of the stream. Checkpoints of before had 1.
        "chunk": training_set.mixture.chunk,
        "recipe": recipe,
    }


def refuse_other_origin(found: Path, saved: dict[str, Any], origin: dict[str, Any]) -> None:
    """Raises: CheckpointError when a checkpoint's origin differs in what may not change."""
    for name, what in (
        ("base", "another base model"),
        ("latents", "other clips"),
        ("photos", "other photos"),
        ("identity", "another identity"),
    ):
        if saved[name] != origin[name]:
            raise checkpoint.CheckpointError(
                f"{found}: was trained with {what}; choose another output_dir, or give the same inputs"
            )
    before, now = saved.get("chunk", 1), origin["chunk"]
    if before != now:
        raise checkpoint.CheckpointError(
            f"{found}: clips of several sizes were grouped by micro_batch_size {before}, now {now}; resume with "
            f"--micro_batch_size {before}, or choose another output_dir"
        )
    for key in (INIT_ADAPTER, INIT_LORA):
        before, now = saved.get(key) or {}, origin.get(key) or {}
        if before.get("sha256") != now.get("sha256"):
            was, given = (f"{each['path']} ({each['sha256'][:12]})" if each else "none" for each in (before, now))
            raise checkpoint.CheckpointError(
                f"{found}: {key} was {was}, now {given}; give the same one, or choose another output_dir"
            )
    for key in sorted(set(saved["recipe"]) | set(origin["recipe"])):
        before, now = saved["recipe"].get(key, BEFORE_IT_WAS_A_SETTING.get(key)), origin["recipe"].get(key)
        if before != now and key not in MAY_CHANGE:
            raise checkpoint.CheckpointError(
                f"{found}: {key} was {before}, now {now}; resume with --{key} {before}, or choose another output_dir"
            )
        if before != now and key == "num_epochs":
            log.warning("num_epochs was %s, now %s: the learning rate follows the new length from here on", before, now)
