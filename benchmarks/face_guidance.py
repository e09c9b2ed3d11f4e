"""What guidance towards the face gains in likeness, and what it costs in pose: the shipped adapter.

    python benchmarks/face_guidance.py --output_dir O

Sixteen people of a world that nobody trained on, and the same sixteen without the adapter's face (face_scale 0), in the
same poses and noise. Pose error is the mean distance of the joints read from each frame to those asked for, pixels of a
64-pixel picture, as a ratio to the base's. Writes guidance.json.
"""

from __future__ import annotations

import sys
from dataclasses import field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from rendered_people import Gallery, make_gallery, rank1, render_people
from torch import Tensor

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.evaluation.videos.joint_reader import PoseReader
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.base.wan import load_wan
from faceid.toy.readers import load_toy_pose_reader
from faceid.toy.shipped import resolve_adapter_path, resolve_model_path


@dataclass(frozen=True)
class Settings:
    """How much to render, and where the figures go."""

    output_dir: Path
    """Folder for guidance.json."""
    guidance: list[tuple[float, float]] = field(
        default_factory=lambda: [(1.0, 0.0), (1.5, 0.0), (2.0, 0.0), (3.0, 0.0), (3.0, 0.4), (3.0, 0.55), (5.0, 0.55)]
    )
    """Pairs of --cfg_scale and --cfg_start; scale 1 is none."""
    num_poses: Annotated[int, Field(gt=0)] = 4
    """Poses each of the 16 people is rendered in."""


def main(argv: list[str] | None = None) -> int:
    """Render the base and every strength, record."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("face_guidance.py", __doc__ or "", [Settings], words)
    torch.set_num_threads(1)
    gallery = make_gallery(16, settings.num_poses)
    wan = load_wan(resolve_model_path("toy"))
    adapter, _ = load_adapter(Path(resolve_adapter_path("toy")), wan)
    reader = load_toy_pose_reader()

    def renders_of(faces: Tensor | None, scale: float, start: float) -> list[list[np.ndarray]]:
        return [render_people(wan, joints, faces, n, scale, start) for n, joints in enumerate(gallery.joints)]

    with adapter.off():
        base_px = _pose_px(renders_of(None, 1.0, 0.0), gallery, reader)
    rows = []
    for scale, start in progress(settings.guidance, "guidance", unit="setting"):
        renders = renders_of(gallery.faces, scale, start)
        share = np.mean([rank1(gallery, j, of_dance) for j, of_dance in zip(gallery.joints, renders, strict=True)])
        ratio = _pose_px(renders, gallery, reader) / base_px
        row = {"cfg_scale": scale, "cfg_start": start, "rank1": round(float(share), 4)}
        rows.append({**row, "pose_error_ratio": round(ratio, 4)})
        print(rows[-1], flush=True)
    record = {**describe_provenance(), "people": 16, "poses": settings.num_poses, "base_pose_px": round(base_px, 3)}
    write_json(settings.output_dir / "guidance.json", {**record, "rows": rows})
    return 0


def _pose_px(renders: list[list[np.ndarray]], gallery: Gallery, reader: PoseReader) -> float:
    """Mean distance of the joints read to those asked for, over everybody in every dance, pixels."""
    errors = [
        np.linalg.norm(reader.read(frames)[..., :2] - joints, axis=-1).mean()
        for joints, of_dance in zip(gallery.joints, renders, strict=True)
        for frames in of_dance
    ]
    return float(np.mean(errors))


if __name__ == "__main__":
    run_entry_point(main)
