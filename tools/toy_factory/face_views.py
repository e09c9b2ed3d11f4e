"""Draw views of people to train face encoders on.

They are portraits as the detector cuts them, and heads as clips show them. An encoder must give one person one
embedding from both. Identities come from photos, and dancers' faces from clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import FaceDetector, crop_face, load_detector
from faceid.logs import progress
from faceid.media.pixels.draw import blur
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import Person, draw_nuisance, draw_person, generator
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo
from faceid.toy.worlds import person_seed

VIEW_PX, CLIP_PX, PHOTO_PX = 64, 64, 192
# Haar's boxes and head boxes move about as much from photo to photo.
JITTER = 0.06
# Two latent frames. The first holds a single picture, and is clearer than those that follow.
RENDERED_FRAMES = 5

# Frames seen through a VAE, uint8 [T, H, W, 3] to the same.
Reconstruct = Callable[[np.ndarray], np.ndarray]
# x0, y0, x1, y1 in pixels.
Box = tuple[float, ...] | list[float]


@dataclass(frozen=True)
class FaceViews:
    """pictures: uint8 [P, V, 64, 64, 3]. Each person's first `num_photos` are from photos, the rest from clips."""

    people: list[Person]
    pictures: np.ndarray
    num_photos: int


def draw_views(
    world: int, num_people: int, num_photos: int, num_clips: int, as_rendered: Reconstruct | None = None
) -> FaceViews:
    """Draw every person's portraits and heads from clips.

    People without a portrait that the detector takes are left out.
    as_rendered: sends a clip through a VAE. If given, each person's last clip goes through it.
    """
    detector = load_detector("haar")
    people, pictures = [], []
    for number in progress(range(num_people), "people", unit="person"):
        person = draw_person(person_seed(world, f"d{number:02d}"))
        photos = [portrait_cut(person, number * 64 + view, detector) for view in range(num_photos)]
        found = [photo for photo in photos if photo is not None]
        if found:
            # A view that the detector missed is replaced by one that it took.
            views = [photo if photo is not None else found[view % len(found)] for view, photo in enumerate(photos)]
            people.append(person)
            heads = [head_in_clip(person, number * 64 + view) for view in range(num_clips)]
            if as_rendered is not None:
                heads[-1] = head_as_rendered(person, number * 64 + num_clips - 1, as_rendered)
            pictures.append(views + heads)
    return FaceViews(people, np.array(pictures), num_photos)


def head_in_clip(person: Person, seed: int, softness_px: float = 1.0) -> np.ndarray:
    """The head of one frame of one clip, uint8 [64, 64, 3]. A blur of up to `softness_px` imitates a VAE."""
    rng = generator(seed, "head in clip")
    (frame,), box = _dance(person, rng, 1)
    softness = rng.uniform(0, softness_px)
    if softness > 0.3:
        frame = blur(frame, softness)
    return _cut(frame, box, rng)


def head_as_rendered(person: Person, seed: int, reconstruct: Reconstruct) -> np.ndarray:
    """The head of the last frame of a clip after a VAE, uint8 [64, 64, 3]."""
    rng = generator(seed, "head as rendered")
    frames, box = _dance(person, rng, RENDERED_FRAMES)
    return _cut(reconstruct(frames)[-1], box, rng)


def portrait_cut(person: Person, seed: int, detector: FaceDetector) -> np.ndarray | None:
    """The face of one photo as the detector finds it, uint8 [64, 64, 3]; None when it finds none."""
    photo = render_photo(person, seed, PHOTO_PX)
    faces = detector.detect(photo)
    return _cut(photo, faces[0].box_xyxy, generator(seed, "portrait cut")) if faces else None


def _dance(person: Person, rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, Box]:
    """Frames of a dance, uint8 [T, 64, 64, 3], and the head's box in the last."""
    genre, size_hw = list(GENRES)[rng.integers(len(GENRES))], (CLIP_PX, CLIP_PX)
    joints = dance_joints(genre, int(rng.integers(1 << 31)), num_frames, size_hw)
    frames = render_clip(person, joints, draw_nuisance(int(rng.integers(1 << 31))), size_hw)
    return frames, drawn_head_boxes(joints, size_hw)[-1] or (0.0, 0.0, CLIP_PX, CLIP_PX)


def _cut(picture: np.ndarray, box: Box, rng: np.random.Generator) -> np.ndarray:
    x0, y0, x1, y1 = box
    shift = rng.uniform(-JITTER, JITTER, 4) * max(x1 - x0, y1 - y0)
    jittered = (round(x0 + shift[0]), round(y0 + shift[1]), round(x1 + shift[2]), round(y1 + shift[3]))
    face = crop_face(picture, jittered, FaceSettings.face_margin)
    return np.array(Image.fromarray(face).resize((VIEW_PX, VIEW_PX), Image.Resampling.BICUBIC))
