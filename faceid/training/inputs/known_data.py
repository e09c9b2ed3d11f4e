"""Collect what is known of a run's data without preparing it, for the dry run and for refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faceid.data.clips.captions import read_captions
from faceid.data.clips.pairs import find_pairs
from faceid.data.latents.latent_sets import LatentSets, Size
from faceid.data.stream.buckets import BucketedMixture, make_mixture
from faceid.data.stream.held_out import NOTHING, HeldOut
from faceid.data.stream.mixture import Mixture
from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.stream_order import StreamOrder
from faceid.media import images
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.prepare import photo_captions, photo_views


@dataclass(frozen=True)
class KnownData:
    """Clips and photos. Some of them may be dropped when they are prepared."""

    clips: list[str]
    """For each entry, the key of the clip that it is a view of."""
    dancers: list[str]
    """For each entry, its dancer."""
    sizes: list[Size]
    """For each clip, its size."""
    num_photos: int
    photo_sizes: tuple[Size, ...] = ()
    """The size of each view of a photo."""
    captioned: tuple[int, int] = (0, 0)
    """Number of clips and of photos with a caption of their own."""

    @classmethod
    def of(cls, plan: InputPlan) -> KnownData:
        """Raises: DataError for folders that cannot be read."""
        inputs = plan.inputs
        files = images.list_photos(Path(inputs.face_images_dir)) if inputs.face_images_dir else []
        names = [file.name for file in files]
        photos, told = len(names), len(photo_captions(plan, names))
        views = tuple((1, view.height, view.width) for view in photo_views(plan)) if names else ()
        if inputs.latents is not None:
            latents = LatentSets.open(inputs.latents_dirs)
            captioned = sum(one.num_captioned for one in latents.sets), told
            return cls(latents.clips, latents.dancers, latents.sizes, photos, views, captioned)
        pairs = find_pairs(Path(inputs.dance_videos_dir or ""), Path(inputs.pose_videos_dir or "")).pairs
        size = (plan.clips.num_frames, plan.clips.height, plan.clips.width)
        is_read = plan.captions.caption_files == "read"
        captioned = len(read_captions({pair.key: pair.caption for pair in pairs})) if is_read else 0, told
        keys, dancers = [pair.key for pair in pairs], [pair.dancer for pair in pairs]
        return cls(keys, dancers, [size] * len(pairs), photos, views, captioned)

    @property
    def largest(self) -> Size:
        """The size with the most pixels, for which memory must suffice."""
        return max(self.sizes, key=math.prod)

    def trained_on(self, held_out: HeldOut = NOTHING) -> list[Size]:
        """Sizes of the clips that are not kept for validation."""
        entries = zip(self.sizes, self.clips, self.dancers, strict=True)
        return [size for size, clip, dancer in entries if not held_out.has(clip, dancer)]

    def mixture(
        self, held_out: HeldOut, heldout_photos: int, shares: Mapping[Kind, float], order: StreamOrder
    ) -> Mixture | BucketedMixture:
        """The mixture if nothing is dropped. heldout_photos: how many are no samples. shares: for stage 2."""
        return make_mixture(
            self.trained_on(held_out),
            list(self.photo_sizes) * max(self.num_photos - heldout_photos, 0) if self.sizes else [],
            shares,
            order,
        )
