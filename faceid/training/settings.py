"""What can be chosen about a training run. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class InputSettings:
    """Where the run's inputs and outputs are."""

    model_path: str
    """Wan2.1-VACE folder in the diffusers layout, or toy for the embedded tiny base."""
    output_dir: str
    """The run folder: config, logs, checkpoints, adapters, and the cache of prepared inputs."""
    face_images_dir: str | None = None
    """3 to 20 photos of the target's face."""
    face_embedding: str | None = None
    """An identity folder made by tools/prepare_face_embeddings.py, instead of or beside the photos."""
    dance_videos_dir: str | None = None
    """Dance clips (mp4); with --latents not needed."""
    pose_videos_dir: str | None = None
    """Their skeleton videos, NAME_pose.mp4 for NAME.mp4."""
    latents: str | None = None
    """Latent shards made by tools/encode_latents.py, instead of the two folders of videos."""
    shards: str | None = None
    """The clip shards the latents were made from: with --latents, for the dancers' faces where there is no bank."""
    face_bank: str | None = None
    """The dancers' faces by tools/build_face_bank.py; by default they are cut out of the clips."""
    init_adapter: str | None = None
    """Begin with the weights of this adapter (a face_lora_* file, or toy), of the same base, encoder and sizes."""

    def __post_init__(self) -> None:
        if self.face_images_dir is None and self.face_embedding is None:
            raise ConfigError("face_images_dir: missing; give the folder of photos, or --face_embedding")
        if self.latents is None and (self.dance_videos_dir is None or self.pose_videos_dir is None):
            raise ConfigError("dance_videos_dir, pose_videos_dir: missing; give both folders, or --latents")
        if self.latents is not None and (self.dance_videos_dir or self.pose_videos_dir):
            raise ConfigError("latents: given together with folders of videos; give one or the other")
        if self.shards is not None and self.latents is None:
            raise ConfigError("shards: has no effect without --latents; the folders of videos make their own")


@dataclass(frozen=True)
class TrainingSettings:
    """The schedule, the optimizer and the recipe."""

    num_epochs: Annotated[int, Field(gt=0)] = 100
    """One epoch is every clip and every photo once."""
    batch_size: Annotated[int, Field(gt=0)] = 1
    """Samples per optimizer step over all processes; accumulation follows from it and the world."""
    micro_batch_size: Annotated[int, Field(gt=0)] = 1
    """Samples per forward pass and process."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of AdamW; cosine to zero after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Optimizer steps of linear warm-up; at most a tenth of the run is used."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this global norm."""
    freeze_mapper_after_epochs: Annotated[int, Field(ge=0)] = 20
    """Stage 2 begins after this many epochs: the mapper is frozen, LoRA and face attention go on."""
    gradient_checkpointing: bool = True
    """Recompute each block in the backward pass: less memory, a third more work."""
    shift: Annotated[float, Field(gt=0)] = 3.0
    """Moves the uniform half of the noise levels towards noise: 3 at 480p, 5 at 720p."""
    logit_normal_share: Share = 0.5
    """Share of samples with logit-normal noise levels; small faces are decided at middle and low noise."""
    masked_loss_probability: Share = 0.5
    """How often the loss is taken inside the head mask alone, where the head is large enough."""
    max_damaged_share: Share = 0.01
    """Another clip stands in for a damaged one; past this share the run is stopped."""
    masked_loss_min_cells: Annotated[int, Field(gt=0)] = 9
    """Latent cells a head must cover for the masked loss."""
    seed: int = 42
    """Every random draw follows from it."""
    heldout_dancers: Annotated[int, Field(ge=0)] = 0
    """Dancers whose clips are not trained on, for the embedding-swap gap on people never seen; two or more."""
    validate_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between validations: a video, and the embedding-swap gap; 0 for none."""
    validation_steps: Annotated[int, Field(gt=0)] = 30
    """Denoising steps of a validation video."""
    save_every: Annotated[int, Field(gt=0)] = 10
    """Epochs between face_lora_epoch_N.safetensors and checkpoints."""
    checkpoint_every_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between checkpoints in addition; 0 for none."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints kept; never fewer than two."""
    resume: str = "auto"
    """auto: go on from the newest valid checkpoint; none: refuse a folder that has some; or a checkpoint folder."""
    log_every_steps: Annotated[int, Field(gt=0)] = 10
    """Optimizer steps between metrics; a logging step waits for the device."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Reader processes per training process."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: what the accelerate config says, else bf16 where the device has it."""
