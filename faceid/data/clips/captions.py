"""Read captions of clips and photos: `NAME.txt` beside `NAME.mp4` or `NAME.jpg`, one prompt in UTF-8.

A caption lies beside the clip alone, because a pose video is drawn from the clip. Line breaks become spaces. Clips and
photos without a file of their own are trained with `--caption`.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from faceid.data.clip_settings import CaptionSettings
from faceid.errors import DataError
from faceid.files.documents import DocumentError, read_bytes

if TYPE_CHECKING:
    from faceid.data.shards.index import ShardIndex

log = logging.getLogger(__name__)

ENDING = ".txt"
# Bytes. Wan reads 512 tokens, so a longer file is no caption.
LARGEST_BYTES = 20_000
REMEDY = "write what is to be seen, remove the file, or give --caption_files ignore"


def find_caption(file: Path) -> Path | None:
    """The path of a clip's or photo's caption, if it has one. An entry that is no file is refused when it is read."""
    caption = file.with_suffix(ENDING)
    return caption if os.path.lexists(caption) else None


def read_caption(path: Path) -> str:
    """The text of a caption file, on one line. Raises: DataError when it is empty, too long, or not UTF-8 text."""
    try:
        data = read_bytes(path, LARGEST_BYTES)
    except DocumentError as error:
        raise DataError(f"{path}: {error}, where a caption is looked for; {REMEDY}") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "no file (a folder, pipe or broken link)"
        raise DataError(f"{path}: {what}, where a caption is looked for; {REMEDY}") from error
    except OSError as error:
        raise DataError(f"{path}: the caption cannot be read ({error.strerror}); {REMEDY}") from error
    try:
        text = " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the caption is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if not any(unicodedata.category(character)[0] in "LNPS" for character in text):
        # Zero-width spaces, marks and joiners alone show nothing either.
        raise DataError(f"{path}: the caption is empty; {REMEDY}")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise DataError(f"{path}: the caption holds control characters, as UTF-16 read as UTF-8; save it as UTF-8")
    return text


def read_captions(files: Mapping[str, Path | None]) -> dict[str, str]:
    """The captions of all with one of their own. files: caption file by key. Raises: DataError as `read_caption`."""
    return {key: read_caption(file) for key, file in files.items() if file is not None}


def say_captions(own: int, all_of_them: int, noun: str) -> None:
    """Report how many have a caption of their own. noun: clips or photos."""
    log.info("%d of %d %s have a caption of their own (NAME%s beside them)", own, all_of_them, noun, ENDING)


def say_strangers(folder: Path) -> None:
    """Report text files of a folder that caption nothing in it. A name may be mistyped."""
    texts = {file.name for file in folder.iterdir() if file.suffix.lower() == ENDING}
    others = sorted(texts - {file.with_suffix(ENDING).name for file in folder.iterdir() if file.name not in texts})
    if others:
        log.info("%s: %d %s files are the caption of nothing there, such as %s", folder, len(others), ENDING, others[0])


def captions_for(index: ShardIndex, settings: CaptionSettings) -> str | dict[str, str]:
    """The captions with which latents of these clips are made, in the form that `write_latent_shards` takes."""
    if settings.caption_files == "ignore" and index.captions:
        return {sample.key: settings.caption for sample in index.samples}
    return settings.caption
