"""Pose videos to the frames that are rendered: at the pose's own tempo, as training samples clips, or one by one.

A render has frames at one rate, the one that its adapter was trained at. A pose video of another rate is sampled to it,
by the rule of `clip_shards`: frame k of the render follows frame round(k * pose_fps / fps) of the pose. Which frames
those are goes wherever the render goes, so that whoever compares it with its pose or its clip compares the right ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.geometry import Geometry
from faceid.media.fit import Fit, How, fit_sizes
from faceid.media.video import frame_indices, measure_video, read_video, stream_frames
from faceid.sampling.settings import PoseTiming, SampleSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoShape:
    """Size, length and rate of what is rendered. num_frames: 0 for as many as the pose video has at that rate."""

    num_frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True)
class Pose:
    """What is rendered of a pose video.

    frames: uint8 RGB [4n+1, H, W, 3], fitted; where the pose has not as many, its last frame is repeated. taken: the
    place in the file of each frame that is shown; the repeated ones are not. fps: of the file, or as it was given.
    """

    frames: np.ndarray
    taken: tuple[int, ...]
    fps: float


def read_pose(path: Path, shape: VideoShape, geometry: Geometry, settings: SampleSettings) -> Pose:
    """Read the frames that are rendered of a pose video, fitted to the size.

    Raises: DataError when there are too few, naming the longest length it has frames for.
    """
    rate = _rate(path, settings.pose_timing)
    taken = _places(path, rate, shape, settings.pose_timing)
    try:
        frames = _fitted(stream_frames(path, taken), shape, settings.fit)
    except DataError:
        # Too short, or damaged: the latter has its own words.
        found = measure_video(path).frames
        if found > taken[-1]:
            raise
        raise DataError(_too_short(path, found, rate, shape, geometry, settings.pose_timing)) from None
    lacking = -(len(frames) - 1) % geometry.temporal_factor
    return Pose(np.stack(frames + frames[-1:] * lacking), tuple(taken), rate)


def say_timing(path: Path, pose: Pose, shape: VideoShape) -> None:
    """Say in a line when a pose video was sampled to another rate."""
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


def _rate(path: Path, timing: PoseTiming) -> float:
    """Frames per second of a pose video: as given, else as its file says."""
    return timing if isinstance(timing, float) else read_video(path, max_frames=1).fps


def _places(path: Path, rate: float, shape: VideoShape, timing: PoseTiming) -> list[int]:
    """The place in the file of each frame of the render."""
    if shape.num_frames:
        return _at(rate, shape.fps, shape.num_frames, timing)
    found = measure_video(path).frames
    # As many as there are: of the pose's last moment none is made up.
    most = found if timing == "frames" else int(found * shape.fps / rate) + 2
    return [place for place in _at(rate, shape.fps, most, timing) if place < found]


def _at(rate: float, fps: float, count: int, timing: PoseTiming) -> list[int]:
    if timing == "frames":
        return list(range(count))
    # 1001 keeps 24000/1001 and its kin exact.
    return frame_indices(Fraction(rate).limit_denominator(1001), fps, count)


def _fitted(pictures: Iterable[np.ndarray], shape: VideoShape, how: How) -> list[np.ndarray]:
    """Each picture brought to the size as it comes, so that a large source is never held whole."""
    fit: Fit | None = None
    frames = []
    for picture in pictures:
        fit = fit or fit_sizes((picture.shape[0], picture.shape[1]), shape.height, shape.width, how)
        frames.append(fit.frame(picture))
    return frames


def _too_short(path: Path, found: int, rate: float, shape: VideoShape, geometry: Geometry, timing: PoseTiming) -> str:
    count = sum(place < found for place in _at(rate, shape.fps, shape.num_frames, timing))
    longest = (count - 1) // geometry.temporal_factor * geometry.temporal_factor + 1
    said = f"{found} frames"
    if count != found:
        said += f" at {round(rate, 3):g} fps, which are {count} at {shape.fps:g}"
    # Its frames would do, were they taken one by one.
    frames = ", or --pose_timing frames" if found >= shape.num_frames else ""
    return f"{path}: {said}, {shape.num_frames} wanted; use --num_frames {longest}, or all{frames}"
