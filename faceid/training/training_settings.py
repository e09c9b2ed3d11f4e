"""What can be chosen about a training run. Field names are flag names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.limits import (
    MOST_AT_ONCE,
    MOST_COUNTED,
    MOST_STRENGTH,
    AtOnce,
    Count,
    CountFrom1,
    Processes,
    Seed,
    Shift,
)
from faceid.models.adapter_settings import GradientCheckpointing

log = logging.getLogger(__name__)

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class InputSettings:
    """Where the run's inputs and outputs are."""

    model_path: str
    """Wan2.1-VACE folder in the diffusers layout or that of the Wan repositories, or toy for the embedded tiny base."""
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
    latents: list[str] | str | None = None
    """Latent shards made by tools/encode_latents.py, instead of the two folders of videos; [A, B] for clips of several
    sizes or lengths."""
    shards: list[str] | str | None = None
    """The clip shards the latents were made from, as many as folders of latents: with --latents, for the dancers' faces
    where there is no bank."""
    face_bank: str | None = None
    """The dancers' faces by tools/build_face_bank.py; by default they are cut out of the clips."""
    expert: Literal["high", "low"] | None = None
    """Of a base with two transformers (Wan2.2 VACE-Fun A14B): which one learns, that of high noise or of low."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""
    init_adapter: str | None = None
    """Begin with this adapter's weights (a face_lora_* file, a hub folder or id, or toy); same base, encoder, sizes."""
    init_lora: str | None = None
    """Begin with this LoRA of another tool (diffusers, ComfyUI, DiffSynth or kohya names), of the same base; a file,
    or a folder that peft saved."""

    def __post_init__(self) -> None:
        if self.face_images_dir is None and self.face_embedding is None:
            raise ConfigError("face_images_dir: missing; give the folder of photos, or --face_embedding")
        if self.latents is None and (self.dance_videos_dir is None or self.pose_videos_dir is None):
            raise ConfigError("dance_videos_dir, pose_videos_dir: missing; give both folders, or --latents")
        if self.latents is not None and (self.dance_videos_dir or self.pose_videos_dir):
            raise ConfigError("latents: given together with folders of videos; give one or the other")
        if self.init_adapter is not None and self.init_lora is not None:
            raise ConfigError("init_lora: given together with init_adapter, which has a LoRA of its own; give one")
        if self.shards is not None and self.latents is None:
            # Not only a warning: of two places with clips, one would be trained on without the other.
            raise ConfigError("shards: has no effect without --latents; the folders of videos make their own")
        if self.shards is not None and len(self.shards_dirs) != len(self.latents_dirs):
            raise ConfigError(
                f"shards: {len(self.shards_dirs)} folders for {len(self.latents_dirs)} of latents; give what each was "
                "made from, in the same order"
            )

    @property
    def latents_dirs(self) -> list[Path]:
        """The folders of latents; none with folders of videos."""
        return _paths(self.latents)

    @property
    def shards_dirs(self) -> list[Path]:
        """The folders of shards that belong to them, in the same order; none where they were not given."""
        return _paths(self.shards)


def _paths(given: list[str] | str | None) -> list[Path]:
    return [Path(name) for name in ([given] if isinstance(given, str) else given or [])]


@dataclass(frozen=True)
class TrainingSettings:
    """The schedule, the optimizer and the recipe."""

    num_epochs: Annotated[int, Field(gt=0, le=1_000_000)] = 100
    """One epoch is every clip and every photo once."""
    batch_size: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 0
    """Samples per optimizer step over all processes; accumulation follows from it and the world. Fewer than there are
    processes, or 0: one sample (one micro-batch) a process."""
    micro_batch_size: AtOnce = 1
    """Samples per forward pass and process."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-4
    """Peak learning rate of AdamW; cosine to zero after the warm-up."""
    warmup_steps: Count = 50
    """Optimizer steps of linear warm-up; at most a tenth of the run is used."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.01
    """AdamW weight decay."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, which are what adapters are saved with; lower at first. 0: the last weights."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    """Gradients are clipped to this global norm; 1e9 clips none."""
    freeze_mapper_after_epochs: Count = 20
    """Stage 2 begins after this many epochs: the mapper is frozen, LoRA and face attention go on."""
    gradient_checkpointing: Literal["none", "full", "attention"] | bool = "full"
    """What is recomputed in the backward pass. full: each block from its input: least memory, a third more work.
    attention: all of a block but its self-attention, whose output is kept. none: nothing."""
    compile: bool = False
    """Compile the blocks: faster on a GPU once the first step has taken its minutes."""
    attention_backend: str | None = None
    """One of diffusers' attention kernels, such as _native_cudnn or flash; torch's choice when not given."""
    peak_tflops: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """What the device can do in bf16, for speed/mfu; known for common GPUs."""
    shift: Shift = 3.0
    """Moves the uniform half of the noise levels towards noise: 3 at 480p, 5 at 720p."""
    logit_normal_share: Share = 0.5
    """Share of samples with logit-normal noise levels; small faces are decided at middle and low noise."""
    masked_loss_probability: Share = 0.5
    """How often the loss is taken inside the head mask alone, where the head is large enough."""
    null_target: Literal["base", "data"] = "base"
    """What clips without a face are taught: base, what the frozen base predicts for them, or data, their own pixels."""
    max_damaged_share: Share = 0.01
    """Another clip stands in for a damaged one; past this share the run is stopped."""
    masked_loss_min_cells: CountFrom1 = 9
    """Latent cells a head must cover for the masked loss."""
    seed: Seed = 42
    """Every random draw follows from it."""
    heldout_dancers: Count = 0
    """Dancers whose clips are not trained on, for the embedding-swap gap on people never seen; two or more."""
    heldout_clips: Count = 0
    """Performances of each other dancer (all cameras, all parts) that are not trained on: known people, new dances."""
    validate_every: Count = 10
    """Epochs between validations: losses at fixed noise, the embedding-swap gap, videos; 0 for none."""
    validation_steps: Annotated[int, Field(gt=0, le=1000)] = 30
    """Denoising steps of a validation video."""
    validation_cfg_scale: Annotated[float, Field(ge=1, le=MOST_STRENGTH)] = 5.0
    """Guidance of a validation video, as --cfg_scale of sample.py; with few steps a high one is over-saturated."""
    validation_videos: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 1
    """Poses the target is rendered on at each validation; of held-out dancers where there are some."""
    validation_people: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 2
    """Held-out dancers rendered as themselves at each validation."""
    validation_recogniser: str = "own"
    """Who judges whose face those videos show: own, the identity's encoder (it judges its own work); one of
    clip:PATH, dinov3:PATH, dinov2:PATH, onnx:PATH, toy_recogniser, as in tools/evaluate.py; or none."""
    best_metric: str = "auto"
    """The best checkpoint is the one with the highest (of a loss, the lowest) validation/NAME of this name. auto:
    swap_gap_heldout_dancers, or swap_gap_heldout_clips, or swap_gap_training_dancers where nothing is held out."""
    early_stop_after: Count = 0
    """Validations in a row without a better best_metric after which the run ends; 0 for never."""
    save_every: CountFrom1 = 10
    """Epochs between face_lora_epoch_N.safetensors and checkpoints."""
    checkpoint_every_steps: Count = 0
    """Optimizer steps between checkpoints in addition; 0 for none."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=MOST_COUNTED)] = 2
    """Newest checkpoints kept; never fewer than two."""
    resume: str = "auto"
    """auto: go on from the newest valid checkpoint; none: refuse a folder that has some; or a checkpoint folder."""
    log_every_steps: CountFrom1 = 10
    """Optimizer steps between metrics; a logging step waits for the device."""
    log_samples: bool = False
    """Write which samples each step took to logs/samples_rankNNNN.jsonl."""
    watchdog_s: Annotated[float, Field(ge=0, le=1e9)] = 600.0
    """Seconds without progress after which a process writes where it stands to its log; 0 for never."""
    num_workers: Processes = 2
    """Reader processes per training process."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    dry_run: bool = False
    """Say what the run would be and what would be refused, load and write nothing; exit 2 if something would be."""
    accelerate_config: str | None = None
    """An accelerate YAML (launch/accelerate/), read where no launcher has: under srun python train.py."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: what the accelerate config says, else bf16 where the device has it."""

    def __post_init__(self) -> None:
        if isinstance(self.gradient_checkpointing, bool):
            now = "full" if self.gradient_checkpointing else "none"
            log.warning("gradient_checkpointing=%s is now called %s", str(self.gradient_checkpointing).lower(), now)
            object.__setattr__(self, "gradient_checkpointing", now)

    @property
    def checkpointing(self) -> GradientCheckpointing:
        """gradient_checkpointing, by its name of today."""
        assert not isinstance(self.gradient_checkpointing, bool)
        return self.gradient_checkpointing
