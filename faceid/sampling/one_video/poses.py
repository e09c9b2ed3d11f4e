"""Read pose videos as the frames to render.

They are taken at the pose's own tempo, as training samples clips, or one by one. A render has frames at one rate, the
rate at which its adapter was trained. A pose video of another rate is sampled to it by the rule of `clip_shards`. Frame
k of the render follows the pose frame nearest to k * pose_fps / fps. The numbers of those frames are recorded with the
render. So a comparison with its pose or its clip uses the right frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.geometry import Geometry
from faceid.media.pixels.fit import Fit, How, fit_sizes
from faceid.media.timeline import Timeline, exact_rate
from faceid.media.video import measure_video, read_timeline, stream_frames
from faceid.sampling.one_video.video_settings import PoseSettings, PoseTiming

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoShape:
    """Size, length and rate of a render. num_frames: 0 for as many as the pose video has at that rate."""

    num_frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True)
class Pose:
    """The part of a pose video that is rendered.

    frames: uint8 RGB [4n+1, H, W, 3], fitted; where the pose has fewer, its last frame is repeated. taken: the place in
    the file of each frame that is shown, without the repeated ones. fps: the file's rate, or the given one.
    """

    frames: np.ndarray
    taken: tuple[int, ...]
    fps: float


def read_pose(path: Path, shape: VideoShape, geometry: Geometry, how: PoseSettings) -> Pose:
    """Read the frames of a pose video that are rendered, fitted to the size.

    Raises: DataError when there are too few, naming the longest length it has frames for.
    """
    timeline = _timeline(path, how.pose_timing)
    taken = _places(path, timeline, shape)
    try:
        frames = _fitted(stream_frames(path, taken), shape, how.fit)
    except DataError:
        # The file is too short, or damaged. A damaged file raises its own error.
        found = measure_video(path).frames
        if found > taken[-1]:
            raise
        taken = _whole(timeline, shape, found)[: shape.num_frames]
        if len(taken) < shape.num_frames:
            raise DataError(_too_short(path, found, timeline, shape, geometry)) from None
        # Only the last frame's own last half may be missing.
        frames = _fitted(stream_frames(path, taken), shape, how.fit)
    lacking = -(len(frames) - 1) % geometry.temporal_factor
    return Pose(np.stack(frames + frames[-1:] * lacking), tuple(taken), float(timeline.fps) if timeline else shape.fps)


def say_timing(path: Path, pose: Pose, shape: VideoShape) -> None:
    """Report in a line when a pose video was sampled to another rate."""
    if not is_one_by_one(pose.taken):
        more = ", some of them twice" if len(set(pose.taken)) < len(pose.taken) else ""
        log.info(
            "%s: %g fps, rendered at %g: %d of its frames are taken%s, which keeps its tempo; --pose_timing frames "
            "takes them one by one",
            path,
            round(pose.fps, 3),
            shape.fps,
            len(set(pose.taken)),
            more,
        )


def is_one_by_one(taken: Sequence[int]) -> bool:
    """Whether these places in a file are its first frames, each once."""
    return list(taken) == list(range(len(taken)))


def _timeline(path: Path, timing: PoseTiming) -> Timeline | None:
    """Which frame of a pose video is shown when, by its file or by a given rate; None for one by one."""
    if isinstance(timing, float):
        return Timeline(exact_rate(timing))
    return read_timeline(path) if timing == "tempo" else None


def _places(path: Path, timeline: Timeline | None, shape: VideoShape) -> list[int]:
    """The place in the file of each frame of the render."""
    if not shape.num_frames:
        return _whole(timeline, shape, measure_video(path).frames)
    return list(range(shape.num_frames)) if timeline is None else timeline.indices(shape.fps, shape.num_frames)


def _whole(timeline: Timeline | None, shape: VideoShape, found: int) -> list[int]:
    """The places of as many frames as the pose lasts."""
    return list(range(found)) if timeline is None else timeline.whole(shape.fps, found)


def _fitted(pictures: Iterable[np.ndarray], shape: VideoShape, how: How) -> list[np.ndarray]:
    """Fit each picture to the size as it comes, so that a large source is never held whole."""
    fit: Fit | None = None
    frames = []
    for picture in pictures:
        fit = fit or fit_sizes((picture.shape[0], picture.shape[1]), shape.height, shape.width, how)
        frames.append(fit.frame(picture))
    return frames


def _too_short(path: Path, found: int, timeline: Timeline | None, shape: VideoShape, geometry: Geometry) -> str:
    count = len(_whole(timeline, shape, found))
    longest = (count - 1) // geometry.temporal_factor * geometry.temporal_factor + 1
    said = f"{found} frames"
    if timeline is not None and count != found:
        said += f" at {float(timeline.fps):.5g} fps, which are {count} at {shape.fps:g}"
    # Taken one by one, its frames would suffice.
    frames = ", or --pose_timing frames" if found >= shape.num_frames else ""
    return f"{path}: {said}, {shape.num_frames} wanted; use --num_frames {longest}, or all{frames}"
