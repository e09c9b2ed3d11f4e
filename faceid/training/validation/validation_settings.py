"""Settings of validation during training. Field names are flag names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume, Reason
from faceid.faces.encoders.encoder_kinds import RECOGNISERS
from faceid.limits import MOST_AT_ONCE, MOST_STRENGTH, Count

# Values for who judges the faces in videos: the encoder of the identity itself, or nobody.
OWN, NONE = "own", "none"
_OF_VIDEOS = ("validation_steps", "validation_cfg_scale", "validation_recogniser")
_OF_VALIDATIONS = (*_OF_VIDEOS, "validation_videos", "validation_people", "best_metric", "early_stop_after")


@dataclass(frozen=True)
class ValidationSettings:
    """How often a run is validated, what it renders then, and what the best is."""

    ON_RESUME: ClassVar[OnResume] = "free"
    IN_HELP: ClassVar[dict[str, str]] = {"recognisers": ", ".join(RECOGNISERS)}

    validate_every: Count = 10
    """Epochs between validations: losses at fixed noise, the embedding-swap gap, videos; 0 for none."""
    validation_steps: Annotated[int, Field(gt=0, le=1000)] = 30
    """Denoising steps of a validation video."""
    validation_cfg_scale: Annotated[float, Field(ge=1, le=MOST_STRENGTH)] = 5.0
    """Guidance of a validation video, as --cfg_scale of sample.py. With few steps a high one is over-saturated."""
    validation_videos: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 1
    """Poses the target is rendered on at each validation; of held-out dancers where there are some."""
    validation_people: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 2
    """Held-out dancers rendered as themselves at each validation."""
    validation_recogniser: str = OWN
    """Who judges whose face those videos show: own, the identity's encoder (it judges its own work); one of
    {recognisers}, toy_recogniser, toy_readout, as in tools/evaluate.py; or none."""
    best_metric: str = "auto"
    """The best checkpoint is the one with the best validation/NAME of this name: the lowest of a loss, the highest of a
    gap or score, of another metric what its table says. auto: swap_gap_target, or swap_gap_heldout_dancers, or
    swap_gap_heldout_clips, or swap_gap_training_dancers where nothing is held out."""
    early_stop_after: Count = 0
    """Validations in a row without a better best_metric after which the run ends; 0 for never."""

    @property
    def judge(self) -> str | None:
        """The judge of this run's videos; None where nobody judges."""
        return self.validation_recogniser if self.validate_every and self.validation_recogniser != NONE else None

    def renders(self, heldout_dancers: int) -> bool:
        """Whether a validation renders anything: the target, or people, if some are held out."""
        return bool(self.validation_videos or (self.validation_people and heldout_dancers))

    def unused(self, heldout_dancers: int) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.validate_every == 0:
            for name in _OF_VALIDATIONS:
                yield name, "with validate_every=0"
            return
        if heldout_dancers == 0:
            yield "validation_people", "with heldout_dancers=0: these are people who are not trained on"
        if not self.renders(heldout_dancers):
            for name in _OF_VIDEOS:
                yield name, "with no validation videos"
