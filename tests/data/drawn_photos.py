"""Photos of noise with a face said to be in them."""

import hashlib

import numpy as np

from faceid.data.latents.photo_latents import FacePhoto


def face_photos() -> list[FacePhoto]:
    """One upright with the face at the top, one wide with the face in the middle."""
    random = np.random.default_rng(0)
    shapes = {"front.jpg": ((80, 60, 3), (20, 0, 40, 30)), "side.jpg": ((40, 90, 3), (35, 10, 55, 30))}
    pixels = {key: random.integers(0, 256, shape, np.uint8) for key, (shape, _) in shapes.items()}
    return [FacePhoto(key, pixels[key], box, sha256(pixels[key])) for key, (_, box) in shapes.items()]


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()
