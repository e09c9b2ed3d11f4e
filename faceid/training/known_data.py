"""What is known of a run's data without preparing it: for what a run would be, and for what would be refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from faceid.data.buckets import BucketedMixture, make_mixture
from faceid.data.held_out import NOTHING, HeldOut
from faceid.data.latent_sets import LatentSets, Size
from faceid.data.mixture import Mixture
from faceid.data.pairs import find_pairs
from faceid.data.settings import PairingSettings
from faceid.media import images
from faceid.training.prepare import Preparation
from faceid.training.settings import TrainingSettings


@dataclass(frozen=True)
class KnownData:
    """Clips and photos; some of them may be dropped when they are prepared."""

    clips: list[str]
    """Keys: of the clip that each entry is a view of."""
    dancers: list[str]
    """Of each."""
    sizes: list[Size]
    """Of each clip; photos are of the first's."""
    num_photos: int

    @classmethod
    def of(cls, plan: Preparation) -> KnownData:
        """Raises: DataError for folders that cannot be read."""
        inputs = plan.inputs
        photos = len(images.list_photos(Path(inputs.face_images_dir))) if inputs.face_images_dir else 0
        if inputs.latents is not None:
            latents = LatentSets.open(inputs.latents_dirs)
            return cls(latents.clips, latents.dancers, latents.sizes, photos)
        pairs = find_pairs(Path(inputs.dance_videos_dir or ""), Path(inputs.pose_videos_dir or "")).pairs
        size = (plan.clips.num_frames, plan.clips.height, plan.clips.width)
        return cls([pair.key for pair in pairs], [pair.dancer for pair in pairs], [size] * len(pairs), photos)

    @property
    def largest(self) -> Size:
        """The size with the most pixels: what memory must hold."""
        return max(self.sizes, key=math.prod)

    def trained_on(self, held_out: HeldOut = NOTHING) -> list[Size]:
        """Sizes of the clips that are not kept for validation."""
        entries = zip(self.sizes, self.clips, self.dancers, strict=True)
        return [size for size, clip, dancer in entries if not held_out.has(clip, dancer)]

    def mixture(
        self, held_out: HeldOut, training: TrainingSettings, pairing: PairingSettings
    ) -> Mixture | BucketedMixture:
        """What stands where, if nothing is dropped."""
        return make_mixture(
            self.trained_on(held_out),
            [(1, *self.sizes[0][1:])] * self.num_photos if self.sizes else [],
            pairing.stage2_shares,
            training.freeze_mapper_after_epochs,
            training.seed,
            training.micro_batch_size,
        )
