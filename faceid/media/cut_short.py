"""Tell whether a file has all the bytes that its header states.

A broken-off copy often decodes without an error. Matroska (mkv, webm) and AVI state their length in bytes. A recording
states none if it was never closed, or if it was sent while it was made. Lengths in seconds are not used: another track
may be longer, and a last picture may stand for long. MP4 and QuickTime need their index (`moov`), which most writers
put last. A file cut before it cannot be opened.
"""

from __future__ import annotations

from pathlib import Path

_LOOKED_AT_BYTES = 4096
_MOST_BOXES = 10_000
_FIRST_BOXES = (b"ftyp", b"wide", b"mdat", b"free", b"skip")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# "Unknown": in files larger than AVI's four bytes can state, and in files that were sent while they were made.
_RIFF_UNKNOWN = frozenset((0, 0x7FFFFFFF, 0xFFFFFFFF))


def present_share(path: Path) -> float:
    """The share of its bytes that a file has, by its header; 1 for a complete file, or without a length."""
    if not path.is_file():
        return 1.0
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
    said = _matroska_bytes(start) if start.startswith(_EBML) else _avi_bytes(start)
    return min(path.stat().st_size / said, 1.0) if said else 1.0


def lacks_index(path: Path) -> bool:
    """Whether a file is an MP4 or QuickTime film without its index: no `moov` among its boxes (ISO 14496-12, 4.2)."""
    place = 0
    with path.open("rb") as file:
        for _ in range(_MOST_BOXES):
            file.seek(place)
            header = file.read(16)
            if len(header) < 8:
                return place > 0
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if kind == b"moov" or (place == 0 and kind not in _FIRST_BOXES):
                return False
            if size == 1:
                size = int.from_bytes(header[8:], "big")
            if size < 8:
                # 0 means to the end of the file.
                return size == 0
            place += size
    return False


def _matroska_bytes(start: bytes) -> int | None:
    """Go through the first elements to the segment, which holds all the rest (RFC 8794: an id, a size, the content)."""
    place = 0
    while place + 12 <= len(start):
        id_bytes = 9 - start[place].bit_length()
        size = _size(start[place + id_bytes :])
        if size is None:
            return None
        content = place + id_bytes + size[0]
        if start[place : place + id_bytes] == _SEGMENT:
            return content + size[1]
        place = content + size[1]
    return None


def _size(at: bytes) -> tuple[int, int] | None:
    """How many bytes a size takes, and the size; None where it is unknown, which means that all its bits are set."""
    num_bytes = 9 - at[0].bit_length()
    if num_bytes > 8 or len(at) < num_bytes:
        return None
    highest = (1 << 7 * num_bytes) - 1
    value = int.from_bytes(at[:num_bytes], "big") & highest
    return None if value == highest else (num_bytes, value)


def _avi_bytes(start: bytes) -> int | None:
    if start[:4] != b"RIFF" or start[8:12] != b"AVI ":
        return None
    said = int.from_bytes(start[4:8], "little")
    return None if said in _RIFF_UNKNOWN else said + 8
