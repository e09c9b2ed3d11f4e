"""How much prove_sampling.py runs: small by default, or the stated sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    lease_s: of claims, None for the shipped one. jobs, mean_s: of the batches whose makespan is measured; slow_jobs,
    slow_mean_s: of the one with a slow worker. people, poses, changes: of the table. thresholds: of the step cache.
    """

    workers: int
    kill_jobs: int
    kills: int
    kill_steps: int
    lease_s: float | None
    jobs: int
    mean_s: float
    slow_jobs: int
    slow_mean_s: float
    loop_steps: int
    people: int
    poses: int
    changes: Mapping[str, Sequence[Any]]
    thresholds: tuple[float, ...]


SMALL = Sizes(
    workers=3,
    kill_jobs=60,
    kills=8,
    kill_steps=4,
    lease_s=6.0,
    jobs=32,
    mean_s=3.0,
    slow_jobs=100,
    slow_mean_s=1.8,
    loop_steps=4,
    people=8,
    poses=1,
    changes={
        "num_inference_steps": (8, 25),
        "scheduler": ("euler",),
        "cfg_scale": (1.0, 3.0),
        "face_scale": (0.8, 1.3),
    },
    thresholds=(0.05, 0.1),
)
FULL = Sizes(
    workers=8,
    kill_jobs=500,
    kills=100,
    kill_steps=6,
    lease_s=None,
    jobs=120,
    mean_s=4.0,
    slow_jobs=200,
    slow_mean_s=4.0,
    loop_steps=12,
    people=16,
    poses=3,
    changes={
        "num_inference_steps": (2, 3, 6, 8, 12, 25, 50),
        "scheduler": ("euler",),
        "cfg_scale": (1.0, 2.0, 3.5, 5.0, 7.5),
        "cfg_start": (0.0, 0.3),
        "face_scale": (0.0, 0.5, 0.8, 1.3, 2.0),
    },
    thresholds=(0.02, 0.05, 0.1, 0.2, 0.4),
)
