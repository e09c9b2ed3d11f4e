"""Draw random people.

`Person` is who someone is, and `Nuisance` is all that changes from picture to picture. The two are drawn independently,
so only the face tells who is in a picture. Colours are positions in [0, 1] on a palette. So a person is a point that
can be compared, blended and read back from a picture.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from faceid.media.pixels.draw import Colour

Headwear = Literal["bald", "short", "fringe", "long", "afro", "bun", "cap", "beanie"]
Glasses = Literal["none", "round", "square"]
Backdrop = Literal["plain", "gradient", "floor", "stripes", "dots"]

# Skin is never darker, and hair never lighter, than OpenCV's cascades can take. They fail on light hair over a dark
# face, and a photo in which no face is found says nothing of who it is.
SKIN: tuple[Colour, ...] = (
    (251, 224, 204),
    (240, 200, 166),
    (216, 164, 124),
    (184, 130, 94),
    (156, 106, 76),
)
HAIR: tuple[Colour, ...] = (
    (28, 24, 28),
    (84, 48, 28),
    (168, 66, 24),
    (206, 162, 70),
    (148, 150, 162),
    (190, 58, 128),
    (48, 72, 190),
    (20, 120, 80),
)
IRIS: tuple[Colour, ...] = ((54, 32, 20), (128, 76, 24), (60, 140, 60), (40, 120, 210), (110, 60, 170))
CLOTH: tuple[Colour, ...] = (
    (204, 52, 52),
    (236, 148, 40),
    (240, 220, 90),
    (70, 170, 90),
    (50, 110, 200),
    (130, 70, 180),
    (60, 60, 70),
    (225, 225, 225),
)


@dataclass(frozen=True)
class Person:
    """One identity: twelve independent parameters. Numbers are in [0, 1]. Colours are palette positions."""

    skin: float
    headwear: Headwear
    """Hair shape, or a hat that covers it."""
    hair_colour: float
    hat_colour: float
    eye_colour: float
    eye_spacing: float
    eye_size: float
    face_width: float
    mouth_width: float
    brow: float
    """Thickness of the eyebrows."""
    glasses: Glasses
    glasses_colour: float


@dataclass(frozen=True)
class Nuisance:
    """All that is not identity: clothes, place, light, build and expression. Camera and motion are in the joints."""

    top: Colour
    bottom: Colour
    shoes: Colour
    long_sleeves: bool
    backdrop: Backdrop
    backdrop_colours: tuple[Colour, Colour]
    light_gain: float
    """Brightness of the whole picture. 1 is neutral."""
    light_tint: Colour
    """Factor per channel, 1 is neutral."""
    light_slope: float
    """How much brighter the right edge is than the middle. A negative value makes the left edge brighter."""
    body_width: float
    """Thickness of body and limbs, 1 is average."""
    smile: float
    """-1 frowns, 1 smiles."""
    mouth_open: float
    eye_openness: float


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Make a generator for each (seed, purpose), so that one drawing never shifts another."""
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(purpose.encode())]))


def draw_person(seed: int) -> Person:
    """Draw one person, the same for the same seed."""
    rng = generator(seed, "person")
    number = rng.random(9).tolist()
    return Person(
        skin=number[0],
        headwear=get_args(Headwear)[rng.integers(len(get_args(Headwear)))],
        hair_colour=number[1],
        hat_colour=number[2],
        eye_colour=number[3],
        eye_spacing=number[4],
        eye_size=number[5],
        face_width=number[6],
        mouth_width=number[7],
        brow=number[8],
        glasses=get_args(Glasses)[rng.choice(3, p=[0.6, 0.2, 0.2])],
        glasses_colour=float(rng.random()),
    )


def draw_nuisance(seed: int) -> Nuisance:
    """Draw the circumstances of one picture or clip, the same for the same seed."""
    rng = generator(seed, "nuisance")
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    return Nuisance(
        top=palette(CLOTH, rng.random()),
        bottom=palette(CLOTH, rng.random()),
        shoes=palette(CLOTH, rng.random()),
        long_sleeves=bool(rng.random() < 0.5),
        backdrop=get_args(Backdrop)[rng.integers(len(get_args(Backdrop)))],
        backdrop_colours=(_pastel(rng), _pastel(rng)),
        light_gain=float(rng.uniform(0.85, 1.1)),
        light_tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        light_slope=float(rng.uniform(-0.12, 0.12)),
        body_width=float(rng.uniform(0.85, 1.2)),
        smile=float(rng.uniform(0.0, 1.0)),
        mouth_open=float(max(0.0, rng.uniform(-0.6, 0.6))),
        eye_openness=float(rng.uniform(0.75, 1.0)),
    )


APPEARANCE = (
    *(f"skin_{c}" for c in "rgb"),
    *(f"hair_{c}" for c in "rgb"),
    *(f"hat_{c}" for c in "rgb"),
    *(f"iris_{c}" for c in "rgb"),
    *(f"glasses_{c}" for c in "rgb"),
    *("eye_spacing", "eye_size", "face_width", "mouth_width", "brow"),
    *(f"headwear_{choice}" for choice in get_args(Headwear)),
    *(f"glasses_{choice}" for choice in get_args(Glasses)),
)


def appearance_vector(person: Person) -> np.ndarray:
    """The visible attributes of a person, as numbers in [0, 1], float32 [31], named by APPEARANCE.

    Colours are RGB, and zero where the thing is missing. So the vector says nothing that no picture shows.
    """
    hidden = (0.0, 0.0, 0.0)
    has_hair, has_hat = person.headwear != "bald", person.headwear in ("cap", "beanie")
    colours = [
        palette(SKIN, person.skin),
        palette(HAIR, person.hair_colour) if has_hair else hidden,
        palette(CLOTH, person.hat_colour) if has_hat else hidden,
        palette(IRIS, person.eye_colour),
        palette(CLOTH, person.glasses_colour) if person.glasses != "none" else hidden,
    ]
    sizes = [person.eye_spacing, person.eye_size, person.face_width, person.mouth_width, person.brow]
    headwear = [float(person.headwear == choice) for choice in get_args(Headwear)]
    glasses = [float(person.glasses == choice) for choice in get_args(Glasses)]
    return np.array([c / 255 for colour in colours for c in colour] + sizes + headwear + glasses, np.float32)


def palette(colours: tuple[Colour, ...], position: float) -> Colour:
    """The colour at `position` in [0, 1], interpolated between the palette's colours."""
    place = np.linspace(0, 1, len(colours))
    red, green, blue = (float(np.interp(position, place, [colour[c] for colour in colours])) for c in range(3))
    return red, green, blue


def shaded(colour: Colour, factor: float) -> Colour:
    """A darker (below 1) or lighter colour, kept within 0 to 255."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def _pastel(rng: np.random.Generator) -> Colour:
    # Paler than skin, hair and clothes, so that a figure stands out from any backdrop.
    red, green, blue = (255 - 0.5 * (255 - channel) for channel in palette(CLOTH, float(rng.random())))
    gain = float(rng.uniform(0.7, 1.0))
    return red * gain, green * gain, blue * gain
