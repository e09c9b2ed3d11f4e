"""Settings of what a run reads, and where it writes. Field names are flag names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from faceid.config import OnResume, Reason
from faceid.errors import ConfigError


@dataclass(frozen=True)
class InputSettings:
    """Where the run's inputs and outputs are."""

    ON_RESUME: ClassVar[OnResume] = "by_content"

    model_path: str
    """Wan2.1-VACE folder in the diffusers layout or that of the Wan repositories, or toy for the embedded tiny base."""
    output_dir: str
    """The run folder: config, logs, checkpoints, adapters, and the cache of prepared inputs."""
    face_images_dir: str | None = None
    """3 to 20 photos of the target's face."""
    face_embedding: str | None = None
    """An identity folder made by tools/prepare_face_embeddings.py, instead of or beside the photos."""
    dance_videos_dir: str | None = None
    """Dance clips (mp4). Not needed with --latents."""
    pose_videos_dir: str | None = None
    """Their skeleton videos, NAME_pose.mp4 for NAME.mp4."""
    latents: list[str] | str | None = None
    """Latent shards made by tools/encode_latents.py, instead of the two folders of videos. [A, B] for clips of several
    sizes or lengths."""
    shards: list[str] | str | None = None
    """The clip shards that the latents were made from, one for each folder of latents. With --latents, the dancers'
    faces come from them where there is no bank."""
    face_bank: str | None = None
    """The dancers' faces, made by tools/build_face_bank.py. By default they are cut out of the clips."""
    expert: Literal["high", "low"] | None = None
    """For a base with two transformers (Wan2.2 VACE-Fun A14B): which one learns, that of high noise or of low."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""
    init_adapter: str | None = None
    """Begin with this adapter's weights (a face_lora_* file, a hub folder or id, or toy). Same base, encoder, sizes."""
    init_lora: str | None = None
    """Begin with this LoRA of another tool (diffusers, ComfyUI, DiffSynth or kohya names), of the same base. A file, or
    a folder that peft saved."""

    target_description: str | None = None
    """What the target's own words (target_words) begin as: a file of tools/describe_person.py. Default: as nothing."""

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
            # This is an error, not a warning: of two places with clips, only one would be trained on.
            raise ConfigError("shards: has no effect without --latents; the folders of videos make their own")
        if self.shards is not None and len(self.shards_dirs) != len(self.latents_dirs):
            raise ConfigError(
                f"shards: {len(self.shards_dirs)} folders for {len(self.latents_dirs)} of latents; give what each was "
                "made from, in the same order"
            )

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.shards is not None and self.face_bank is not None:
            yield "shards", "with --face_bank, which has the dancers' faces"

    @property
    def latents_dirs(self) -> list[Path]:
        """The folders of latents; empty with folders of videos."""
        return _paths(self.latents)

    @property
    def shards_dirs(self) -> list[Path]:
        """The folders of shards that belong to them, in the same order; empty where none were given."""
        return _paths(self.shards)


def _paths(given: list[str] | str | None) -> list[Path]:
    return [Path(name) for name in ([given] if isinstance(given, str) else given or [])]
