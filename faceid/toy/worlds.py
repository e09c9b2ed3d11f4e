"""Who lives in which toy world. A person is named by (world's seed, name), so worlds of different seeds share nobody.

The embedded models were trained in worlds of their own; nobody in them is in a world that a user or a test draws,
unless its seed is one of these.
"""

from __future__ import annotations

import zlib

# What the base and the shipped adapter learnt from.
TRAINING_WORLD = 1000
# What the face encoder learnt from.
ENCODER_WORLD = 2000
# What the evaluation's own recogniser, attribute read-out and pose reader learnt from.
EVALUATION_WORLD = 3000


def person_seed(world: int, name: str) -> int:
    """The seed of a person in a world: another name or world is another person."""
    return zlib.crc32(f"{world} person {name}".encode())
