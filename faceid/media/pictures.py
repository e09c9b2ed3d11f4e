"""Convert one decoded frame to upright RGB of square pixels.

Its colours become those to be seen, and it is fitted to another size on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import av
import numpy as np

from faceid.media.container import square_hw
from faceid.media.pixels.colours import are_ordinary, to_ordinary
from faceid.media.pixels.fit import Fit
from faceid.media.pixels.orientation import Orientation, orientation_of

# libswscale's BILINEAR, FULL_CHR_H_INT, ACCURATE_RND and BITEXACT. Exact rounding and full chroma give the same pixels
# on every processor, for a few per cent of the decoding time. They are numbers, as PyAV names the last three only since
# 18.
EXACT = 0x2 | 0x2000 | 0x40000 | 0x80000
# AREA averages all source pixels that fall on a pixel, so that shrinking does not alias.
_EXACT_AREA = EXACT & ~0x2 | 0x20


def converter(stream: Any, fit: Fit | None = None, by_planes: bool = False) -> Callable[[av.VideoFrame], np.ndarray]:
    """Make the function from a decoded frame to upright square-pixel RGB [H, W, 3], fitted.

    by_planes: whether the picture lies in memory plane after plane.
    """
    to_rgb = _to_planes if by_planes else _to_pixels
    to_8_bit_bt709 = to_ordinary()
    size_hw: list[int] = []
    # PyAV keeps a frame whose side data were read until the garbage collector comes. They are read once per rotation.
    orientations: dict[int, Orientation] = {}

    def convert(frame: av.VideoFrame) -> np.ndarray:
        if not size_hw:
            # When a file's size changes midway, its frames are brought back to the first frame's size.
            size_hw.extend(square_hw(frame, stream))
        if frame.rotation not in orientations:
            orientations[frame.rotation] = orientation_of(frame)
        orientation = orientations[frame.rotation]
        if fit is not None and orientation.is_stored_upright and _can_be_cut(frame, fit, size_hw):
            return fit.place(to_rgb(_cut(frame, fit), fit.target[3], fit.target[2], _EXACT_AREA))
        picture = to_rgb(to_8_bit_bt709(frame), size_hw[0], size_hw[1], EXACT)
        upright = orientation.upright(picture)
        return fit.frame(upright) if fit is not None else upright

    return convert


def upright_hw(frame: av.VideoFrame, stream: Any) -> tuple[int, int]:
    """Height and width of a frame once upright, with square pixels."""
    return orientation_of(frame).upright_hw(square_hw(frame, stream))


def stack(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Stack pictures [H, W, 3] to uint8 [T, H, W, 3] whose memory is [T, 3, H, W], as in a tensor of them."""
    return np.stack([picture.transpose(2, 0, 1) for picture in pictures]).transpose(0, 2, 3, 1)


def _to_pixels(frame: av.VideoFrame, height: int, width: int, how: int) -> np.ndarray:
    """RGB [H, W, 3], stored pixel after pixel."""
    return frame.to_ndarray(format="rgb24", height=height, width=width, interpolation=how)


def _to_planes(frame: av.VideoFrame, height: int, width: int, how: int) -> np.ndarray:
    """The same numbers, stored plane after plane. FFmpeg makes planes in two thirds of the time."""
    green_blue_red = frame.reformat(format="gbrp", height=height, width=width, interpolation=how)
    planes = np.empty((3, height, width), np.uint8)
    for plane, place in zip(green_blue_red.planes, (1, 2, 0), strict=True):
        planes[place] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, :width]
    return planes.transpose(1, 2, 0)


def _can_be_cut(frame: av.VideoFrame, fit: Fit, size_hw: list[int]) -> bool:
    """Whether a fit can be done on the frame as it is stored, before its colours are converted."""
    is_plain = frame.format.name == "yuv420p" and [frame.height, frame.width] == size_hw
    return is_plain and fit.shrinks and not any(edge % 2 for edge in fit.source) and are_ordinary(frame)


def _cut(frame: av.VideoFrame, fit: Fit) -> av.VideoFrame:
    """The part that a fit uses, converted and shrunk in one go. A 1080p film takes 4 ms a frame in place of 22."""
    left, top, width, height = fit.source
    part = av.VideoFrame(width, height, frame.format.name)
    # Colour planes have half the pixels in each direction.
    for plane, to_plane, scale in zip(frame.planes, part.planes, (1, 2, 2), strict=True):
        stored, cut = (np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in (plane, to_plane))
        rows, columns = (slice(a // scale, (a + b) // scale) for a, b in ((top, height), (left, width)))
        cut[:, : width // scale] = stored[rows, columns]
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    return part
