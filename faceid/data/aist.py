"""Parse AIST file names, and lists of such names.

`gBR_sBM_c01_d04_mBR0_ch01` is genre_situation_camera_dancer_music_choreography (AIST Dance DB, data formats page).
Situations BM (basic) and FM (advanced) are solos; GR is a group of several dancers. SH, CY and BT (showcase, cypher,
battle) have another form of name and show several people. AIST++ writes `cAll` for all nine cameras of a sequence.
Lists of names are published with `.json` endings, with blank lines, and without a last newline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from faceid.errors import DataError
from faceid.files.documents import read_text

GENRES = ("BR", "PO", "LO", "MH", "LH", "HO", "WA", "KR", "JS", "JB")
ALL_CAMERAS = "cAll"

_NAME = re.compile(
    rf"g({'|'.join(GENRES)})_s([A-Z]{{2}})_(c(?:\d{{2}}|All))((?:_d\d{{2}})+)_(m[A-Z]{{2}}\d)_(ch\d{{2}})(?![0-9])(.*)",
    re.DOTALL,
)
_ANY_CASE = re.compile(_NAME.pattern, re.DOTALL | re.IGNORECASE)
# The ending that tools/split_clips.py appends.
_PART = re.compile(r"_clip_\d{3,}$")
# Showcase, cypher and battle: `gBR_sSH_...`, or the short form `sSH_c01_v0`.
_SHOW = re.compile(r"(?:g[A-Z]{2}_)?s(?:SH|CY|BT)_", re.DOTALL)
_LISTED_ENDINGS = (".json", ".pkl", ".mp4")


@dataclass(frozen=True)
class AistName:
    """One parsed name. dancers: more than one in group dances. rest: text after the name, such as `_clip_003`."""

    genre: str
    situation: str
    camera: str
    dancers: tuple[str, ...]
    music: str
    choreography: str
    rest: str = ""

    @property
    def sequence(self) -> str:
        """The AIST++ name of the dance, over all cameras. Its keypoints and lists use this name."""
        together = "_".join(self.dancers)
        return f"{self.genre}_{self.situation}_{ALL_CAMERAS}_{together}_{self.music}_{self.choreography}"

    @property
    def camera_number(self) -> int | None:
        """The camera's place in AIST++'s arrays, 0 for c01; None for all cameras."""
        return None if self.camera == ALL_CAMERAS else int(self.camera[1:]) - 1


def parse_aist_name(stem: str) -> AistName | None:
    """Parse a file name's stem, with or without something appended (`_clip_003`); None when it is no AIST name."""
    match = _NAME.fullmatch(stem)
    if not match:
        return None
    genre, situation, camera, dancers, music, choreography, rest = match.groups()
    return AistName(
        f"g{genre}", f"s{situation}", camera, tuple(dancers.strip("_").split("_")), music, choreography, rest
    )


def performance_of(name: str) -> str:
    """The performance that a film or a clip shows, in lower case: AIST's sequence, else the name without `_clip_003`.

    Every camera and every part of a performance shows the same clothes, light and hair. name: a stem, or the key made
    of one.
    """
    match = _ANY_CASE.fullmatch(name)
    if match is None:
        return _PART.sub("", name.lower())
    genre, situation, _, dancers, music, choreography, _ = (part.lower() for part in match.groups())
    return f"g{genre}_s{situation}{dancers}_{music}_{choreography}"


def camera_of(stem: str) -> int | None:
    """The camera's place in AIST++'s arrays, 0 for c01; None when the name does not say it."""
    name = parse_aist_name(stem)
    return name.camera_number if name is not None else None


def several_people(stem: str) -> Literal["group", "show"] | None:
    """Why an AIST film shows several people: a group dance, or a showcase, cypher or battle; None when it does not.

    A face embedding stands for one person. With several people in the picture it would teach the wrong one.
    """
    name = parse_aist_name(stem)
    if name is None:
        return "show" if _SHOW.match(stem) else None
    if name.situation in ("sSH", "sCY", "sBT"):
        return "show"
    return "group" if len(name.dancers) > 1 or name.situation == "sGR" else None


def read_name_list(path: Path) -> list[AistName]:
    """The sequences of a list (a split, an ignore list), in its order, each once. Text after a name is dropped.

    Raises: DataError when the file cannot be read, is empty, or a line is no AIST name.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list of names in UTF-8: {error}") from error
    names: dict[AistName, None] = {}
    for number, line in enumerate(lines, start=1):
        word = line.strip()
        if not word:
            continue
        for ending in _LISTED_ENDINGS:
            word = word.removesuffix(ending)
        name = parse_aist_name(word)
        if name is None:
            raise DataError(f"{path}: line {number}: {line.strip()!r} is not an AIST name; one per line is expected")
        names[replace(name, rest="")] = None
    if not names:
        raise DataError(f"{path}: holds no name; one AIST name per line is expected")
    return list(names)
