"""Measure one rendered video: its heads, every recogniser's cosines to the gallery, steadiness and pose.

Figures that depend on whom the video should show come later (scoring.py), because a render without an identity is
scored as several people.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceid.errors import ConfigError, DataError
from faceid.evaluation.figures.pose_error import PoseScore, score_pose
from faceid.evaluation.figures.similarity import frame_cosines
from faceid.evaluation.figures.temporal import Box, consecutive_similarity
from faceid.evaluation.figures.video_metrics import measure_pictures
from faceid.evaluation.videos.controls import read_control
from faceid.evaluation.videos.heads import cut_head, found_heads, known_heads, shows_face
from faceid.evaluation.videos.joint_reader import PoseReader
from faceid.evaluation.videos.recognisers import Recogniser
from faceid.evaluation.videos.reference_people import Reference
from faceid.evaluation.videos.renders import Arm, Render
from faceid.faces.photos.detect import FaceDetector
from faceid.logs import progress
from faceid.media.video import read_video

# Frames to what a VAE leaves of them, uint8 [T, H, W, 3] to the same.
Reconstruct = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Instruments:
    """Everything that measures a video."""

    gallery: list[Reference]
    recognisers: list[Recogniser]
    detector: FaceDetector
    face_margin: float
    heads_dir: Path | None = None
    second_opinion: FaceDetector | None = None
    """Looks for a face at known heads. None where heads are not known, or where it would take anything for a face."""
    pose_reader: PoseReader | None = None
    joints_dir: Path | None = None
    driver_videos_dir: Path | None = None
    real_vae: Reconstruct | None = None
    """What real clips go through first. None: nothing."""


@dataclass(frozen=True)
class Measurement:
    """The measured values of one video. T frames, P people."""

    is_found: np.ndarray
    """Whether each frame has a face, bool [T]."""
    cosines: dict[str, np.ndarray]
    """By recogniser: cosine of every frame to every person, [T, P]; 0 without a face."""
    consecutive: dict[str, float]
    """By recogniser: mean cosine between neighbouring frames."""
    pictures: dict[str, float]
    """The numbers of the pictures alone, by name."""
    pose: PoseScore | None = None
    """None when pose is not scored."""
    detector_rate: float = math.nan
    """Share of frames in which the second opinion finds a face at the known head; nan without one."""


@dataclass
class Measurer:
    """Measures videos. Each distinct video is measured once."""

    instruments: Instruments
    known: dict[tuple[str, str, bool], Measurement] = field(default_factory=dict)
    controls: dict[tuple[str, tuple[int, ...], tuple[int, int]], np.ndarray] = field(default_factory=dict)

    def measure_all(self, arms: list[Arm], real: str | None = None) -> dict[Path, Measurement]:
        """Measure every render of every arm, by its path. real: the arm of real clips."""
        renders = [(render, arm.name == real) for arm in arms for render in arm.renders]
        return {
            render.path: self.measure(render, is_real) for render, is_real in progress(renders, "scoring", unit="video")
        }

    def measure(self, render: Render, is_real: bool = False) -> Measurement:
        """Measure one render. Raises: DataError when the video, its head boxes or its control cannot be read."""
        # Equal bytes for equal clips are the same video, such as the base's in two arms.
        key = (render.sha256, render.clip, is_real)
        if key not in self.known:
            frames = read_video(render.path).frames
            if is_real and self.instruments.real_vae is not None:
                try:
                    frames = self.instruments.real_vae(frames)
                except ConfigError as error:
                    raise DataError(f"real_vae: {render.path}: {error}") from error
            self.known[key] = _measure(frames, render, self.instruments, self._pose(frames, render))
        return self.known[key]

    def _pose(self, frames: np.ndarray, render: Render) -> PoseScore | None:
        tools = self.instruments
        if tools.pose_reader is None:
            return None
        size_hw = (frames.shape[1], frames.shape[2])
        # Reading the driver costs as much as reading a render, and many renders share one driver.
        key = (render.clip, tuple(render.clip_frames(len(frames))), size_hw)
        if key not in self.controls:
            self.controls[key] = read_control(*key, tools.joints_dir, tools.driver_videos_dir, tools.pose_reader)
        return score_pose(tools.pose_reader.read(frames), self.controls[key], size_hw)


def find_heads(frames: np.ndarray, render: Render, instruments: Instruments) -> list[Box | None]:
    """The head in every frame, known or found. frames: uint8 [T, H, W, 3]."""
    if instruments.heads_dir is None:
        return found_heads(frames, instruments.detector)
    size_hw = (frames.shape[1], frames.shape[2])
    return known_heads(instruments.heads_dir, render.clip, render.clip_frames(len(frames)), size_hw)


def _measure(frames: np.ndarray, render: Render, instruments: Instruments, pose: PoseScore | None) -> Measurement:
    boxes = find_heads(frames, render, instruments)
    is_found = np.array([box is not None for box in boxes])
    crops = [
        cut_head(frame, box, instruments.face_margin)
        for frame, box in zip(frames, boxes, strict=True)
        if box is not None
    ]
    cosines, consecutive = {}, {}
    for recogniser in instruments.recognisers:
        embeddings = recogniser.encoder.embed(crops).numpy()
        cosines[recogniser.name] = frame_cosines(embeddings, is_found, recogniser.references)
        consecutive[recogniser.name] = consecutive_similarity(embeddings, is_found)
    return Measurement(
        is_found=is_found,
        cosines=cosines,
        consecutive=consecutive,
        pictures=measure_pictures(frames, boxes),
        pose=pose,
        detector_rate=_detector_rate(frames, boxes, instruments.second_opinion),
    )


def _detector_rate(frames: np.ndarray, boxes: list[Box | None], detector: FaceDetector | None) -> float:
    if detector is None:
        return math.nan
    looked = [box is not None and shows_face(frame, box, detector) for frame, box in zip(frames, boxes, strict=True)]
    return float(np.mean(looked))
