"""Likeness and pose of the toy's renders against steps, scheduler, cfg_scale and face_scale: where defaults come from.

Each cell changes one setting of the shipped defaults. Videos of one person in one dance with one noise are compared
between cells, so that a difference has its own spread: within three standard errors is within noise. Two processes
share the cells, longest first.
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

from faceid.models.denoise import Sampling

DEFAULT = Sampling()
NUM_PROCESSES = 2
# Of the paired differences; three, not two, since a dozen differences are looked at.
NOISE_STANDARD_ERRORS = 3.0
_scene: Scene | None = None


@dataclass(frozen=True)
class Compared:
    """A cell beside the default. likeness, pose_px: differences to the default's, and their standard errors."""

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
        """What differs from the default."""
        changed = [
            f"{field.name} {getattr(self.sampling, field.name)}"
            for field in fields(Sampling)
            if getattr(self.sampling, field.name) != getattr(DEFAULT, field.name)
        ]
        return ", ".join(changed) or "the defaults"

    @property
    def is_more_alike(self) -> bool:
        """Beyond noise."""
        return self.likeness_gain > NOISE_STANDARD_ERRORS * self.likeness_error

    @property
    def is_nearer_in_pose(self) -> bool:
        """Beyond noise."""
        return self.pose_gain_px > NOISE_STANDARD_ERRORS * self.pose_error_px


def cells_of(changes: Mapping[str, Sequence[Any]]) -> list[Sampling]:
    """The defaults, and each of them with one setting changed."""
    return [DEFAULT, *(replace(DEFAULT, **{name: value}) for name, values in changes.items() for value in values)]


def render_cells(cells: Sequence[Sampling], num_people: int, num_poses: int) -> list[Rendered]:
    """Each cell's renders, in the order given."""
    longest_first = sorted(range(len(cells)), key=lambda number: -_cost(cells[number]))
    # Not forked: torch has threads here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_PROCESSES, context, _begin, (num_people, num_poses)) as pool:
        waiting = {number: pool.submit(_render, cells[number]) for number in longest_first}
        return [waiting[number].result() for number in range(len(cells))]


def compare(cells: Sequence[Sampling], found: Sequence[Rendered]) -> list[Compared]:
    """Every cell beside the first, the defaults."""
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


def write_table(path: Path, compared: Sequence[Compared], said: str) -> None:
    """As Markdown, to be read. said: of whom and how many."""
    lines = [
        "# Likeness and pose against ways of sampling, on the toy",
        "",
        f"{said} Defaults: {DEFAULT.num_inference_steps} steps, {DEFAULT.scheduler}, cfg_scale {DEFAULT.cfg_scale:g}, "
        f"face_scale {DEFAULT.face_scale:g}. In bold what is better than they are by more than three standard errors.",
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
