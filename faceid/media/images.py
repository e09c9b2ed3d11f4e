"""Read photos from files that people really have: safely into RGB, upright, or refused with the reason.

Pillow reads them. OpenCV never does, because it returns a grey half for a truncated JPEG without saying so. pillow-heif
reads HEIC where it is installed. Colours are brought to sRGB by the photo's own profile (`photo_colours`). The size is
checked from the header, before any pixel is decoded. The bytes and pixels of a photo bound its cost. Time is not
limited, since a decoder is one call that cannot be ended. This file knows nothing of faces.
"""

from __future__ import annotations

import functools
import importlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from faceid.errors import DataError
from faceid.files.given_paths import why_no_folder
from faceid.media.listing import check_file, entries_of, files_among, say_no_files, say_passed_over
from faceid.media.pixels.photo_colours import to_srgb

# fmt: off
PHOTO_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif", ".gif", ".pgm", ".ppm", ".pnm", ".pbm", ".jp2", ".tga",
))
# fmt: on

# The errors of Pillow's decoders for files that are not what they claim to be.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    # Raised for AVIF. Some other decoders raise its subclass NotImplementedError.
    RuntimeError,
    struct.error,
    zlib.error,
)

BITS_PER_SAMPLE_TAG = 258
# The first bytes of a HEIF file, whatever its name: iPhones write `heic`, cameras `heix`, many tools `mif1`.
HEIC_BRANDS = frozenset(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))
# The largest picture that `read_photo` takes by default, stored raw: 64 million pixels of four times 16 bits.
MAX_BYTES = 512_000_000


def list_photos(folder: Path) -> list[Path]:
    """Photo files directly in `folder`, by suffix, sorted by name. Hidden files are left out; others are reported.

    Raises: DataError when the folder is missing, is not a folder, or is closed to this user.
    """
    if (reason := why_no_folder(folder)) is not None:
        raise DataError(f"{folder}: {reason}; name a folder that holds the photos")
    photos, no_photos = files_among(entries_of(folder), PHOTO_SUFFIXES)
    say_no_files(str(folder), tuple(no_photos.items()))
    # A caption may lie beside its photo, so it is not reported.
    say_passed_over(
        folder,
        photos,
        "whose endings are not photos'",
        lambda path, stems: path.suffix.lower() == ".txt" and path.stem in stems,
    )
    return photos


def list_no_photos(folder: Path) -> dict[str, str]:
    """Names in `folder` that look like photos and are no files, with what they are instead."""
    return files_among(entries_of(folder), PHOTO_SUFFIXES)[1]


def read_photo(path: Path, max_pixels: int = 64_000_000) -> np.ndarray:
    """Decode one photo: sRGB uint8 [H, W, 3], upright (EXIF orientation applied), first frame of an animation.

    A colour profile is applied. For a broken one a message appears, and the photo is taken for sRGB. Transparency is
    laid on white. 16-bit and other deep greys are scaled to 8 bits, not clipped.
    max_pixels: largest H * W that is decoded. A header that claims more is refused unread.
    Raises: DataError with the reason when the file is missing, undecodable, truncated or too large.
    """
    size = check_file(path)
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size / 1e6:.0f} MB, above the limit of {MAX_BYTES / 1e6:.0f}; export it as JPEG")
    reads_heic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Pillow warns of oddities that it can read, which is fine. It raises for what it cannot read.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path) as image:
                _check_size(path, image, max_pixels)
                # The HEIC decoder applies the rotation itself and removes the tag.
                upright = ImageOps.exif_transpose(image)
                return _to_rgb(path, upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: too large to be a photo ({_one_line(error)}); scale it down") from error
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be decoded ({_reason(path, error)}); {_remedy(path)}") from error


@functools.cache
def reads_heic() -> bool:
    """Whether HEIC can be read: pillow-heif is installed (the extra `heic`).

    The first call registers it with Pillow.
    """
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def _check_size(path: Path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"{path}: has no pixels ({width}x{height}); leave it out")
    if width * height > max_pixels:
        found, limit = width * height / 1e6, max_pixels / 1e6
        raise DataError(
            f"{path}: {width}x{height} = {found:.1f} megapixels, above the limit of {limit:.1f}; scale it down"
        )


def _to_rgb(path: Path, image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(path, image)
    image = to_srgb(path, image)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _deep_grey_to_rgb(path: Path, image: Image.Image) -> np.ndarray:
    """Scale a grey image of more than 8 bits to sRGB uint8 [H, W, 3] by its file's own white.

    Pillow brings a ramp of the 256 greys to sRGB, and deeper greys are interpolated on that ramp. Pillow's own
    `convert("RGB")` clips deep greys at 255, which makes an ordinary 16-bit photo all white.
    """
    if image.mode == "F":
        raise DataError(f"{path}: floating-point picture without a stated white; save it as 8-bit PNG or JPEG")
    values = np.asarray(image).astype(np.int64)
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE_TAG, (16,))
    white = (1 << int(bits[0] if isinstance(bits, tuple) else bits)) - 1
    if values.min() < 0 or values.max() > white:
        raise DataError(f"{path}: values outside 0..{white}; save it as 8-bit PNG or JPEG")
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    ramp.info = image.info
    channels = np.array(to_srgb(path, ramp).convert("RGB"), np.float64)[0].T
    place = values * (255.0 / white)
    return np.stack([np.round(np.interp(place, np.arange(256), c)).astype(np.uint8) for c in channels], -1)


def _reason(path: Path, error: BaseException) -> str:
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format, or damaged at its start"
    return _one_line(error)


def _remedy(path: Path) -> str:
    with path.open("rb") as file:
        is_heic = file.read(12)[4:] in HEIC_BRANDS
    if is_heic and not reads_heic():
        return "HEIC needs pillow-heif: pip install 'faceid[heic]', or export it as JPEG or PNG"
    return "export it again as JPEG or PNG, or leave it out"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
