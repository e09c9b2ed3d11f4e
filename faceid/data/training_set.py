"""What training is fed: position g to a sample, as a pure function.

The stream of samples is endless: epoch after epoch, each a permutation of all clips and photos. Everything about the
sample at g (which entry, which face, which noise, what is dropped) follows from (seed, g), so a run resumes from one
integer and the number of processes cannot change what is seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from faceid.data.latents import LatentSet
from faceid.data.order import epoch_order, seed_for
from faceid.data.pairing import Pairing
from faceid.data.photo_latents import PhotoLatent
from faceid.errors import DataError
from faceid.models.latents import LatentStatistics
from faceid.vace import pose_control


@dataclass
class TrainingSample:
    """One or more samples, ready for the model. Latents are normalised, float32.

    x0: [B, C, f, h, w]. control: [B, 2C + s*s, f, h, w]. text: [B, L, D_text]. face: [B, D], zeros for the null face.
    head_mask: [B, f, h, w] float32 in {0, 1}. noise: like x0. head_cells: cells in each mask.
    g: global sample index of each. keys: their names.
    """

    x0: Tensor
    control: Tensor
    text: Tensor
    face: Tensor
    head_mask: Tensor
    noise: Tensor
    head_cells: list[int]
    g: list[int]
    keys: list[str]

    def to(self, device: torch.device | str) -> TrainingSample:
        """The same on a device; copies from pinned memory do not block."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("x0", "control", "text", "face", "head_mask", "noise")
        }
        return replace(self, **moved)


class TrainingSet(torch.utils.data.Dataset):
    """The clips of all dancers but the held-out ones, and the target's photos, by position in the endless stream."""

    def __init__(
        self,
        latents: LatentSet,
        photos: dict[str, PhotoLatent],
        pairing: Pairing,
        statistics: LatentStatistics,
        seed: int,
        heldout_dancers: Collection[str] = (),
    ) -> None:
        """heldout_dancers: whose clips are kept for validation."""
        self.latents, self.photos, self.pairing = latents, photos, pairing
        self.statistics, self.seed = statistics, seed
        self.heldout_dancers = frozenset(heldout_dancers)
        self.clip_numbers = [n for n, dancer in enumerate(latents.dancers) if dancer not in self.heldout_dancers]
        self.photo_names = sorted(photos)
        self._epoch_order: tuple[int, list[int]] = (-1, [])
        if len(self) == 0:
            raise DataError("no clips and no photos: nothing to train on")

    def __len__(self) -> int:
        """Samples in one epoch."""
        return len(self.clip_numbers) + len(self.photo_names)

    def entry(self, g: int) -> int:
        """Which entry stands at position g; clips come before photos in numbering."""
        epoch, place = divmod(g, len(self))
        if self._epoch_order[0] != epoch:
            # Remembered, not stored: a permutation of 100,000 clips takes longer than reading one of them.
            self._epoch_order = (epoch, epoch_order(self.seed, epoch, len(self)))
        return self._epoch_order[1][place]

    def __getitem__(self, g: int) -> TrainingSample:
        """The sample at position g, a batch of one. Raises: DataError when a shard is damaged."""
        number = self.entry(g)
        if number < len(self.clip_numbers):
            sample = self.latents[self.clip_numbers[number]]
            key, video, pose, inactive = sample.key, sample.video, sample.pose, sample.inactive
            text, mask, face = sample.prompt_embeds, sample.head_mask, self.pairing.clip_face(sample.key, g)
        else:
            key = self.photo_names[number - len(self.clip_numbers)]
            video, mask = self.photos[key].latent, self.photos[key].head_mask
            inactive = self.latents.inactive(*video.shape[1:])
            # A photo has no skeleton: nothing controls it, as WanVACEPipeline does without a video.
            pose = inactive
            text, face = self.latents.prompt(self.latents.caption), self.pairing.photo_face(key)
        drop_face, drop_text = self.pairing.drops(g)
        x0 = self.statistics.normalise(video.unsqueeze(0))
        return TrainingSample(
            x0=x0,
            control=pose_control(
                self.statistics.normalise(pose.unsqueeze(0)),
                self.statistics.normalise(inactive.unsqueeze(0)),
                self.latents.geometry,
            ),
            text=(self.latents.prompt("") if drop_text else text).unsqueeze(0).float(),
            face=(torch.zeros_like(face) if drop_face else face).unsqueeze(0).float(),
            head_mask=mask.unsqueeze(0).float(),
            noise=torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed_for(self.seed, g, "noise"))),
            head_cells=[int(mask.sum())],
            g=[g],
            keys=[key],
        )


def collate(samples: list[TrainingSample]) -> TrainingSample:
    """Join samples of one size to a batch. Raises: DataError when their sizes differ."""
    shapes = {tuple(sample.x0.shape[1:]) for sample in samples}
    if len(shapes) > 1:
        raise DataError(
            f"micro_batch_size={len(samples)}: samples of sizes {sorted(shapes)} cannot share a batch; use 1"
        )
    names = ("x0", "control", "text", "face", "head_mask", "noise")
    return TrainingSample(
        **{name: torch.cat([getattr(sample, name) for sample in samples]) for name in names},
        head_cells=[cells for sample in samples for cells in sample.head_cells],
        g=[g for sample in samples for g in sample.g],
        keys=[key for sample in samples for key in sample.keys],
    )
