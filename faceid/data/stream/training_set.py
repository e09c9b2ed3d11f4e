"""Read training samples: from position g to a sample, as a pure function.

The stream of samples is endless, epoch after epoch (`mixture`). Everything about the sample at g follows from (seed,
g): which entry, which face, which noise, what is dropped. So a run resumes from one integer, and the number of
processes cannot change what is seen. That also holds for damaged clips: the replacement follows from g, not from the
reader that met the damage.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import torch
from torch import Tensor

from faceid.data.latents.latent_reader import LatentSample, LatentSet
from faceid.data.latents.latent_sets import LatentSets, Size
from faceid.data.latents.photo_latents import PhotoLatent, describe_samples
from faceid.data.latents.reference_latents import References
from faceid.data.order import seed_for
from faceid.data.shards.index import DamagedError
from faceid.data.stream.buckets import make_mixture
from faceid.data.stream.held_out import NOTHING, HeldOut
from faceid.data.stream.mixture import StreamEntry
from faceid.data.stream.pairing import Pairing, Source
from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.stream_length import StreamLength
from faceid.data.stream.stream_order import StreamOrder
from faceid.errors import DataError
from faceid.models.base.latent_codec import LatentStatistics
from faceid.models.wan_vace.control import pose_control

log = logging.getLogger(__name__)

FACE = "face"
"""Drawn once for each of the faces that are averaged for a clip."""
REFERENCE = "reference"
"""Drawn once for each reference frame."""
BODY = "body"
"""Drawn for a clip that is given the target's face and learnt outside the head."""
CHOICES = ("face_dropped", "text_dropped", "both_dropped", *get_args(Source), BODY, FACE, REFERENCE)

# How often a sample with references has two.
TWO_REFERENCES = 0.2

TENSORS = ("x0", "control", "text", "face", "target_share", "head_mask", "noise")
"""The fields of a sample that are tensors, with a row for each entry."""

# Clips tried for one position before the run is stopped. With one bad clip in a hundred this never happens.
MOST_TRIES = 20


@dataclass
class TrainingSample:
    """One or more samples, ready for the model. Latents are normalised, float32.

    x0: [B, C, f, h, w]. control: [B, 2C + s*s, f, h, w]. text: [B, L, D_text]. face: [B, D], zeros for the null face.
    target_share: [B], 1 where the face is the target's, else 0.
    head_mask: [B, f, h, w] float32 in {0, 1}. noise: like x0. head_cells: cells in each mask. num_references: R. With
    reference frames x0, control and noise have R + f frames, the references first. face_boxes: (x0, y0, x1, y1) in
    pixels, of photos; else empty. photos: the photo that each shows; else empty.
    g: global sample index of each. keys: their names. kinds: clip, photo or null for each. bodies: whether each is a
    clip that is learnt outside the head alone. choices: further draws for them, one name a draw (`CHOICES`).
    damages: what was wrong with each damaged clip that one of these samples replaces (`index.DAMAGES`).
    """

    x0: Tensor
    control: Tensor
    text: Tensor
    face: Tensor
    target_share: Tensor
    head_mask: Tensor
    noise: Tensor
    head_cells: list[int]
    face_boxes: list[tuple[float, ...]]
    photos: list[str]
    num_references: int
    g: list[int]
    keys: list[str]
    kinds: list[str]
    bodies: list[bool]
    choices: list[str]
    damages: list[str]

    def to(self, device: torch.device | str) -> TrainingSample:
        """The same samples on a device. Copies from pinned memory do not block."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in TENSORS})


class TrainingSet(torch.utils.data.Dataset):
    """The clips of all dancers but the held-out ones, and the target's photos, by position in the endless stream."""

    def __init__(
        self,
        latents: LatentSet | LatentSets,
        photos: dict[str, PhotoLatent],
        pairing: Pairing,
        statistics: LatentStatistics,
        order: StreamOrder,
        held_out: HeldOut = NOTHING,
        references: References | None = None,
        heldout_photos: Collection[str] = (),
    ) -> None:
        """held_out: what is kept for validation. references: frames that show whom a sample shows. heldout_photos: by
        their own names, photos that are no samples."""
        self.latents = latents if isinstance(latents, LatentSets) else LatentSets([latents])
        self.photos, self.pairing = photos, pairing
        self.statistics, self.seed = statistics, order.seed
        self.held_out, self.references = held_out, references
        self._order = order
        owners = list(zip(self.latents.clips, self.latents.dancers, strict=True))
        self.clip_numbers = [n for n, (clip, dancer) in enumerate(owners) if not held_out.has(clip, dancer)]
        self.photo_names = sorted(key for key in photos if (photos[key].photo or key) not in heldout_photos)
        # Views of them would tell nothing more.
        self.heldout_photos = sorted(key for key in photos if key in heldout_photos)
        sizes = self.latents.sizes
        self._sizes = [sizes[number] for number in self.clip_numbers]
        self._of_size: dict[Size, list[int]] = {}
        for place, size in enumerate(self._sizes):
            self._of_size.setdefault(size, []).append(place)
        # A photo has a clip's size, unless it is shown smaller.
        px = self.latents.geometry.spatial_factor
        latent_sizes = [photos[name].latent.shape[2:] for name in self.photo_names]
        photo_sizes = [(1, h * px, w * px) for h, w in latent_sizes]
        self.mixture = make_mixture(
            self._sizes,
            photo_sizes,
            pairing.settings.stage2_shares,
            order,
        )
        self._said: set[str] = set()
        if len(self) == 0:
            raise DataError("no clips and no photos: nothing to train on")

    @property
    def photos_described(self) -> list[Any]:
        """What says which photos are trained on, and with which captions of their own."""
        return describe_samples({name: self.photos[name].caption for name in self.photo_names})

    @property
    def length(self) -> StreamLength:
        """Samples of an epoch in each stage."""
        return self.mixture.length

    def __len__(self) -> int:
        """Samples in one epoch of stage 1, which takes every clip and every photo once."""
        return self.length.stage1

    def __getitem__(self, g: int) -> TrainingSample:
        """The sample at position g, a batch of one. A damaged clip is replaced by another, chosen by g.

        Raises: DamagedError when every clip that is tried is damaged.
        """
        place = self.mixture[g]
        damages: list[str] = []
        if place.kind == "photo":
            return self._photo(place, g)
        while True:
            try:
                return self._clip(place, g, damages)
            except DamagedError as error:
                damages.append(error.kind)
                self._say(self.latents.keys[self.clip_numbers[place.number]], error)
                if len(damages) == MOST_TRIES:
                    raise
                # The replacement has the same size, because it may share a micro-batch with others.
                alike = self._of_size[self._sizes[place.number]]
                other = seed_for(self.seed, g, f"in place of a damaged clip {len(damages)}") % len(alike)
                place = StreamEntry(place.kind, alike[other])

    def _clip(self, place: StreamEntry, g: int, damages: list[str]) -> TrainingSample:
        clip = self.latents[self.clip_numbers[place.number]]
        if place.kind == "null":
            return self._sample(clip, torch.zeros_like(self.pairing.target), place.kind, g, [], damages)
        # Where no head is known, the dancer's would be learnt as the target's.
        if self.pairing.is_body(g) and clip.head_mask.any():
            of_target = self.references.for_photo("", clip.video) if self.references is not None else []
            return self._sample(clip, self.pairing.target, place.kind, g, [BODY], damages, of_target)
        face = self.pairing.clip_face(clip.clip, g)
        choices = [face.source, *[FACE] * face.num_faces]
        known = self.references.for_clip(clip.clip, clip.dancer, clip.video) if self.references is not None else []
        return self._sample(clip, face.embedding, place.kind, g, choices, damages, known)

    def _photo(self, place: StreamEntry, g: int) -> TrainingSample:
        key = self.photo_names[place.number]
        photo, shown = self.photos[key], self.shown_photo(key)
        name = photo.photo or key
        known = self.references.for_photo(name, shown.video) if self.references is not None else []
        sample = self._sample(shown, self.pairing.photo_face(name), place.kind, g, [], [], known)
        return replace(sample, face_boxes=[photo.box], photos=[name])

    def shown_photo(self, key: str) -> LatentSample:
        """A photo as a sample of one frame."""
        photo = self.photos[key]
        own = photo.prompt_embeds
        prompt = self.latents.prompt(self.latents.caption) if own is None else own
        # A photo has no skeleton, so nothing controls it, as in WanVACEPipeline without a video.
        inactive = photo.inactive if photo.inactive is not None else self.latents.inactive(*photo.latent.shape[1:])
        return LatentSample(key, photo.latent, inactive, inactive, photo.head_mask, prompt, dancer="", clip="")

    def _say(self, key: str, error: DamagedError) -> None:
        if key not in self._said:
            self._said.add(key)
            log.warning("%s: not trained on, another clip stands in for it: %s", key, error)

    def _sample(
        self,
        shown: LatentSample,
        face: Tensor,
        kind: Kind,
        g: int,
        choices: list[str],
        damages: list[str],
        known: Sequence[Tensor] = (),
    ) -> TrainingSample:
        """known: raw latents [C, 1, h, w] that show the same person, of which references are drawn."""
        drop_face, drop_text = self.pairing.drops(g)
        dropped = {(True, True): "both_dropped", (True, False): "face_dropped", (False, True): "text_dropped"}
        choices += [dropped[drop_face, drop_text]] if drop_face or drop_text else []
        text = self.latents.prompt("") if drop_text else shown.prompt_embeds
        x0, pose, inactive = (
            self.statistics.normalise(raw.unsqueeze(0)) for raw in (shown.video, shown.pose, shown.inactive)
        )
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed_for(self.seed, g, "noise")))
        references = [
            self.statistics.normalise(raw.unsqueeze(0)) for raw in self._references(known, kind, g, shown.video)
        ]
        choices += [REFERENCE] * len(references)
        control = pose_control(pose, inactive, self.latents.geometry, references)
        if references:
            # The video's own noise is the same with and without references. They come in the control's order.
            own = torch.Generator().manual_seed(seed_for(self.seed, g, "reference noise"))
            noise = torch.cat([torch.randn(torch.cat(references, 2).shape, generator=own), noise], dim=2)
            x0 = torch.cat([*reversed(references), x0], dim=2)
        return TrainingSample(
            x0=x0,
            control=control,
            text=text.unsqueeze(0).float(),
            face=(torch.zeros_like(face) if drop_face else face).unsqueeze(0).float(),
            target_share=torch.tensor([float(BODY in choices or self.pairing.is_target(kind))]),
            head_mask=shown.head_mask.unsqueeze(0).float(),
            noise=noise,
            num_references=len(references),
            head_cells=[int(shown.head_mask.sum())],
            face_boxes=[()],
            photos=[""],
            g=[g],
            keys=[shown.key],
            kinds=[kind],
            bodies=[BODY in choices],
            choices=choices,
            damages=damages,
        )

    def _references(self, known: Sequence[Tensor], kind: Kind, g: int, like: Tensor) -> list[Tensor]:
        """The raw reference frames of the sample at g. Samples of a micro-batch have the same number of them."""
        if self.references is None or kind == "null":
            return []
        chunk = g // self._order.micro_batch_size
        generator = torch.Generator().manual_seed(seed_for(self.seed, chunk, "references"))
        draw, two = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        if draw >= self.pairing.settings.reference_share:
            return []
        if not known:
            # Alone it goes without. Among others it gets one that shows nobody.
            if self._order.micro_batch_size == 1:
                return []
            known = [torch.zeros_like(like[:, :1])]
        count = 2 if two < TWO_REFERENCES else 1
        own = torch.Generator().manual_seed(seed_for(self.seed, g, "which references"))
        # With one picture alone, both are that one.
        chosen = torch.randperm(max(len(known), count), generator=own)[:count].tolist()
        return [known[place % len(known)] for place in chosen]


def collate(samples: list[TrainingSample]) -> TrainingSample:
    """Join samples of one size to a batch. Raises: DataError when their sizes differ."""
    shapes = {tuple(sample.x0.shape[1:]) for sample in samples}
    if len(shapes) > 1:
        raise DataError(
            f"micro_batch_size={len(samples)}: samples of sizes {sorted(shapes)} cannot share a batch; use 1"
        )
    joined: dict[str, Any] = {}
    for field in fields(TrainingSample):
        of_each = [getattr(sample, field.name) for sample in samples]
        if field.name == "num_references":
            joined[field.name] = of_each[0]
        else:
            joined[field.name] = torch.cat(of_each) if field.name in TENSORS else list(itertools.chain(*of_each))
    return TrainingSample(**joined)
