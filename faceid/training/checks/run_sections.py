"""Hold the sections of train.py's settings, by name. No heavy imports.

Each section lives in the room that it is for, and a function takes that section or single values. Code that needs
several sections gets all of them together: the run itself, its dry run and its refusals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from faceid.config import section_types, sections_as_yaml, sections_in
from faceid.data.clip_settings import CaptionSettings, ClipSettings
from faceid.data.photo_settings import PhotoSettings
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter_settings import AdapterSettings
from faceid.training.checkpoints.saving_settings import SavingSettings
from faceid.training.inputs.input_settings import InputSettings
from faceid.training.measuring.logging_settings import LoggingSettings
from faceid.training.recipe.global_batch import global_batch
from faceid.training.recipe.recipe_settings import (
    HeldOutSettings,
    IdentityLossSettings,
    LossSettings,
    NoiseSettings,
    OptimizerSettings,
)
from faceid.training.validation.validation_settings import ValidationSettings
from faceid.training.world.execution_settings import ExecutionSettings


@dataclass(frozen=True)
class RunSections:
    """The settings of a run. The help and config.yaml show them in this order."""

    inputs: InputSettings
    optimizer: OptimizerSettings
    noise: NoiseSettings
    loss: LossSettings
    identity_loss: IdentityLossSettings
    held_out: HeldOutSettings
    validation: ValidationSettings
    saving: SavingSettings
    logging: LoggingSettings
    execution: ExecutionSettings
    adapter: AdapterSettings
    pairing: PairingSettings
    clips: ClipSettings
    captions: CaptionSettings
    photos: PhotoSettings
    faces: FaceSettings

    def all(self) -> list[Any]:
        """The sections in order."""
        return sections_in(self)

    def as_yaml(self) -> str:
        """The text of a file that `--config` reads back."""
        return sections_as_yaml(self.all())

    def stream_order(self) -> StreamOrder:
        """The numbers from which the order of the samples follows."""
        optimizer = self.optimizer
        return StreamOrder(
            optimizer.seed,
            optimizer.freeze_mapper_after_epochs,
            self.execution.micro_batch_size,
            self.pairing.stage2_samples,
        )

    def face_paths(self) -> dict[str, bool]:
        """What may carry the target's face, in words, and whether it does in this run."""
        return {
            "face tokens": self.pairing.face_dropout < 1,
            "the LoRA": True,
            "tokens of its own": self.adapter.target_tokens,
            "words of its own": self.adapter.target_words > 0,
            "a description that they begin as": self.inputs.target_description is not None,
            "reference frames": self.pairing.reference_share > 0,
            "the identity loss": self.identity_loss.identity_loss_weight > 0,
        }

    def said_of_best(self) -> str:
        """What says which checkpoint is the best."""
        validation, held_out = self.validation, self.held_out
        if not validation.validate_every:
            return "no validation looks at it"
        if validation.best_metric == "auto":
            asked = held_out.heldout_photos or held_out.heldout_dancers or held_out.heldout_clips
            return "validations look at it" if asked else "give --heldout_photos 2, so that validations look at it"
        return f"validations look at it by {validation.best_metric}"

    def recipe(self) -> dict[str, Any]:
        """Every option that is compared with a checkpoint, or kept in it, by its name."""
        return self._values_of("same", "free")

    def learnt(self) -> dict[str, Any]:
        """The options that say what is learnt, without those of computing, saving and logging."""
        return self._values_of("same")

    def with_global_batch(self, processes: int, saved: Mapping[str, Any] | None) -> RunSections:
        """The sections with the global batch in place of the given one. Raises: ConfigError as `global_batch`."""
        return self.with_batch_size(
            global_batch(self.optimizer.batch_size, self.execution.micro_batch_size, processes, saved)
        )

    def with_batch_size(self, batch_size: int) -> RunSections:
        """The sections with another batch size."""
        return replace(self, optimizer=replace(self.optimizer, batch_size=batch_size))

    def _values_of(self, *on_resume: str) -> dict[str, Any]:
        sections = [section for section in self.all() if section.ON_RESUME in on_resume]
        return {name: value for section in sections for name, value in asdict(section).items()}


SECTIONS = section_types(RunSections)


def defaults() -> dict[str, Any]:
    """What each option is where nobody chose; an option without a default is left out."""
    every = [field for section in SECTIONS for field in fields(section)]
    made = {field.name: field.default_factory() for field in every if field.default_factory is not MISSING}
    return {**made, **{field.name: field.default for field in every if field.default is not MISSING}}


def may_change() -> set[str]:
    """Names of the options that may differ between a run and the one that resumes its checkpoint."""
    free = [section for section in SECTIONS if section.ON_RESUME == "free"]  # type: ignore[attr-defined]
    return {field.name for section in free for field in fields(section)}
