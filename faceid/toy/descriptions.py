"""Describe drawn people in words, as a prompt for the base describes somebody.

A description says only what a picture can show. Numbers and colours become words, so it says less than the picture.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from faceid.models.prompt_phrases import join_phrases
from faceid.toy.people import Glasses, Headwear, Person

SKIN_WORDS = ("pale", "light", "tan", "brown", "dark")
HAIR_WORDS = ("black", "brown", "copper", "blond", "grey", "pink", "blue", "green")
EYE_WORDS = ("dark", "amber", "green", "blue", "violet")
CLOTH_WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
# For small, middle and large numbers. A middle one is not worth a word.
FACE_WORDS = ("a narrow face", "", "a broad face")
SPACING_WORDS = ("close-set eyes", "", "wide-set eyes")
SIZE_WORDS = ("small ", "", "large ")
MOUTH_WORDS = ("a small mouth", "", "a wide mouth")
BROW_WORDS = ("thin eyebrows", "", "thick eyebrows")
HAIR_PHRASES: dict[Headwear, str] = {
    "bald": "a bald head",
    "short": "short {hair} hair",
    "fringe": "{hair} hair with a fringe",
    "long": "long {hair} hair",
    "afro": "a {hair} afro",
    "bun": "{hair} hair in a bun",
    "cap": "a {hat} cap over {hair} hair",
    "beanie": "a {hat} beanie over {hair} hair",
}


def describe(person: Person, opening: str = "a person", rng: np.random.Generator | None = None) -> str:
    """Describe all that can be seen of a person: `opening`, "with", and the phrases.

    rng: shuffles the phrases and leaves some out, as people do. None: all of them, in one order.
    """
    phrases = list(description_phrases(person).values())
    if rng is not None:
        kept = rng.random(len(phrases)) < rng.uniform(0.5, 1.3)
        phrases = [phrases[i] for i in rng.permutation(len(phrases)) if kept[i]]
    return join_phrases(opening, phrases)


def description_phrases(person: Person) -> dict[str, str]:
    """What each visible trait is called, by trait: skin, hair, eyes, glasses, face, spacing, mouth, brows."""
    hair, hat = _word(HAIR_WORDS, person.hair_colour), _word(CLOTH_WORDS, person.hat_colour)
    glasses = "no glasses"
    if person.glasses != "none":
        glasses = f"{person.glasses} {_word(CLOTH_WORDS, person.glasses_colour)} glasses"
    phrases = {
        "skin": f"{_word(SKIN_WORDS, person.skin)} skin",
        "hair": HAIR_PHRASES[person.headwear].format(hair=hair, hat=hat),
        "eyes": f"{_third(SIZE_WORDS, person.eye_size)}{_word(EYE_WORDS, person.eye_colour)} eyes",
        "glasses": glasses,
        "face": _third(FACE_WORDS, person.face_width),
        "spacing": _third(SPACING_WORDS, person.eye_spacing),
        "mouth": _third(MOUTH_WORDS, person.mouth_width),
        "brows": _third(BROW_WORDS, person.brow),
    }
    return {trait: phrase for trait, phrase in phrases.items() if phrase}


def phrase_groups() -> dict[str, tuple[str, ...]]:
    """Every phrase of `description_phrases`, by trait: all that the embedded base can be told of a person."""
    hair = (p.format(hair=h, hat=c) for p in HAIR_PHRASES.values() for c in CLOTH_WORDS for h in HAIR_WORDS)
    glasses = (f"{kind} {colour} glasses" for kind in get_args(Glasses) if kind != "none" for colour in CLOTH_WORDS)
    groups = {
        "skin": (f"{word} skin" for word in SKIN_WORDS),
        # A phrase without a hat is the same with each.
        "hair": dict.fromkeys(hair),
        "eyes": (f"{size}{word} eyes" for word in EYE_WORDS for size in SIZE_WORDS),
        "glasses": ("no glasses", *glasses),
        "face": FACE_WORDS,
        "spacing": SPACING_WORDS,
        "mouth": MOUTH_WORDS,
        "brows": BROW_WORDS,
    }
    return {trait: tuple(filter(None, phrases)) for trait, phrases in groups.items()}


def _word(words: tuple[str, ...], position: float) -> str:
    """The word nearest to a position in [0, 1] on a palette of as many colours."""
    return words[round(position * (len(words) - 1))]


def _third(words: tuple[str, ...], number: float) -> str:
    return words[min(int(number * 3), 2)]
