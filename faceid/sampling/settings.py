"""What can be chosen about rendering. Field names are flag names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.models.settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT


@dataclass(frozen=True)
class SampleSettings:
    """One video, or with --batch a folder of them."""

    face_lora_path: str | None = None
    """The adapter: face_lora_*.safetensors or .pth, or toy. Without it the base renders, with no particular face."""
    model_path: str | None = None
    """Wan2.1-VACE folder, or toy. Default: the base named in the adapter."""
    face_images_dir: str | None = None
    """3 to 20 photos of the face."""
    face_embedding: str | None = None
    """An identity folder or its identity_embedding.pt, instead of photos."""
    identities_dir: str | None = None
    """With --batch: a folder of people, an identity folder or NAME.pt each; every pose is rendered as every one."""
    pose_video: str | None = None
    """The skeleton video to render."""
    output: str | None = None
    """The mp4 to write."""
    batch: bool = False
    """Render every pose video of --pose_videos_dir into --output_dir."""
    pose_videos_dir: str | None = None
    """With --batch: the folder of skeleton videos."""
    output_dir: str | None = None
    """With --batch: the folder to write to: POSE.mp4 each, or NAME/POSE.mp4 with --identities_dir."""
    prompt: str = DEFAULT_PROMPT
    """What the video shows."""
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    """What it must not show; used when cfg_scale is over 1."""
    face_scale: Annotated[float, Field(ge=0)] = 1.0
    """Strength of the face: 0 is the base model, 1 as trained."""
    cfg_scale: Annotated[float, Field(ge=0)] = 5.0
    """Guidance; 1 and less renders without it, in half the time."""
    cfg_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps before guidance begins. Early ones lay out the body, late ones the face."""
    control_scale: Annotated[float, Field(ge=0)] = 1.0
    """Strength of the pose."""
    num_inference_steps: Annotated[int, Field(gt=0)] = 50
    """Denoising steps."""
    seed: int = 42
    """The same seed gives the same video."""
    height: int | None = None
    """Height in pixels. Default: what the adapter was trained at."""
    width: int | None = None
    """Width in pixels. Default: what the adapter was trained at."""
    num_frames: int | None = None
    """Frames to render. Default: what the adapter was trained at."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """Frame rate written into the mp4. Default: what the adapter was trained at. Pose frames are used one by one."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How a pose video of another aspect ratio is fitted."""
    device: str | None = None
    """cpu, cuda, cuda:1. Default: cuda when there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""

    def __post_init__(self) -> None:
        of_batch, of_one = ("pose_videos_dir", "output_dir"), ("pose_video", "output")
        wanted = of_batch if self.batch else of_one
        unused = of_one if self.batch else (*of_batch, "identities_dir")
        mode = "with --batch" if self.batch else "without --batch"
        for name in wanted:
            if getattr(self, name) is None:
                raise ConfigError(f"{name}: missing; {mode} give --{' and --'.join(wanted)}")
        for name in unused:
            if getattr(self, name) is not None:
                raise ConfigError(f"{name}: has no meaning {mode}; give --{' and --'.join(wanted)}")
        if self.face_lora_path is None and self.model_path is None:
            raise ConfigError("face_lora_path: missing; give an adapter, or --model_path to render the base alone")
        faces = ("face_images_dir", "face_embedding", "identities_dir")
        given = [name for name in faces if getattr(self, name) is not None]
        if given and self.face_lora_path is None:
            raise ConfigError(f"{given[0]}: a face is given, but no adapter to render it; give --face_lora_path")
        if len(given) > 1:
            raise ConfigError(f"{', '.join(given)}: give one of them, not {'both' if len(given) == 2 else 'all'}")
        if self.output is not None and not self.output.endswith(".mp4"):
            raise ConfigError(f"output={self.output}: must end with .mp4")
