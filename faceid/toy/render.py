"""Draw pictures of toy people.

They are dance clips from joints, close-up portraits, and portraits that must be rejected. A clip and its pose video are
drawn from the same joints, so they agree frame by frame. All functions are pure: the same arguments give the same
bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from faceid.media.pixels.draw import Canvas, Colour, blur
from faceid.media.pixels.skeleton import draw_skeletons
from faceid.toy.dance import HALF_SHOULDER, HEAD_UNIT
from faceid.toy.head import HEAD_BOX, HeadPose, draw_head
from faceid.toy.people import SKIN, Nuisance, Person, draw_nuisance, draw_person, generator, palette, shaded

BadPhoto = Literal["blurred", "second_person", "no_face", "wrong_person"]

# Thickness of limbs in head units, and of the head unit in shoulder widths (the figure's proportions in dance.py).
ARM_RADIUS, LEG_RADIUS, TORSO_RADIUS, HAND_RADIUS = 0.24, 0.29, 0.3, 0.27


def render_clip(person: Person, joints: np.ndarray, nuisance: Nuisance, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw one dancer frame by frame, uint8 [T, H, W, 3]. joints: COCO-17 in pixels, [T, 17, 2], all known."""
    backdrop = _draw_backdrop(nuisance, size_hw)
    frames = []
    for pose in joints.astype(np.float64):
        canvas = Canvas(backdrop)
        head = _head_pose(pose)
        _draw_body(canvas, person, pose, head.unit_px, nuisance)
        draw_head(canvas, person, head, nuisance)
        frames.append(_light(canvas.picture(), nuisance))
    return np.stack(frames)


def render_pose(joints: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The skeleton video of the same joints, uint8 [T, H, W, 3]."""
    return np.stack(list(draw_skeletons(joints, size_hw, "toy")))


def drawn_head_boxes(joints: np.ndarray, size_hw: tuple[int, int]) -> list[list[float] | None]:
    """The head with hair per frame, [x0, y0, x1, y1] in pixels inside the picture; None when it is outside."""
    height, width = size_hw
    left, top, right, bottom = HEAD_BOX
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    boxes: list[list[float] | None] = []
    for pose in joints.astype(np.float64):
        placed = _head_pose(pose).place(corners)
        x0, y0 = np.maximum(placed.min(axis=0), 0)
        x1, y1 = np.minimum(placed.max(axis=0), (width, height))
        visible = x1 > x0 and y1 > y0
        boxes.append([round(float(value), 2) for value in (x0, y0, x1, y1)] if visible else None)
    return boxes


def render_photo(person: Person, seed: int, size: int = 192) -> np.ndarray:
    """Draw a close-up portrait, uint8 [size, size, 3]. `seed` changes pose, light, backdrop, clothes and smile."""
    rng = generator(seed, "photo")
    nuisance = draw_nuisance(seed)
    canvas = Canvas(_draw_backdrop(nuisance, (size, size)))
    centre = (size * rng.uniform(0.44, 0.56), size * rng.uniform(0.44, 0.52))
    _draw_portrait(canvas, person, _portrait_pose(rng, centre, size * rng.uniform(0.25, 0.31)), nuisance)
    return _grain(_light(canvas.picture(), nuisance), rng)


def render_bad_photo(person: Person, kind: BadPhoto, seed: int, size: int = 192) -> np.ndarray:
    """Draw a photo that must not count towards this person's identity, uint8 [size, size, 3]."""
    rng = generator(seed, "bad photo")
    stranger = draw_person(int(rng.integers(1 << 31)))
    if kind == "blurred":
        return blur(render_photo(person, seed, size), sigma_px=size * 0.035)
    if kind == "wrong_person":
        return render_photo(stranger, seed, size)
    nuisance = draw_nuisance(seed)
    canvas = Canvas(_draw_backdrop(nuisance, (size, size)))
    if kind == "second_person":
        for x, someone in zip((0.27, 0.74), rng.permutation(np.array([person, stranger], object)), strict=True):
            pose = _portrait_pose(rng, (size * x, size * 0.45), size * 0.2)
            _draw_portrait(canvas, someone, pose, dataclasses.replace(nuisance, top=draw_nuisance(seed + 1).top))
    return _grain(_light(canvas.picture(), nuisance), rng)


def _head_pose(pose: np.ndarray) -> HeadPose:
    """The head that COCO-17 joints in pixels [17, 2] describe."""
    centre = (pose[3] + pose[4]) / 2
    right = pose[3] - pose[4]
    # Ears are 2 * 0.88 units apart and the nose moves 0.22 units at a full turn (dance.py, _head).
    unit = float(np.linalg.norm(right)) / 1.76
    turn = float((pose[0] - centre) @ right / np.linalg.norm(right)) / (0.22 * unit)
    roll = float(np.degrees(np.arctan2(right[1], right[0])))
    return HeadPose((float(centre[0]), float(centre[1])), unit, roll, yaw=turn)


def _portrait_pose(rng: np.random.Generator, centre: tuple[float, float], unit_px: float) -> HeadPose:
    roll, yaw, pitch = rng.uniform(-1, 1, 3)
    return HeadPose(centre, unit_px, 7 * roll, 0.6 * yaw, 0.5 * pitch)


def _draw_portrait(canvas: Canvas, person: Person, pose: HeadPose, nuisance: Nuisance) -> None:
    """Draw shoulders, neck and head. Everything below the picture is cut off."""
    skin = shaded(palette(SKIN, person.skin), 0.85)
    x, y, unit = *pose.centre, pose.unit_px
    half = HALF_SHOULDER / HEAD_UNIT * 1.45 * nuisance.body_width * unit
    canvas.polygon(
        [(x - half, y + 1.9 * unit), (x + half, y + 1.9 * unit), (x + half, 1e4), (x - half, 1e4)], nuisance.top
    )
    canvas.capsule((x - half * 0.8, y + 1.75 * unit), (x + half * 0.8, y + 1.75 * unit), 0.32 * unit, nuisance.top)
    canvas.capsule((x, y + 0.5 * unit), (x, y + 1.4 * unit), 0.33 * unit, skin)
    draw_head(canvas, person, pose, nuisance)


def _draw_body(canvas: Canvas, person: Person, pose: np.ndarray, unit_px: float, nuisance: Nuisance) -> None:
    """Draw legs, neck, torso, arms and hands, in this order, under the head."""
    wide = unit_px * nuisance.body_width
    skin = palette(SKIN, person.skin)
    for hip, knee, ankle in ((11, 13, 15), (12, 14, 16)):
        canvas.stroke(pose[[hip, knee, ankle]], LEG_RADIUS * wide, nuisance.bottom)
        x, y = pose[ankle]
        canvas.ellipse((x, y + 0.1 * unit_px), (0.42 * wide, 0.24 * wide), nuisance.shoes)
    shoulders, hips = pose[[5, 6]], pose[[11, 12]]
    neck = shoulders.mean(axis=0)
    canvas.stroke(np.stack([neck, (pose[3] + pose[4]) / 2]), 0.3 * unit_px, shaded(skin, 0.85))
    torso = np.concatenate([shoulders, hips[::-1]])
    canvas.polygon(torso, nuisance.top)
    canvas.stroke(torso, TORSO_RADIUS * wide, nuisance.top, closed=True)
    canvas.stroke(hips, TORSO_RADIUS * wide, nuisance.bottom)
    # A darker sleeve keeps an arm visible in front of the torso.
    sleeve = shaded(nuisance.top, 0.8)
    for shoulder, elbow, wrist in ((5, 7, 9), (6, 8, 10)):
        canvas.stroke(pose[[shoulder, elbow, wrist]], ARM_RADIUS * wide, sleeve if nuisance.long_sleeves else skin)
        canvas.stroke(pose[[shoulder, elbow]], ARM_RADIUS * wide, sleeve)
        canvas.ellipse((pose[wrist][0], pose[wrist][1]), (HAND_RADIUS * wide, HAND_RADIUS * wide), skin)


def _draw_backdrop(nuisance: Nuisance, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw the place, uint8 [H, W, 3]."""
    height, width = size_hw
    first, second = nuisance.backdrop_colours
    canvas = Canvas(np.broadcast_to(np.array(first), (height, width, 3)).astype(np.uint8))
    if nuisance.backdrop == "gradient":
        ramp = np.linspace(0, 1, height)[:, None, None]
        return np.broadcast_to(np.array(first) * (1 - ramp) + np.array(second) * ramp, (height, width, 3)).astype(
            np.uint8
        )
    if nuisance.backdrop == "floor":
        canvas.polygon([(0, 0.75 * height), (width, 0.75 * height), (width, height), (0, height)], second)
    elif nuisance.backdrop == "stripes":
        for x in np.arange(0, 8, 2) / 8 * width:
            canvas.polygon([(x, 0), (x + width / 8, 0), (x + width / 8, height), (x, height)], second, opacity=0.5)
    elif nuisance.backdrop == "dots":
        _draw_dots(canvas, second)
    return canvas.picture()


def _draw_dots(canvas: Canvas, colour: Colour) -> None:
    height, width = canvas.size_hw
    for row in range(5):
        for column in range(5):
            centre = ((column + 0.25 + 0.5 * (row % 2)) / 5 * width, (row + 0.5) / 5 * height)
            canvas.ellipse(centre, (0.05 * width, 0.05 * width), colour, opacity=0.6)


def _light(picture: np.ndarray, nuisance: Nuisance) -> np.ndarray:
    """Apply the lamp: brightness, tint, and a slope from left to right."""
    slope = 1 + nuisance.light_slope * np.linspace(-1, 1, picture.shape[1])[None, :, None]
    lit = picture * slope * nuisance.light_gain * np.array(nuisance.light_tint)
    return np.clip(np.round(lit), 0, 255).astype(np.uint8)


def _grain(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a camera's noise, 2 levels."""
    return np.clip(np.round(picture + rng.normal(0, 2, picture.shape)), 0, 255).astype(np.uint8)
