"""Paste the target's head onto other dancers, frame by frame: the head in the right place of a dance.

An experiment of benchmarks.identity.arms (`with_pasted_heads`). A photo's head is turned and scaled as the dancer's is,
by the joints, and blended in over a soft oval. The clips are written as a dancer's of their own, so that training takes
the face of that dancer from them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from faceid.data.body.sidecars import heads_path, joints_path
from faceid.faces.photos.detect import load_detector
from faceid.logs import progress
from faceid.media.images import list_photos, read_photo
from faceid.media.video import read_video, write_video

# Where Haar's box lies on a drawn face, in halves of the face's height from its middle: measured over 58 portraits.
HAAR_BOX = (-1.02, -0.91, 1.05, 1.15)
# The oval that is pasted, in the same units: middle and radii, hair and hats within. Its edge is soft over this share.
OVAL_MIDDLE, OVAL_RADII, SOFT_SHARE = (0.0, -0.12), (1.15, 1.35), 0.18
# Ears are so far apart in those units (faceid/toy/dance.py).
BETWEEN_EARS = 1.76
LEFT_EAR, RIGHT_EAR = 3, 4
DANCER = "d98"


def paste_heads(world: Path, photos: Path, folder: Path, seed: int) -> None:
    """Write a copy of each clip of `world` (a toy data set) with the head of one of `photos`, and its pose video."""
    rng, detector = np.random.default_rng(seed), load_detector("haar")
    heads = []
    for file in list_photos(photos):
        picture = read_photo(file)
        if found := detector.detect(picture):
            heads.append((picture, *_place_of(found[0].box_xyxy)))
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "poses").mkdir(exist_ok=True)
    for clip in progress(sorted((world / "videos").glob("*.mp4")), "pasted heads", unit="clip"):
        # In AIST's names the dancer is the fourth part. The camera, before it, keeps the clips of several apart.
        genre, situation, _, dancer, *rest = clip.stem.split("_")
        stem = "_".join([genre, situation, f"c{dancer[1:]}", DANCER, *rest])
        video = read_video(clip)
        joints = np.array(json.loads(joints_path(world / "poses" / clip.name).read_text())["joints"])
        picture, middle, unit = heads[rng.integers(len(heads))]
        frames = [_paste(f, picture, (middle, unit), pose) for f, pose in zip(video.frames, joints, strict=True)]
        write_video(folder / "videos" / f"{stem}.mp4", np.stack(frames), video.fps)
        shutil.copyfile(heads_path(clip), heads_path(folder / "videos" / f"{stem}.mp4"))
        shutil.copyfile(world / "poses" / f"{clip.stem}_pose.mp4", folder / "poses" / f"{stem}_pose.mp4")


def _place_of(box: tuple[float, float, float, float]) -> tuple[np.ndarray, float]:
    """Middle of the face and half its height, px, of Haar's box."""
    unit = (box[2] - box[0] + box[3] - box[1]) / (HAAR_BOX[2] - HAAR_BOX[0] + HAAR_BOX[3] - HAAR_BOX[1])
    return np.array([box[0] - HAAR_BOX[0] * unit, box[1] - HAAR_BOX[1] * unit]), unit


def _paste(frame: np.ndarray, photo: np.ndarray, head: tuple[np.ndarray, float], pose: np.ndarray) -> np.ndarray:
    """One frame [H, W, 3] with the photo's head where the joints [17, 2] have theirs."""
    middle, unit = head
    across = pose[LEFT_EAR] - pose[RIGHT_EAR]
    place, angle = (pose[LEFT_EAR] + pose[RIGHT_EAR]) / 2, np.arctan2(across[1], across[0])
    scale = float(np.linalg.norm(across)) / BETWEEN_EARS / unit
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = place - turn @ middle
    height, width = photo.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    away = np.hypot(
        (x - middle[0] - OVAL_MIDDLE[0] * unit) / (OVAL_RADII[0] * unit),
        (y - middle[1] - OVAL_MIDDLE[1] * unit) / (OVAL_RADII[1] * unit),
    )
    oval = np.clip((1 - away) / SOFT_SHARE, 0, 1)
    size = (frame.shape[1], frame.shape[0])
    # Shrunk by areas first: a warp alone would take single pixels.
    small = min(1.0, 2 * scale)
    shrunk = (max(1, round(width * small)), max(1, round(height * small)))
    turn = turn * (width / shrunk[0])
    # Pillow asks where each pixel comes from.
    back = np.linalg.inv(np.vstack([np.concatenate([turn, shift[:, None]], axis=1), [0, 0, 1]]))[:2].ravel()
    size = (frame.shape[1], frame.shape[0])
    pasted, weight = (
        np.asarray(
            Image.fromarray(picture)
            .resize(shrunk, Image.Resampling.BOX)
            .transform(size, Image.Transform.AFFINE, tuple(back), Image.Resampling.BILINEAR)
        )
        for picture in (photo, np.round(255 * oval).astype(np.uint8))
    )
    mixed = frame + weight[..., None] / 255.0 * (pasted.astype(np.float32) - frame)
    return np.round(mixed).clip(0, 255).astype(np.uint8)
