"""Small clips with their poses, drawn here."""

import json
import math
from pathlib import Path

import numpy as np

from faceid.data.clip_settings import ClipSettings
from faceid.media.video import write_video

SETTINGS = ClipSettings(num_frames=5, height=32, width=48, fps=8, clips_per_shard=2)


def draw_pair(seed: int, frames: int = 24, height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A bright blob on a coloured floor, and the stick that is its pose; how it swings depends on the seed."""
    video, pose = (np.zeros((frames, height, width, 3), np.uint8) for _ in range(2))
    video[:] = np.random.default_rng(seed).integers(20, 120, 3)
    for k in range(frames):
        x = int((0.5 + 0.35 * math.sin((0.4 + 0.13 * seed) * k + 0.03 * k * k)) * width)
        video[k, 16:48, max(x - 8, 0) : x + 8] = 230
        pose[k, 12:52, max(x - 2, 0) : x + 3] = 255
    return video, pose


def add_clip(videos: Path, poses: Path, name: str, seed: int, video_fps: float = 8, pose_fps: float = 8) -> None:
    video, pose = draw_pair(seed)
    write_video(videos / f"{name}.mp4", video, video_fps)
    write_video(poses / f"{name}_pose.mp4", pose, pose_fps)


def add_heads(videos: Path, name: str, boxes: list) -> None:
    (videos / f"{name}.heads.json").write_text(json.dumps({"boxes": boxes}))


def add_clips(root: Path, count: int) -> tuple[Path, Path]:
    """Two folders with `count` pairs, dance_000 and so on."""
    videos, poses = root / "videos", root / "poses"
    videos.mkdir()
    poses.mkdir()
    for number in range(count):
        add_clip(videos, poses, f"dance_{number:03d}", seed=number)
    return videos, poses
