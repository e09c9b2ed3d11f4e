"""Describe what a run came from, and check which of it may differ in the run that resumes its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.data.stream.training_set import TrainingSet
from faceid.faces.identities.identity import Identity
from faceid.files.provenance import sha256_file, sha256_json
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import WanModel
from faceid.training.checkpoints import checkpoint
from faceid.training.inputs.input_plan import INIT_ADAPTER, INIT_LORA, TARGET_DESCRIPTION, InputPlan

log = logging.getLogger(__name__)

# A change stretches the learning rate, and is warned about, since a run may be given more epochs.
NUM_EPOCHS = "num_epochs"
# The keys in every checkpoint of a run.
OF_STATE = ("step", "updates", "origin", "validation", "validated", "samples_per_epoch")
BEGUN_WITH = (INIT_ADAPTER, INIT_LORA, TARGET_DESCRIPTION)
OF_ORIGIN = ("base", "latents", "photos", "identity", *BEGUN_WITH, "chunk", "recipe", "asked_batch_size")


@dataclass(frozen=True)
class StartingPoint:
    """The models from which a new run starts."""

    base: ModelFiles
    base_name: str
    """As the user named it."""
    encoder_path: str | None
    """As the user named it."""
    init_adapter: Path | None
    """The adapter with whose weights it begins; None for fresh ones."""
    init_lora: Path | None = None
    """The LoRA of another tool with which its LoRA begins instead."""
    target_description: Path | None = None
    """What the target's own words begin as; None for small random ones."""
    asked_batch_size: int = 0
    """The batch size in the command. The settings hold the resulting one (`faceid.training.recipe.global_batch`)."""

    @classmethod
    def of(cls, plan: InputPlan, asked_batch_size: int, encoder_path: str | None) -> StartingPoint:
        """The starting point of a run's inputs. Raises: ModelError when the base is incomplete."""
        begun = (plan.init_adapter, plan.init_lora, plan.target_description)
        return cls(plan.base, plan.base_name, encoder_path, *begun, asked_batch_size)

    def begun_with(self) -> dict[str, Any]:
        """The files that it begins with, by the flags that give them. None: fresh weights."""
        return described_files(self.init_adapter, self.init_lora, self.target_description)


def origin_of(
    training_set: TrainingSet, identity: Identity, recipe: dict[str, Any], wan: WanModel, start: StartingPoint
) -> dict[str, Any]:
    """What a resumed run must share with the one that saved. It holds hashes, never faces."""
    return {
        "base": wan.files.exact_fingerprint,
        "latents": training_set.latents.sha256,
        "photos": sha256_json(training_set.photos_described),
        "identity": sha256_json(identity.embedding.tolist()),
        **start.begun_with(),
        # Samples of one size in a row. Another number gives another order of the stream.
        "chunk": training_set.mixture.chunk,
        "recipe": recipe,
        "asked_batch_size": start.asked_batch_size,
    }


def known_origin(plan: InputPlan) -> dict[str, Any]:
    """The part of it that is known before any data are read."""
    begun = described_files(plan.init_adapter, plan.init_lora, plan.target_description)
    return {"base": plan.base.exact_fingerprint, **begun}


def described_files(*files: Path | None) -> dict[str, Any]:
    """Path and hash of each file of `BEGUN_WITH`."""
    return {name: _described(file) for name, file in zip(BEGUN_WITH, files, strict=True)}


def _described(file: Path | None) -> dict[str, str] | None:
    return {"path": str(file), "sha256": sha256_file(file)} if file else None


def refuse_incomplete(found: Path, state: dict[str, Any]) -> None:
    """Raises: CheckpointError when a checkpoint lacks facts that a resumed run needs."""
    origin = state.get("origin")
    missing = [key for key in OF_STATE if key not in state]
    missing += [key for key in OF_ORIGIN if not isinstance(origin, dict) or key not in origin]
    if missing:
        raise checkpoint.CheckpointError(
            f"{found}: does not say its {missing[0]}, as a checkpoint of this version does; choose another output_dir"
        )


def refuse_other_origin(
    found: Path,
    saved: dict[str, Any],
    origin: dict[str, Any],
    may_change: Collection[str],
    defaults: Mapping[str, Any],
) -> None:
    """Raises: CheckpointError when a checkpoint's origin differs in what may not change.

    may_change: names of the recipe's options that may differ, besides num_epochs. defaults: what an option was in a
    run from before the option existed.
    """
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
    before, now = saved["chunk"], origin["chunk"]
    if before != now:
        raise checkpoint.CheckpointError(
            f"{found}: samples of several sizes were grouped by micro_batch_size {before}, now {now}; resume with "
            f"--micro_batch_size {before}, or choose another output_dir"
        )
    for key in BEGUN_WITH:
        before, now = saved[key] or {}, origin[key] or {}
        if before.get("sha256") != now.get("sha256"):
            was, given = (f"{each['path']} ({each['sha256'][:12]})" if each else "none" for each in (before, now))
            raise checkpoint.CheckpointError(
                f"{found}: {key} was {was}, now {given}; give the same one, or choose another output_dir"
            )
    for key in sorted(set(saved["recipe"]) | set(origin["recipe"])):
        before, now = saved["recipe"].get(key, defaults.get(key)), origin["recipe"].get(key)
        if before == now or key in may_change:
            continue
        if key != NUM_EPOCHS:
            raise checkpoint.CheckpointError(
                f"{found}: {key} was {before}, now {now}; resume with --{key} {before}, or choose another output_dir"
            )
        log.warning("num_epochs was %s, now %s: the learning rate follows the new length from here on", before, now)
