"""Convert a photo's colours to sRGB, as a viewer does.

The file's profile or code points tell how. Phones save Display P3, cameras Adobe RGB, and some encoders a space of
their own (XYB). If they were taken for sRGB, skin would be too pale or of another colour altogether. Profiles go
through littleCMS (Pillow's ImageCms), and code points through `colours`. A PNG's gAMA and cHRM, which stand in for a
profile, are applied as its standard asks.
"""

from __future__ import annotations

import functools
import io
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from faceid.errors import DataError
from faceid.media.pixels.colours import Colours, primaries_matrix, to_bt709, why_unknown

log = logging.getLogger(__name__)

# Where files name code points of H.273: a box of HEIF and AVIF, and a chunk of PNG. Both are near the beginning.
_NCLX, _CICP, _LOOKED_AT_BYTES = b"colrnclx", b"cICP", 1 << 16
# Rows whose colours are computed at a time. All rows of a photo of 64 megapixels would take 1.5 GB.
_ROWS = 256
# The gamma that a PNG in sRGB states, and the largest invisible difference from it, as in libpng. Then that difference
# for its primaries.
_SRGB_GAMMA, _SAME_GAMMA, _SAME_PRIMARIES = 0.45455, 0.05, 0.01
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# Pillow's mode of the colours alone, by the space that a profile is for.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def to_srgb(path: Path, image: Image.Image) -> Image.Image:
    """A decoded photo in sRGB, with its transparency kept. Raises: DataError for unknown colours.

    For a broken profile a message appears, and the photo is taken for sRGB, as viewers do.
    """
    coded = coded_colours(path)
    profile = image.info.get("icc_profile")
    if coded is not None and (coded.is_hdr or not profile):
        return _by_code_points(path, image, coded)
    if not profile:
        return _by_gamma(path, image)
    try:
        return _by_profile(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: its colour profile cannot be used (%s); the photo is taken for sRGB", path, reason)
        return image


def coded_colours(path: Path) -> Colours | None:
    """The code points that a HEIC, AVIF or PNG file names; None where it names none."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
    if start.startswith(b"\x89PNG"):
        # The pixels may hold the marker by chance, so only the part before them is searched.
        start, marker, form = start.partition(b"IDAT")[0], _CICP, ">BB"
    elif start[4:8] == b"ftyp":
        marker, form = _NCLX, ">HH"
    else:
        return None
    place = start.find(marker)
    if place < 0 or place + len(marker) + struct.calcsize(form) > len(start):
        return None
    return Colours(*struct.unpack_from(form, start, place + len(marker)))


def _by_code_points(path: Path, image: Image.Image, colours: Colours) -> Image.Image:
    if colours.are_ordinary and why_unknown(colours) is None:
        return image
    problem = why_unknown(colours)
    if problem is not None:
        raise DataError(f"{path}: {problem}, which is not known here; export it as JPEG in sRGB")
    log.info("%s: its colours (%s) are brought to sRGB", path, colours)
    return _changed(image, lambda values: to_bt709(values, colours))


def _by_gamma(path: Path, image: Image.Image) -> Image.Image:
    """Apply a PNG's gAMA and cHRM (PNG, third edition, 11.3.2): a power, and primaries. sRGB's own change nothing."""
    gamma, primaries = image.info.get("gamma", _SRGB_GAMMA), image.info.get("chromaticity")
    if "srgb" in image.info or gamma <= 0 or image.mode == "CMYK":
        return image
    to_bt709_light = np.eye(3)
    if primaries:
        white, *rgb = zip(primaries[::2], primaries[1::2], strict=True)
        try:
            to_bt709_light = primaries_matrix(rgb, white)
        except ValueError:
            log.warning("%s: its primaries (cHRM) cannot be; the photo is taken for sRGB's", path)
    if abs(gamma / _SRGB_GAMMA - 1) < _SAME_GAMMA and np.abs(to_bt709_light - np.eye(3)).max() < _SAME_PRIMARIES:
        return image
    log.info("%s: its colours (gamma %g) are brought to sRGB", path, gamma)

    def convert(values: np.ndarray) -> np.ndarray:
        light = np.clip(values ** (1 / gamma) @ to_bt709_light.T, 0, 1)
        return light**_SRGB_GAMMA

    return _changed(image, convert)


def _changed(image: Image.Image, convert: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """The image with its colours [..., 3], in 0..1, converted. Its transparency stays."""
    pixels = np.array(image.convert("RGB"))
    for top in range(0, len(pixels), _ROWS):
        pixels[top : top + _ROWS] = np.round(convert(pixels[top : top + _ROWS] / 255.0) * 255).astype(np.uint8)
    return _with_alpha(Image.fromarray(pixels), image)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = str(source.profile.xcolor_space).strip()
    mode = _MODES.get(space)
    if mode is None:
        raise ValueError(f"a profile of {space}")
    if (mode == "CMYK") != (image.mode == "CMYK"):
        raise ValueError(f"a profile of {space} in a photo of {image.mode}")
    # A grey photo may carry the profile of a coloured one.
    colours = image if image.mode == mode else image.convert(mode)
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(
        colours, source, _srgb(), renderingIntent=intent, outputMode="RGB", flags=_FLAGS
    )
    assert converted is not None, "only an image changed in place gives None"
    return _with_alpha(converted, image)


def _with_alpha(colours: Image.Image, image: Image.Image) -> Image.Image:
    """The colours together with the transparency of the original photo."""
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        colours.putalpha(image.convert("RGBA").getchannel("A"))
    return colours


@functools.cache
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")
