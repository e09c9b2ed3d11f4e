"""Draw what the base learns from, and encode it: clips, single pictures, portraits, each with who is in it.

Wan was trained on pictures and videos of described people at any size. So is this base: whole figures, upper halves,
figures in the distance, portraits. A picture costs a third of a clip, so there are more of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceid.data.latents.head_mask import head_mask
from faceid.logs import progress
from faceid.models.base.latent_codec import encode_grey, encode_pixels, to_pixels
from faceid.models.base.wan import WanModel, load_wan
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import Person, draw_nuisance, draw_person, generator
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo, render_pose
from faceid.toy.worlds import TRAINING_WORLD, person_seed
from toy_factory.train_vae import set_layout
from toy_factory.world import CLIP_FRAMES, FRAME_PX, draw_framing

PEOPLE_A_JOB = 20


@dataclass(frozen=True)
class BaseWorld:
    """How much is drawn."""

    num_people: int = 3000
    clips_per_person: float = 0.75
    """Below 1, this share of the people is seen in a clip."""
    pictures_per_person: int = 2
    """Single frames of dances, with their pose."""
    portraits_per_person: int = 3
    """Photos, also used as references."""
    small_portraits_per_person: int = 1
    """Photos of half the side."""
    seed: int = TRAINING_WORLD


@dataclass(frozen=True)
class BaseData:
    """Everything in memory: normalised latents [N, C, f, h, w] in half precision, head masks [N, f, h, w].

    smalls: portraits of half the side. who: the person's number, [N]. Portraits have no pose.
    inactive, small_inactive: the latent of an all-grey clip, or of a small picture, [1, C, f, h, w].
    """

    clips: Tensor
    clip_poses: Tensor
    clip_masks: Tensor
    clip_who: Tensor
    pictures: Tensor
    picture_poses: Tensor
    picture_masks: Tensor
    picture_who: Tensor
    portraits: Tensor
    portrait_masks: Tensor
    portrait_who: Tensor
    smalls: Tensor
    small_masks: Tensor
    small_who: Tensor
    inactive: Tensor
    small_inactive: Tensor


# What is the same in every part.
CONSTANTS = ("inactive", "small_inactive")


def draw_base_data(base: Path, work: Path, world: BaseWorld) -> None:
    """Draw and encode a world with the VAE of `base`. Parts go into `work`, and are not made twice."""
    work.mkdir(parents=True, exist_ok=True)
    starts = range(0, world.num_people, PEOPLE_A_JOB)
    jobs = [(base, work / f"part_{first:05d}.safetensors", world, first) for first in starts]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in progress(pool.map(_draw_part, jobs), "base data", total=len(jobs), unit=f"{PEOPLE_A_JOB} people"):
            pass


def read_base_data(work: Path) -> BaseData:
    """All parts of `draw_base_data`."""
    parts = [load_file(file) for file in sorted(work.glob("part_*.safetensors"))]
    names = [field.name for field in fields(BaseData) if field.name not in CONSTANTS]
    constants = {name: parts[0][name] for name in CONSTANTS}
    return BaseData(**{name: torch.cat([part[name] for part in parts]) for name in names}, **constants)


def _draw_part(job: tuple[Path, Path, BaseWorld, int]) -> None:
    base, file, world, first = job
    if file.is_file():
        return
    torch.set_num_threads(1)
    wan = load_wan(base, ("vae",))
    set_layout(wan.vae, is_last=True)
    part = _Part(wan)
    for number in range(first, min(first + PEOPLE_A_JOB, world.num_people)):
        part.add_person(draw_person(person_seed(world.seed, f"d{number:04d}")), number, world)
    temporary = file.with_suffix(".tmp")
    save_file(part.tensors(), temporary)
    os.replace(temporary, file)


class _Part:
    """What is drawn of some people, by the names of `BaseData`."""

    def __init__(self, wan: WanModel) -> None:
        self._wan = wan
        self._rows: dict[str, list[Any]] = {field.name: [] for field in fields(BaseData) if field.name not in CONSTANTS}

    def add_person(self, person: Person, number: int, world: BaseWorld) -> None:
        """Add one person's clips, pictures and portraits."""
        rng = generator(world.seed, f"base data {number}")
        for _ in range(int(world.clips_per_person + rng.random())):
            self._add_dance("clip", person, number, rng, CLIP_FRAMES)
        for _ in range(world.pictures_per_person):
            self._add_dance("picture", person, number, rng, 1)
        for kind, count, side in (
            ("portrait", world.portraits_per_person, FRAME_PX),
            ("small", world.small_portraits_per_person, FRAME_PX // 2),
        ):
            for _ in range(count):
                photo, box = draw_portrait(person, rng, side)
                self._add(kind, photo[None], [box], number)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, and the constant half of a clip's control."""
        found = {
            name: torch.tensor(rows) if name.endswith("who") else torch.stack(rows) for name, rows in self._rows.items()
        }
        for name, frames, side in (("inactive", CLIP_FRAMES, FRAME_PX), ("small_inactive", 1, FRAME_PX // 2)):
            raw = encode_grey(self._wan.vae, frames, side, side)
            found[name] = self._wan.statistics.normalise(raw.unsqueeze(0)).half()
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def _add_dance(self, kind: str, person: Person, number: int, rng: np.random.Generator, num_frames: int) -> None:
        size_hw = (FRAME_PX, FRAME_PX)
        framing = draw_framing(rng)
        genre = list(GENRES)[rng.integers(len(GENRES))]
        joints = dance_joints(genre, int(rng.integers(1 << 31)), num_frames, size_hw, framing)
        frames = render_clip(person, joints, draw_nuisance(int(rng.integers(1 << 31))), size_hw)
        self._add(kind, frames, drawn_head_boxes(joints, size_hw), number)
        self._rows[f"{kind}_poses"].append(self._encode(render_pose(joints, size_hw)))

    def _add(self, kind: str, frames: np.ndarray, boxes: Sequence[Sequence[float] | None], number: int) -> None:
        mask = head_mask(boxes, len(boxes), frames.shape[1], frames.shape[2], self._wan.geometry).bool()
        for name, row in ((f"{kind}s", self._encode(frames)), (f"{kind}_masks", mask), (f"{kind}_who", number)):
            self._rows[name].append(row)

    def _encode(self, frames: np.ndarray) -> Tensor:
        return self._wan.statistics.normalise(encode_pixels(self._wan.vae, to_pixels(frames)))[0].half()


def draw_portrait(person: Person, rng: np.random.Generator, side: int = FRAME_PX) -> tuple[np.ndarray, list[float]]:
    """A photo of a face, uint8 [S, S, 3], and about where the head is in it."""
    # The head's place varies by a few pixels (render_photo). The box holds it wherever it is.
    box = [0.12 * side, 0.05 * side, 0.88 * side, 0.82 * side]
    return render_photo(person, int(rng.integers(1 << 31)), side), box
