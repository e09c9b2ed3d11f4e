"""Likeness and pose of the toy's renders against steps, scheduler, cfg_scale and face_scale: where the toy's come from.

Each cell changes one setting of those that the demo renders with; the last is what sample.py does when nothing is said,
which is Wan's own: the toy, whose prompts say nothing, cannot choose for it. Videos of one person in one dance with one
noise are compared between cells, so that a difference has its own spread: within three standard errors is within noise.
Two processes share the cells, longest first.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sampling_renders import Rendered, Scene, make_scene, render_scene

from faceid.models.rendering.denoise import Sampling

# As launch/demo.sh.
TOY = Sampling(num_inference_steps=4, cfg_scale=1.5, cfg_start=0.55)
SHIPPED = Sampling()
NUM_PROCESSES = 2
# Of the paired differences; three, not two, since a dozen differences are looked at.
NOISE_STANDARD_ERRORS = 3.0
# Less is not worth another default: people differ by far more, and 64 pixels are a picture's height.
WORTH_SIMILARITY, WORTH_PX = 0.1, 0.1
_scene: Scene | None = None


@dataclass(frozen=True)
class Compared:
    """A cell beside TOY. likeness, pose_px: differences to TOY's, and their standard errors."""

    sampling: Sampling
    rank1: float
    similarity: float
    pose_px: float
    likeness_gain: float
    likeness_error: float
    pose_gain_px: float
    pose_error_px: float

    @property
    def name(self) -> str:
        """What differs from TOY."""
        changed = [
            f"{field.name} {getattr(self.sampling, field.name)}"
            for field in fields(Sampling)
            if getattr(self.sampling, field.name) != getattr(TOY, field.name)
        ]
        return ", ".join(changed) or "the toy's own"

    @property
    def is_more_alike(self) -> bool:
        """Beyond noise."""
        return self.likeness_gain > NOISE_STANDARD_ERRORS * self.likeness_error

    @property
    def is_nearer_in_pose(self) -> bool:
        """Beyond noise."""
        return self.pose_gain_px > NOISE_STANDARD_ERRORS * self.pose_error_px

    @property
    def is_better(self) -> bool:
        """In likeness or in pose by enough to matter, and no worse in the other: beyond noise, both."""
        is_less_alike = -self.likeness_gain > NOISE_STANDARD_ERRORS * self.likeness_error
        is_farther = -self.pose_gain_px > NOISE_STANDARD_ERRORS * self.pose_error_px
        gains_likeness = self.is_more_alike and self.likeness_gain >= WORTH_SIMILARITY
        gains_pose = self.is_nearer_in_pose and self.pose_gain_px >= WORTH_PX
        return (gains_likeness and not is_farther) or (gains_pose and not is_less_alike)


def cells_of(changes: Mapping[str, Sequence[Any]]) -> list[Sampling]:
    """TOY, that with one setting changed, and SHIPPED as the last."""
    return [TOY, *(replace(TOY, **{name: value}) for name, values in changes.items() for value in values), SHIPPED]


def render_cells(cells: Sequence[Sampling], num_people: int, num_poses: int) -> list[Rendered]:
    """Each cell's renders, in the order given."""
    longest_first = sorted(range(len(cells)), key=lambda number: -_cost(cells[number]))
    # Not forked: torch has threads here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_PROCESSES, context, _begin, (num_people, num_poses)) as pool:
        waiting = {number: pool.submit(_render, cells[number]) for number in longest_first}
        return [waiting[number].result() for number in range(len(cells))]


def compare(cells: Sequence[Sampling], found: Sequence[Rendered]) -> list[Compared]:
    """Every cell beside the first, TOY."""
    plain = found[0]
    return [
        Compared(
            sampling=cell,
            rank1=round(one.rank1, 4),
            similarity=round(one.similarity, 4),
            pose_px=round(one.pose_error, 3),
            likeness_gain=float((one.similarities - plain.similarities).mean()),
            likeness_error=_standard_error(one.similarities - plain.similarities),
            pose_gain_px=float((plain.pose_errors - one.pose_errors).mean()),
            pose_error_px=_standard_error(plain.pose_errors - one.pose_errors),
        )
        for cell, one in zip(cells, found, strict=True)
    ]


def say(sampling: Sampling) -> str:
    """A way of sampling in words."""
    late = f" from {sampling.cfg_start:.0%} of the steps on" if sampling.cfg_start else ""
    return (
        f"{sampling.num_inference_steps} steps, {sampling.scheduler}, cfg_scale {sampling.cfg_scale:g}{late}, "
        f"face_scale {sampling.face_scale:g}"
    )


def write_table(path: Path, compared: Sequence[Compared], said: str) -> None:
    """As Markdown, to be read. said: of whom and how many."""
    lines = [
        "# Likeness and pose against ways of sampling, on the toy",
        "",
        f"{said} The toy's own: {say(TOY)}. In bold what is better than that by more than three standard errors.",
        f"The last row is what sample.py does when nothing is said ({say(SHIPPED)}), which is Wan's own.",
        "Written by `make prove-sampling`; the toy says nothing by its prompts, so cfg_scale guides by the face alone.",
        "",
        "| changed | rank-1 | similarity | difference | pose error, px of 64 | difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in compared:
        alike = f"{row.likeness_gain:+.3f} ± {row.likeness_error:.3f}"
        pose = f"{-row.pose_gain_px:+.3f} ± {row.pose_error_px:.3f}"
        marked = (f"**{alike}**" if row.is_more_alike else alike, f"**{pose}**" if row.is_nearer_in_pose else pose)
        lines.append(
            f"| {row.name} | {row.rank1:.3f} | {row.similarity:.3f} | {marked[0]} | {row.pose_px:.2f} | {marked[1]} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _begin(num_people: int, num_poses: int) -> None:
    global _scene
    torch.set_num_threads(1)
    _scene = make_scene(num_people, num_poses)


def _render(sampling: Sampling) -> Rendered:
    assert _scene is not None
    return render_scene(_scene, sampling)


def _cost(sampling: Sampling) -> float:
    return sampling.num_inference_steps * (2 if sampling.cfg_scale > 1 else 1)


def _standard_error(differences: np.ndarray) -> float:
    return float(differences.std(ddof=1) / math.sqrt(len(differences)))
