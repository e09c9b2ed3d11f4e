"""Small films with keypoints, drawn here: 60 frames a second, someone who dances, and a number in every frame."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

from faceid.data.body.keypoints import Keypoints
from faceid.data.body.sidecars import joints_content
from faceid.media.video import write_video
from faceid.toy.dance import dance_joints
from faceid.toy.people import draw_nuisance, draw_person
from faceid.toy.render import render_clip

FILM_FPS, FILM_HW = 60, (90, 160)
# Squares of 8 pixels along the top: the frame's number in binary.
NUM_BITS, SQUARE = 10, 8


def film_joints(seed: int, num_frames: int) -> np.ndarray:
    """Joints of someone in the middle of the film, [T, 17, 2]; slower than a clip's by the rates' ratio."""
    slow = dance_joints("HO", seed, num_frames // 3 + 2, FILM_HW)
    at = np.arange(num_frames) / 4
    low = at.astype(int)
    part = (at - low)[:, None, None]
    return ((1 - part) * slow[low] + part * slow[low + 1]).astype(np.float32)


def draw_film(seed: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] with their numbers, and joints."""
    joints = film_joints(seed, num_frames)
    frames = render_clip(draw_person(seed), joints, draw_nuisance(seed), FILM_HW)
    for number, frame in enumerate(frames):
        for bit in range(NUM_BITS):
            frame[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 if number >> bit & 1 else 0
    return frames, joints


def frame_numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames of a film's size carry."""
    middles = [slice(bit * SQUARE + 2, (bit + 1) * SQUARE - 2) for bit in range(NUM_BITS)]
    return [sum(int(frame[2:6, place].mean() > 127) << bit for bit, place in enumerate(middles)) for frame in frames]


def add_film(folder: Path, name: str, seed: int = 1, num_frames: int = 400) -> np.ndarray:
    """Write a film; returns its joints."""
    folder.mkdir(exist_ok=True)
    frames, joints = draw_film(seed, num_frames)
    write_video(folder / f"{name}.mp4", frames, FILM_FPS)
    return joints


def add_aist_keypoints(folder: Path, sequence: str, joints: np.ndarray, camera: int = 0) -> None:
    """As AIST++ writes them: nine cameras, x, y and confidence, in pixels of a film of 1080p."""
    folder.mkdir(exist_ok=True)
    points = np.full((9, len(joints), 17, 3), np.nan)
    points[camera, :, :, :2] = joints * (1920 / FILM_HW[1], 1080 / FILM_HW[0])
    points[camera, :, :, 2] = np.where(np.isfinite(joints).all(-1), 0.9, np.nan)
    (folder / f"{sequence}.pkl").write_bytes(
        pickle.dumps({"keypoints2d": points, "det_scores": np.ones((9, len(joints)))})
    )


def add_keypoints(folder: Path, name: str, joints: np.ndarray) -> None:
    """As JSON of ours."""
    folder.mkdir(exist_ok=True)
    keypoints = Keypoints(joints, None, np.ones(len(joints), int), None, FILM_HW)
    (folder / f"{name}.json").write_text(json.dumps(joints_content(keypoints)))
