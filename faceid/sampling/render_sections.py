"""Hold all options of one call of sample.py, a section for each decision.

Options that cannot go together are refused here. Each section lies in the room that it concerns. Only this holder knows
all of them, so it checks what several sections must agree on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from faceid.config import section_types, sections_in
from faceid.errors import ConfigError
from faceid.faces.identity_settings import FaceSettings
from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.jobs.batch_settings import BatchSettings, GallerySettings
from faceid.sampling.one_video.model_settings import CacheSettings, ComputeSettings, ModelSettings
from faceid.sampling.one_video.video_settings import (
    PER_VIDEO,
    ContentSettings,
    FrameSettings,
    OneVideoSettings,
    PoseSettings,
    RenderOptions,
    WindowSettings,
)
from faceid.sampling.who.who_settings import WhoSettings

# Options that mean nothing for one video.
OF_BATCH_ALONE = ("pose_videos_dir", "output_dir", "jobs", "static", "references_dir", "score", "heads_dir")


@dataclass(frozen=True)
class RenderSections:
    """One video, or with --batch many. Raises: ConfigError for options that do not go together."""

    models: ModelSettings
    who: WhoSettings
    video: OneVideoSettings
    batch: BatchSettings
    gallery: GallerySettings
    content: ContentSettings
    sampling: Sampling
    frames: FrameSettings
    windows: WindowSettings
    pose: PoseSettings
    compute: ComputeSettings
    cache: CacheSettings
    faces: FaceSettings

    def __post_init__(self) -> None:
        check_together(self)

    @property
    def options(self) -> RenderOptions:
        """How a video is rendered, whoever it shows."""
        return RenderOptions(self.sampling, self.content, self.pose, self.frames, self.windows)

    @property
    def flags(self) -> dict[str, Any]:
        """Every option by its flag's name."""
        return {name: value for section in sections_in(self) for name, value in asdict(section).items()}

    @property
    def may_have_adapter(self) -> bool:
        """Whether an adapter renders: the given one, or those that rows of a list name."""
        return self.models.face_lora_path is not None or self.batch.jobs is not None


SECTIONS = section_types(RenderSections)


def check_together(sections: RenderSections) -> None:
    """Raises: ConfigError for options that are missing, or that do not go together."""
    _check_places(sections)
    _check_who(sections)
    compute, content, gallery = sections.compute, sections.content, sections.gallery
    if compute.compile and sections.sampling.step_cache:
        raise ConfigError("compile: not together with --step_cache, which decides in each step; choose one")
    if compute.context_parallel > 1:
        if sections.batch.batch:
            raise ConfigError(
                f"context_parallel={compute.context_parallel}: is for one video; of a batch each process renders "
                "videos of its own, which is sooner done; leave it out"
            )
        if compute.compile:
            raise ConfigError("compile: not together with --context_parallel, whose processes exchange in each block")
    if gallery.score is not None and gallery.references_dir is None:
        raise ConfigError("references_dir: missing; --score compares with its photos, a folder of each person")
    if compute.compile and compute.offload:
        raise ConfigError("compile: not together with --offload, which moves the blocks about; choose one")
    if content.seed == PER_VIDEO:
        if not sections.batch.batch:
            raise ConfigError(f"seed={PER_VIDEO}: is for --batch; one video is made from one noise: give a number")
    elif len(set(content.seeds)) != len(content.seeds) or not content.seeds:
        raise ConfigError(f"seed={content.seed}: give each seed once, and one at least")
    output = sections.video.output
    if output is not None and not output.endswith(".mp4"):
        raise ConfigError(f"output={output}: must end with .mp4")


def _check_places(sections: RenderSections) -> None:
    """Check that inputs and outputs are given for one video, or for a batch."""
    flags, is_batch = sections.flags, sections.batch.batch
    of_batch, of_one = ("pose_videos_dir", "output_dir"), ("pose_video", "output")
    wanted: tuple[str, ...] = of_batch if is_batch else of_one
    if sections.batch.jobs is not None:
        wanted = ("output_dir",)
    mode = "with --batch" if is_batch else "without --batch"
    for name in wanted:
        if flags[name] is None:
            raise ConfigError(f"{name}: missing; {mode} give --{' and --'.join(wanted)}")
    for name in of_one if is_batch else OF_BATCH_ALONE:
        if flags[name] not in (None, False):
            raise ConfigError(f"{name}: has no meaning {mode}; give --{' and --'.join(wanted)}")


def _check_who(sections: RenderSections) -> None:
    """Check that there is something to render with, and one face at most."""
    who, models = sections.who, sections.models
    if models.face_lora_path is None and models.model_path is None:
        raise ConfigError("face_lora_path: missing; give an adapter, or --model_path to render the base alone")
    if (who.identity_from is None) != (who.identity_to is None):
        missing = "identity_from" if who.identity_from is None else "identity_to"
        raise ConfigError(f"{missing}: missing; a face that changes needs both --identity_from and --identity_to")
    faces = ["face_images_dir", "face_embedding", "identity", "identity_from"]
    if not who.is_named:
        faces.append("identities_dir")
        if who.identities_dir is not None and not sections.batch.batch:
            raise ConfigError("identities_dir: without --batch say whom to render of it: give --identity")
    given = [name for name in faces if getattr(who, name) is not None]
    if given and not sections.may_have_adapter:
        raise ConfigError(f"{given[0]}: a face is given, but no adapter to render it; give --face_lora_path")
    if len(given) > 1:
        raise ConfigError(f"{', '.join(given)}: give one of them, not {'both' if len(given) == 2 else 'all'}")
