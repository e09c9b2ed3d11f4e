"""Draw views of people to train face encoders on.

They are portraits as the detector cuts them, and heads as clips show them. An encoder must give one person one
embedding from both. Identities come from photos, and dancers' faces from clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from PIL import Image

from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import FaceDetector, crop_face, load_detector
from faceid.logs import progress
from faceid.media.pixels.draw import blur
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import Backdrop, Nuisance, Person, draw_nuisance, draw_person, generator
from faceid.toy.render import drawn_head_boxes, render_clip, render_photo
from faceid.toy.worlds import person_seed
from toy_factory.world import FRAME_PX, draw_framing

VIEW_PX, PHOTO_PX = 64, 192
# Haar's boxes and head boxes move about as much from photo to photo.
JITTER = 0.06
# Two latent frames. The first holds a single picture, and is clearer than those that follow.
RENDERED_FRAMES = 5
# What a VAE is sent of such a frame: this much around the head, in whole cells of this many pixels.
RENDERED_MARGIN, CELL_PX = 0.15, 8

# Frames seen through a VAE, uint8 [T, H, W, 3] to the same.
Reconstruct = Callable[[np.ndarray], np.ndarray]
# x0, y0, x1, y1 in pixels.
Box = tuple[float, ...] | list[float]


@dataclass(frozen=True)
class View:
    """One picture of a head, uint8 [64, 64, 3], and what else there is to see in it."""

    picture: np.ndarray
    scene: Nuisance


@dataclass(frozen=True)
class FaceViews:
    """pictures: uint8 [P, V, 64, 64, 3]. Each person's first `num_photos` are from photos, the rest from clips.

    scenes: what else each shows, by `scene_vector`, [P, V, S].
    """

    people: list[Person]
    pictures: np.ndarray
    scenes: np.ndarray
    num_photos: int


def draw_views(
    world: int,
    num_people: int,
    num_photos: int,
    num_clips: int,
    as_rendered: Reconstruct | None = None,
    num_rendered: int = 0,
) -> FaceViews:
    """Draw every person's portraits and heads from clips.

    People without a portrait that the detector takes are left out.
    as_rendered: sends a clip through a VAE. The last clip of the first `num_rendered` people goes through it.
    """
    detector = load_detector("haar")
    people: list[Person] = []
    shown: list[list[View]] = []
    for number in progress(range(num_people), "people", unit="person"):
        person = draw_person(person_seed(world, f"d{number:02d}"))
        photos = [portrait_cut(person, number * 64 + view, detector) for view in range(num_photos)]
        found = [photo for photo in photos if photo is not None]
        if found:
            # A view that the detector missed is replaced by one that it took.
            views = [photo if photo is not None else found[view % len(found)] for view, photo in enumerate(photos)]
            people.append(person)
            heads = [head_in_clip(person, number * 64 + view) for view in range(num_clips)]
            if as_rendered is not None and number < num_rendered:
                heads[-1] = head_as_rendered(person, number * 64 + num_clips - 1, as_rendered)
            shown.append(views + heads)
    pictures = np.array([[view.picture for view in views] for views in shown])
    scenes = np.array([[scene_vector(view.scene) for view in views] for views in shown])
    return FaceViews(people, pictures, scenes, num_photos)


def scene_vector(scene: Nuisance) -> np.ndarray:
    """What a caption of the whole picture would say besides who it is, float32 [18], about in [0, 1]."""
    colours = [value / 255 for colour in (scene.top, *scene.backdrop_colours) for value in colour]
    light = [(scene.light_gain - 0.85) / 0.25, (scene.light_slope + 0.12) / 0.24]
    backdrops = [float(scene.backdrop == choice) for choice in get_args(Backdrop)]
    return np.array([*colours, *light, scene.smile, scene.mouth_open, *backdrops], np.float32)


def head_in_clip(person: Person, seed: int, softness_px: float = 1.0) -> View:
    """The head of one frame of one clip. A blur of up to `softness_px` imitates a VAE."""
    rng = generator(seed, "head in clip")
    (frame,), box, scene = _dance(person, rng, 1)
    softness = rng.uniform(0, softness_px)
    if softness > 0.3:
        frame = blur(frame, softness)
    return View(_cut(frame, box, rng), scene)


def head_as_rendered(person: Person, seed: int, reconstruct: Reconstruct) -> View:
    """The head of the last frame of a clip after a VAE."""
    rng = generator(seed, "head as rendered")
    frames, (x0, y0, x1, y1), scene = _dance(person, rng, RENDERED_FRAMES)
    # The rest of a frame costs as much as the head, and tells nothing of it.
    margin = RENDERED_MARGIN * max(x1 - x0, y1 - y0)
    left, top = (max(0, int((start - margin) // CELL_PX)) * CELL_PX for start in (x0, y0))
    right, bottom = (min(FRAME_PX, -int(-(end + margin) // CELL_PX) * CELL_PX) for end in (x1, y1))
    window = reconstruct(frames[:, top:bottom, left:right])[-1]
    return View(_cut(window, (x0 - left, y0 - top, x1 - left, y1 - top), rng), scene)


def portrait_cut(person: Person, seed: int, detector: FaceDetector) -> View | None:
    """The face of one photo as the detector finds it; None when it finds none."""
    photo = render_photo(person, seed, PHOTO_PX)
    faces = detector.detect(photo)
    if not faces:
        return None
    return View(_cut(photo, faces[0].box_xyxy, generator(seed, "portrait cut")), draw_nuisance(seed))


def _dance(person: Person, rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, Box, Nuisance]:
    """Frames of a dance, uint8 [T, S, S, 3], the head's box in the last, and the scene."""
    side = FRAME_PX
    genre, size_hw = list(GENRES)[rng.integers(len(GENRES))], (side, side)
    framing = draw_framing(rng)
    joints = dance_joints(genre, int(rng.integers(1 << 31)), num_frames, size_hw, framing)
    scene = draw_nuisance(int(rng.integers(1 << 31)))
    frames = render_clip(person, joints, scene, size_hw)
    return frames, drawn_head_boxes(joints, size_hw)[-1] or (0.0, 0.0, float(side), float(side)), scene


def _cut(picture: np.ndarray, box: Box, rng: np.random.Generator) -> np.ndarray:
    x0, y0, x1, y1 = box
    shift = rng.uniform(-JITTER, JITTER, 4) * max(x1 - x0, y1 - y0)
    jittered = (round(x0 + shift[0]), round(y0 + shift[1]), round(x1 + shift[2]), round(y1 + shift[3]))
    face = crop_face(picture, jittered, FaceSettings.face_margin)
    return np.array(Image.fromarray(face).resize((VIEW_PX, VIEW_PX), Image.Resampling.BICUBIC))
