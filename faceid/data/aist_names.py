"""What an AIST file name says: genre, camera, dancer.

`gBR_sBM_c01_d04_mBR0_ch01` is genre_situation_camera_dancer_music_choreography (AIST Dance DB, data formats page).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GENRES = ("BR", "PO", "LO", "MH", "LH", "HO", "WA", "KR", "JS", "JB")
_NAME = re.compile(
    rf"g({'|'.join(GENRES)})_s([A-Z]{{2}})_(c(?:\d{{2}}|All))((?:_d\d{{2}})+)_(m[A-Z]{{2}}\d)_(ch\d{{2}})(?![0-9])"
)


@dataclass(frozen=True)
class AistName:
    """One parsed name. dancers: more than one in group dances."""

    genre: str
    situation: str
    camera: str
    dancers: tuple[str, ...]


def parse_aist_name(stem: str) -> AistName | None:
    """Parse a file name's stem, with or without something appended (`_clip_003`); None when it is not AIST's."""
    match = _NAME.match(stem)
    if not match:
        return None
    genre, situation, camera, dancers = match.group(1, 2, 3, 4)
    return AistName(f"g{genre}", f"s{situation}", camera, tuple(dancers.strip("_").split("_")))
