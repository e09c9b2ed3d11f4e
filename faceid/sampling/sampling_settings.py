"""What can be chosen about rendering. Field names are flag names."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.limits import (
    MOST_FRAMES,
    MOST_PIXELS,
    MOST_PROCESSES,
    MOST_STRENGTH,
    FrameCount,
    Rate,
    Seed,
    Shift,
    Strength,
)
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, SchedulerName

Share = Annotated[float, Field(ge=0, le=1)]
PoseTiming = Literal["tempo", "frames"] | Rate
# Options without a meaning for one video.
OF_BATCH_ALONE = ("pose_videos_dir", "output_dir", "jobs", "static", "references_dir", "score", "heads_dir")


@dataclass(frozen=True)
class SampleSettings:
    """One video, or with --batch a folder of them."""

    face_lora_path: str | None = None
    """The adapter: face_lora_*.safetensors or .pth, or toy. Without it the base renders, with no particular face."""
    model_path: str | None = None
    """Wan2.1-VACE folder, in either layout, or toy. Default: the base named in the adapter."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""
    face_images_dir: str | None = None
    """3 to 20 photos of the face."""
    face_embedding: str | None = None
    """An identity folder or its identity_embedding.pt, instead of photos."""
    identities_dir: str | None = None
    """A folder of people, an identity folder or NAME.pt each. With --batch every pose is rendered as every one; with
    --identity, or --identity_from and --identity_to, it is where their names are looked up."""
    identity: str | None = None
    """Who is rendered: a name of --identities_dir or a path; or a blend of several, anna:0.7,bob:0.3."""
    identity_from: str | None = None
    """The face at the video's beginning, which turns into that of --identity_to. As --identity."""
    identity_to: str | None = None
    """The face at the video's end."""
    pose_video: str | None = None
    """The skeleton video to render."""
    output: str | None = None
    """The mp4 to write."""
    batch: bool = False
    """Render every pose video of --pose_videos_dir into --output_dir."""
    pose_videos_dir: str | None = None
    """With --batch: the folder of skeleton videos."""
    jobs: str | None = None
    """With --batch: a list of jobs, .jsonl or .csv, in place of every pose video of a folder (docs/data_formats.md)."""
    output_dir: str | None = None
    """With --batch: the folder to write to: POSE.mp4 each, or NAME/POSE.mp4 with --identities_dir."""
    static: bool = False
    """With --batch: share the jobs out by rank beforehand, without claims; a dead worker's are left undone."""
    gallery: bool = True
    """With --batch: write gallery.html into the folder when all is rendered, to look at it in a browser."""
    references_dir: str | None = None
    """With --batch: a folder of photos of each person, by name, to be shown in the gallery beside the videos."""
    score: str | None = None
    """With --batch: who judges the likeness to --references_dir when all is rendered, as in tools/evaluate.py:
    clip:PATH, dinov3:PATH, dinov2:PATH or onnx:PATH. Not the encoder the faces were made with."""
    heads_dir: str | None = None
    """With --score: folder of CLIP.heads.json, where the heads are. Default: the detector looks."""
    prompt: str = DEFAULT_PROMPT
    """What the video shows."""
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    """What it must not show; used when cfg_scale is over 1."""
    face_scale: Strength = 1.0
    """Strength of the face: 0 is the base model, 1 as trained."""
    cfg_scale: Strength = 5.0
    """Guidance; 1 and less renders without it, in half the time."""
    cfg_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps before guidance begins. Early ones lay out the body, late ones the face."""
    face_start: Share = 0.0
    """Share of the steps before the face is shown; until then the base renders."""
    face_end: Share = 1.0
    """Share of the steps after which the face is shown no more."""
    face_guidance: Strength | None = None
    """Guidance of the face alone, as cfg_scale is of the text; one more pass a step. Default: cfg_scale guides both."""
    face_block_scales: list[Annotated[float, Field(ge=-MOST_STRENGTH, le=MOST_STRENGTH)]] | None = None
    """Strength of the face in each main block of the base, a number each; all 1 as trained."""
    control_scale: Strength = 1.0
    """Strength of the pose."""
    reference_image: list[str] | str | None = None
    """A picture of the person (or [A, B]) that the base itself looks at: a second way to say who it is."""
    reference_scale: Strength = 1.0
    """Strength of reference_image, whatever control_scale is."""
    num_inference_steps: Annotated[int, Field(gt=0, le=1000)] = 50
    """Denoising steps."""
    scheduler: SchedulerName = "unipc"
    """unipc, Wan's own, or euler."""
    shift: Shift | None = None
    """Moves the steps towards noise: 3 at 480p, 5 at 720p. Default: the model's own."""
    step_cache: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Leave out steps while the model's input has moved less than this share; 0 computes all, which is exact."""
    attention_backend: str | None = None
    """One of diffusers' attention kernels, such as _native_cudnn, flash or sage; torch's choice when not given."""
    compile: bool = False
    """Compile the blocks: faster on a GPU once the first video has taken its minutes."""
    context_parallel: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] = 1
    """Processes that render one video together, under accelerate launch: sooner, and with less memory each."""
    offload: bool = False
    """Keep the blocks in the CPU's memory and bring each to the GPU for its turn: for a small card; slower."""
    cache_dir: str | None = None
    """Folder for text embeddings and pose latents, which other runs use too. Default: none; with --batch one within
    the output folder, until all is rendered."""
    cache_gb: Annotated[float, Field(ge=1e-9, le=1e6)] = 20.0
    """What the cache may hold; what was used longest ago goes first."""
    seed: list[Seed] | Seed = 42
    """The same seed gives the same video. [1, 2, 3] for a video each, O_seed1.mp4 and so on."""
    height: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None = None
    """Height in pixels. Default: what the adapter was trained at."""
    width: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None = None
    """Width in pixels. Default: what the adapter was trained at."""
    num_frames: FrameCount | Literal["all"] | None = None
    """Frames to render; all: as many as the pose video has, at its tempo. Default: what the adapter was trained at."""
    window_frames: Annotated[int, Field(ge=0, le=MOST_FRAMES)] | None = None
    """A longer video is denoised in windows of so many frames. Default: what the adapter was trained at; 0 for none."""
    window_overlap: FrameCount | None = None
    """Frames that windows share, where they are blended. Default: a quarter of a window."""
    fps: Rate | None = None
    """Frame rate of what is rendered. Default: what the adapter was trained at."""
    pose_timing: PoseTiming = "tempo"
    """tempo: a pose video of another rate is sampled to --fps and dances at its own speed. frames: its frames are taken
    one by one, whatever its rate. A number: as tempo, its true rate where the file names a wrong one."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How a pose video of another aspect ratio is fitted."""
    like: str | None = None
    """A video's .json: render it again with all that it says; flags given besides win."""
    device: str | None = None
    """cpu, cuda, cuda:1. Default: cuda when there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""

    def __post_init__(self) -> None:
        of_batch, of_one = ("pose_videos_dir", "output_dir"), ("pose_video", "output")
        wanted: tuple[str, ...] = of_batch if self.batch else of_one
        unused = of_one if self.batch else OF_BATCH_ALONE
        if self.jobs is not None:
            wanted = ("output_dir",)
        mode = "with --batch" if self.batch else "without --batch"
        for name in wanted:
            if getattr(self, name) is None:
                raise ConfigError(f"{name}: missing; {mode} give --{' and --'.join(wanted)}")
        for name in unused:
            if getattr(self, name) not in (None, False):
                raise ConfigError(f"{name}: has no meaning {mode}; give --{' and --'.join(wanted)}")
        if self.face_lora_path is None and self.model_path is None:
            raise ConfigError("face_lora_path: missing; give an adapter, or --model_path to render the base alone")
        if (self.identity_from is None) != (self.identity_to is None):
            missing = "identity_from" if self.identity_from is None else "identity_to"
            raise ConfigError(f"{missing}: missing; a face that changes needs both --identity_from and --identity_to")
        faces = ["face_images_dir", "face_embedding", "identity", "identity_from"]
        if not self.names_identities:
            faces.append("identities_dir")
            if self.identities_dir is not None and not self.batch:
                raise ConfigError("identities_dir: without --batch say whom to render of it: give --identity")
        given = [name for name in faces if getattr(self, name) is not None]
        if given and self.face_lora_path is None and self.jobs is None:
            raise ConfigError(f"{given[0]}: a face is given, but no adapter to render it; give --face_lora_path")
        if len(given) > 1:
            raise ConfigError(f"{', '.join(given)}: give one of them, not {'both' if len(given) == 2 else 'all'}")
        if self.compile and self.step_cache:
            raise ConfigError("compile: not together with --step_cache, which decides in each step; choose one")
        if self.context_parallel > 1:
            if self.batch:
                raise ConfigError(
                    f"context_parallel={self.context_parallel}: is for one video; of a batch each process renders "
                    "videos of its own, which is sooner done; leave it out"
                )
            if self.compile:
                raise ConfigError(
                    "compile: not together with --context_parallel, whose processes exchange in each block"
                )
        if self.score is not None and self.references_dir is None:
            raise ConfigError("references_dir: missing; --score compares with its photos, a folder of each person")
        if self.compile and self.offload:
            raise ConfigError("compile: not together with --offload, which moves the blocks about; choose one")
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ConfigError(f"seed={self.seed}: give each seed once, and one at least")
        if self.output is not None and not self.output.endswith(".mp4"):
            raise ConfigError(f"output={self.output}: must end with .mp4")

    def for_one(self, **changes: Any) -> SampleSettings:
        """These settings for a single video, with `changes`: nothing that a batch alone has."""
        plain = {name: getattr(SampleSettings, name) for name in ("batch", *OF_BATCH_ALONE)}
        return replace(self, **plain, **changes)

    @property
    def names_identities(self) -> bool:
        """Whether it is said by name who is rendered."""
        return self.identity is not None or self.identity_from is not None

    @property
    def seeds(self) -> list[int]:
        """All of them, as given."""
        return self.seed if isinstance(self.seed, list) else [self.seed]

    @property
    def reference_images(self) -> list[str]:
        """All of them, as given; none without."""
        given = self.reference_image
        return [given] if isinstance(given, str) else given or []
