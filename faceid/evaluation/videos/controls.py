"""Find the joints that each render was asked to follow.

They come from a file, or are read from the clip behind the pose. Joints of a clip are brought to the renders' size as
sample.py brings pose videos: cropped to its aspect, unless they have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceid.data.video_files import VIDEO_SUFFIXES
from faceid.errors import DataError
from faceid.evaluation.figures.pose_error import LEAST_CONFIDENCE
from faceid.evaluation.videos.joint_reader import PoseReader
from faceid.files.documents import parse_json, read_bytes
from faceid.media.pixels.fit import fit_sizes, resize_frames
from faceid.media.video import read_frames

JOINTS_ENDING = ".joints.json"
NUM_JOINTS = 17


def read_control(
    clip: str,
    clip_frames: Sequence[int],
    size_hw: tuple[int, int],
    joints_dir: Path | None,
    driver_videos_dir: Path | None,
    reader: PoseReader,
) -> np.ndarray:
    """Control joints of a clip in pixels of a render of this size, [T, 17, 2]; nan where unknown.

    clip_frames: the clip's frame that each of the render's T frames follows.
    Raises: DataError when the file is missing, has another form, or is shorter than the render.
    """
    if joints_dir is not None:
        return joints_of_file(joints_dir / f"{clip}{JOINTS_ENDING}", clip_frames, size_hw)
    assert driver_videos_dir is not None, "settings want a control with every pose reader"
    path = driver_video(driver_videos_dir, clip)
    try:
        frames = read_frames(path, clip_frames)
    except DataError as error:
        raise DataError(
            f"{error}; the render has {len(clip_frames)} frames: give the clip of its pose video"
        ) from error
    joints = reader.read(resize_frames(frames, *size_hw))
    return np.where(joints[:, :, 2:] >= LEAST_CONFIDENCE, joints[:, :, :2], np.nan)


def driver_video(folder: Path, clip: str) -> Path:
    """The video of a clip, whatever its suffix. Raises: DataError when there is none."""
    for suffix in sorted(VIDEO_SUFFIXES):
        if (path := folder / f"{clip}{suffix}").is_file():
            return path
    raise DataError(f"{folder / clip}.mp4: no such file; the clip behind a pose video is needed to score its pose")


def joints_of_file(path: Path, clip_frames: Sequence[int], size_hw: tuple[int, int]) -> np.ndarray:
    """Joints of a .joints.json for pictures of this size, [T, 17, 2] px. As `read_control`."""
    try:
        content = parse_json(read_bytes(path))
        joints = np.array([_frame(frame) for frame in content["joints"]], np.float64)
        source_hw = content["size_hw"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: cannot be read as {{"joints": [[[x, y] or null, ...17], ...], "size_hw": [h, w]}}: {error}'
        ) from error
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 2):
        raise DataError(f"{path}: joints of shape {list(joints.shape)}; needs 17 points (x, y) a frame")
    if len(joints) <= max(clip_frames):
        raise DataError(
            f"{path}: {len(joints)} frames, the render has {len(clip_frames)} and follows the clip to its frame "
            f"{max(clip_frames)}; write joints for every frame"
        )
    return points_in_render(joints[list(clip_frames)], read_size_hw(path, source_hw), size_hw)


def read_size_hw(path: Path, value: Any) -> tuple[int, int]:
    """The `size_hw` of a clip's file. Raises: DataError when it is not two numbers above 0."""
    match value:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise DataError(
        f'{path}: size_hw {value!r} is no size; write "size_hw": [h, w], the clip\'s height and width in px'
    )


def points_in_render(points: np.ndarray, source_hw: tuple[int, int], size_hw: tuple[int, int]) -> np.ndarray:
    """Points (x, y) of a clip, [..., 2] px, moved to a render of this size. They may lie outside."""
    if source_hw == size_hw:
        return points
    fit = fit_sizes(source_hw, *size_hw)
    scale = (fit.target[2] / fit.source[2], fit.target[3] / fit.source[3])
    return (points - fit.source[:2]) * scale + fit.target[:2]


def _frame(frame: Any) -> list[list[float]]:
    return [[np.nan, np.nan] if point is None else [float(value) for value in point] for point in frame]
