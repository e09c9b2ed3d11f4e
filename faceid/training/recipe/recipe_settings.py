"""Settings of what is learnt, from what, and in which steps.

A resumed run keeps them. Field names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import OnResume, Reason
from faceid.errors import ConfigError
from faceid.limits import MOST_AT_ONCE, Count, CountFrom1, Seed, Share, Shift


@dataclass(frozen=True)
class OptimizerSettings:
    """How long, how fast and in which steps the adapter learns."""

    ON_RESUME: ClassVar[OnResume] = "same"

    num_epochs: Annotated[int, Field(gt=0, le=1_000_000)] = 100
    """One epoch is every clip and every photo once."""
    batch_size: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 0
    """Samples per optimizer step over all processes. Accumulation follows from it and the world. With fewer samples
    than processes, or 0: one sample (one micro-batch) a process."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-4
    """Peak learning rate of AdamW. Cosine to zero after the warm-up."""
    warmup_steps: Count = 50
    """Optimizer steps of linear warm-up. At most a tenth of the run is used."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.01
    """AdamW weight decay."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, which adapters are saved with. It is lower at first. 0: the last weights."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    """Gradients are clipped to this global norm; 1e9 clips none."""
    freeze_mapper_after_epochs: Count = 20
    """Stage 2 begins after this many epochs: the mapper is frozen, LoRA and face attention go on."""
    target_tokens_rate: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    """Learning rate of what is the target's own (target_tokens, target_words), as a multiple of learning_rate."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: what the accelerate config says, else bf16 where the device has it."""
    seed: Seed = 42
    """Every random draw follows from it."""

    @property
    def has_stage2(self) -> bool:
        """Whether the run lasts until the mapper is frozen."""
        return self.freeze_mapper_after_epochs < self.num_epochs


@dataclass(frozen=True)
class NoiseSettings:
    """At which noise levels the adapter learns."""

    ON_RESUME: ClassVar[OnResume] = "same"

    shift: Shift = 3.0
    """Moves the uniform half of the noise levels towards noise: 3 at 480p, 5 at 720p."""
    logit_normal_share: Share = 0.5
    """Share of samples with logit-normal noise levels. Small faces are decided at middle and low noise."""
    photo_shift: Shift | None = None
    """The same as shift, for photos. 1 moves none: what a face looks like is learnt at lower noise than how somebody
    moves. Default: as shift."""
    photo_logit_normal_share: Share | None = None
    """The same as logit_normal_share, for photos. Default: as there."""

    @property
    def of_photos(self) -> tuple[float, float]:
        """Shift and logit-normal share of photos."""
        shift = self.shift if self.photo_shift is None else self.photo_shift
        share = self.photo_logit_normal_share
        return shift, self.logit_normal_share if share is None else share

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.logit_normal_share == 1:
            yield "shift", "with logit_normal_share=1: it moves the other noise levels"
        if self.of_photos[1] == 1:
            yield "photo_shift", "where all photos have logit-normal noise levels"


@dataclass(frozen=True)
class LossSettings:
    """What the adapter is taught of a sample: where in the picture, and without a face."""

    ON_RESUME: ClassVar[OnResume] = "same"

    masked_loss_probability: Share = 0.5
    """How often the loss is taken inside the head mask alone, where the head is large enough."""
    masked_loss_min_cells: CountFrom1 = 9
    """Latent cells a head must cover for the masked loss."""
    null_target: Literal["base", "data"] = "base"
    """What clips without a face are taught: base, the frozen base's prediction for them; or data, their own pixels."""

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.masked_loss_probability == 0:
            yield "masked_loss_min_cells", "with masked_loss_probability=0"


@dataclass(frozen=True)
class IdentityLossSettings:
    """Whether faces are compared by a recogniser, and how much that counts."""

    ON_RESUME: ClassVar[OnResume] = "same"

    identity_loss_weight: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Weight of the identity loss: at low noise a photo's face is decoded and compared, by a recogniser, with the other
    photos of the target. 0: none, and no recogniser is loaded."""
    identity_loss_encoder: str | None = None
    """The recogniser of the identity loss: clip:PATH, dinov2:PATH or dinov3:PATH. Never one that judges."""
    identity_loss_max_sigma: Annotated[float, Field(gt=0, le=1)] = 0.4
    """The identity loss is taken up to this noise level. Above it a face is not decided yet."""

    def __post_init__(self) -> None:
        if self.identity_loss_weight and self.identity_loss_encoder is None:
            raise ConfigError(
                f"identity_loss_weight={self.identity_loss_weight:g}: needs --identity_loss_encoder, for instance "
                "clip:PATH"
            )

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.identity_loss_weight == 0:
            for name in ("identity_loss_encoder", "identity_loss_max_sigma"):
                yield name, "with identity_loss_weight=0"


@dataclass(frozen=True)
class HeldOutSettings:
    """What is kept from training, to be measured on."""

    ON_RESUME: ClassVar[OnResume] = "same"

    heldout_dancers: Count = 0
    """Dancers whose clips are not trained on, for the embedding-swap gap on people never seen. Two or more."""
    heldout_clips: Count = 0
    """Performances of each other dancer (all cameras, all parts) that are not trained on: known people, new dances."""
    heldout_photos: Count = 0
    """Photos of the target that are not trained on, for the target's loss and embedding-swap gap. Two are enough."""
