"""Say who lives in which toy world.

World's seed and name identify a person, so worlds of other seeds share nobody. The embedded models were trained in
worlds of their own. The people in them are in no world that a user or a test draws, unless its seed is one of these.
"""

from __future__ import annotations

import zlib

# The world of the base and of the shipped adapter.
TRAINING_WORLD = 1000
# The world of the face encoder.
ENCODER_WORLD = 2000
# The world of the evaluation's own recogniser, attribute read-out and pose reader.
EVALUATION_WORLD = 3000


def person_seed(world: int, name: str) -> int:
    """The seed of a person in a world. Another name or world is another person."""
    return zlib.crc32(f"{world} person {name}".encode())
