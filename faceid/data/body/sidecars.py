"""Read and write the files beside a clip that locate its dancer.

They are `NAME.joints.json` and `NAME.heads.json`, in the clip's pixels. Files that we write name their clip by its
sha256. Beside another clip of the same name they are not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceid.data.body.keypoints import Keypoints
from faceid.errors import DataError
from faceid.files.documents import find_json, parse_json, read_bytes
from faceid.files.outputs import write_output
from faceid.files.records import sha256_file

Boxes = Sequence[Sequence[float] | None]


def joints_path(clip: Path) -> Path:
    """Where a clip's joints are stored."""
    return clip.with_name(f"{clip.stem}.joints.json")


def heads_path(clip: Path) -> Path:
    """Where a clip's head boxes are stored."""
    return clip.with_name(f"{clip.stem}.heads.json")


def sidecars_of(clip: Path) -> tuple[Path, Path]:
    """The paths of all files that may lie beside a clip."""
    return joints_path(clip), heads_path(clip)


def write_joints(clip: Path, keypoints: Keypoints) -> None:
    """Write joints beside a clip. `read_keypoints` reads them back. keypoints: in pixels of the clip, size known."""
    _write(joints_path(clip), joints_content(keypoints), clip)


def write_heads(clip: Path, boxes: Boxes, size_hw: tuple[int, int]) -> None:
    """Write head boxes beside a clip, (x0, y0, x1, y1) or None per frame, in pixels of a picture of size_hw."""
    _write(heads_path(clip), {"boxes": rounded_boxes(boxes), "size_hw": list(size_hw)}, clip)


def is_of_another_clip(sidecar: Path, clip: Path) -> bool:
    """Whether a file beside a clip states that it was made from another clip. A user's file may state nothing."""
    if not sidecar.name.endswith((".joints.json", ".heads.json")):
        return False
    # Where a file is damaged, its reader says so.
    said = (find_json(sidecar) or {}).get("clip_sha256")
    return said is not None and clip.is_file() and said != sha256_file(clip)


def refuse_of_another_clip(sidecar: Path, clip: Path) -> None:
    """Raises: DataError when a file beside a clip was made from another one."""
    if is_of_another_clip(sidecar, clip):
        raise DataError(
            f"{sidecar.name}: clip_sha256 is not that of {clip.name}: it was made from another clip of this name; make "
            "it again, or remove clip_sha256 from it if it is true of this one too"
        )


def rounded_boxes(boxes: Boxes) -> list[list[float] | None]:
    """Boxes in the rounded form in which they are written."""
    return [[round(edge, 2) for edge in box] if box else None for box in boxes]


def read_heads(path: Path, size_hw: tuple[int, int]) -> list[tuple[float, float, float, float] | None]:
    """Head boxes beside a clip of size_hw, one or None per frame.

    A file without its picture's size is taken to use the clip's size.
    Raises: DataError when the file has another form, or its boxes are in pixels of another picture.
    """
    try:
        content = parse_json(read_bytes(path))
        said = content.get("size_hw")
        boxes = [_four(box) if box else None for box in content["boxes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path.name}: not {{"boxes": [[x0, y0, x1, y1] or null per frame], "size_hw": [h, w]}}: {error}'
        ) from error
    if said is not None and said != list(size_hw):
        raise DataError(
            f"{path.name}: size_hw {said}, its clip is {list(size_hw)}; boxes are in pixels of the clip: make them "
            "from it"
        )
    return boxes


def joints_content(keypoints: Keypoints) -> dict[str, Any]:
    """The content of the file of joints."""
    assert keypoints.size_hw is not None
    hands = {"hands": _plain(keypoints.hands)} if keypoints.hands is not None else {}
    return {"joints": _plain(keypoints.body), **hands, "size_hw": list(keypoints.size_hw)}


def _four(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if not all(math.isfinite(edge) for edge in (x0, y0, x1, y1)):
        raise ValueError(f"a box at {box}")
    return x0, y0, x1, y1


def _plain(points: np.ndarray) -> list[list[list[float] | None]]:
    known = np.isfinite(points).all(-1)
    rounded = points.astype(float).round(2).tolist()
    return [
        [xy if is_known else None for xy, is_known in zip(row, known_row, strict=True)]
        for row, known_row in zip(rounded, known.tolist(), strict=True)
    ]


def _write(path: Path, value: dict[str, Any], clip: Path) -> None:
    of_clip = {"clip_sha256": sha256_file(clip)} if clip.is_file() else {}
    # Without indentation, because a clip's joints are thousands of numbers.
    write_output(path, json.dumps({**value, **of_clip}) + "\n")
