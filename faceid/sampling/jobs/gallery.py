"""Write gallery.html of a rendered folder.

It has posters that play under the mouse, filters, and failures with reasons. The page needs nothing but the folder
around it. A zip of the folder opens anywhere.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from PIL import Image

from faceid.errors import FaceidError
from faceid.files.outputs import staged_file, write_output
from faceid.files.provenance import sha256_json
from faceid.media.images import list_photos, read_photo
from faceid.media.listing import entries_of
from faceid.media.video import read_video
from faceid.sampling.jobs.job_folder import POSTERS

log = logging.getLogger(__name__)

GALLERY_NAME, PARTS = "gallery.html", "gallery"
POSTER_PX, PHOTO_PX, PHOTOS_EACH = 480, 144, 4
QUALITY, NAME_DIGITS = 88, 12
# Smaller videos are shown enlarged, and then without smoothing.
SMALL_PX = 160
FILTERS = ("identity", "pose", "seed", "prompt", "adapter")


def write_gallery(
    output_dir: Path,
    rows: Sequence[Mapping[str, Any]],
    references_dir: Path | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write gallery.html and its pictures.

    rows: lines of jobs.jsonl. references_dir: a folder of photos for each person. scores: by id, from `--score`.
    """
    videos, failed, first = [], [], None
    for row in rows:
        if row["error"]:
            failed.append(row)
            continue
        poster = _poster(output_dir, row)
        first = first or output_dir / poster
        known = {"prompt": "", "adapter": "", **row}
        videos.append({**known, "src": quote(row["output"]), "poster": quote(poster), "scores": _known(scores, row)})
    names = {video["identity"] for video in videos if video["identity"]}
    # A name comes from an identity's file, which may be anybody's. It is looked up, and never used as a path.
    folders = _folders(references_dir)
    people = [
        {"name": name, "photos": photos}
        for name in sorted(names & folders.keys())
        if (photos := _photos(output_dir, folders[name], sha256_json(name)[:NAME_DIGITS]))
    ]
    width, height = (16, 9) if first is None else _size(first)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    html = environment.get_template("gallery.html.j2").render(
        title=output_dir.resolve().name,
        made=time.strftime("%Y-%m-%d %H:%M"),
        videos=videos,
        failed=failed,
        people=people,
        has_scores=any(video["scores"] for video in videos),
        filters={name: sorted({str(video[name]) for video in videos}) for name in FILTERS},
        aspect=f"{width} / {height}",
        small=max(width, height) < SMALL_PX,
    )
    path = output_dir / GALLERY_NAME
    write_output(path, html)
    return path


def make_poster(frame: np.ndarray) -> bytes:
    """A small JPEG of a video's frame, uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    _small(frame, POSTER_PX).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _known(scores: Mapping[str, Mapping[str, Any]] | None, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The likeness for a video's card; None for a video that was not scored."""
    scored = (scores or {}).get(row["id"])
    if scored is None:
        return None
    return {**scored, "has_face": scored["similarity"] is not None, "is_right": bool(scored["rank1"])}


def _poster(output_dir: Path, row: Mapping[str, Any]) -> str:
    """The poster's path in the folder. Rendering keeps a poster; for older folders it is made here."""
    name = f"{POSTERS}/{row['id']}.jpg"
    path = output_dir / name
    if not path.is_file():
        frames = read_video(output_dir / row["output"]).frames
        write_output(path, make_poster(frames[len(frames) // 2]))
    return name


def _size(picture: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(picture) as opened:
        return opened.size


def _folders(references_dir: Path | None) -> dict[str, Path]:
    """The folder of each person who has one, by its name."""
    if references_dir is None or not references_dir.is_dir():
        return {}
    return {folder.name: folder for folder in entries_of(references_dir) if folder.is_dir()}


def _photos(output_dir: Path, folder: Path, person: str) -> list[str]:
    """A person's first photos, small, inside the output folder. person: tells their files from others' files."""
    found = []
    for number, photo in enumerate(list_photos(folder)[:PHOTOS_EACH], start=1):
        part = f"{PARTS}/references/{person}_{number}.jpg"
        try:
            pixels = read_photo(photo)
        except FaceidError as error:
            log.warning("not in the gallery: %s", error)
            continue
        with staged_file(output_dir / part) as temporary:
            _small(pixels, PHOTO_PX).save(temporary, quality=QUALITY)
        found.append(quote(part))
    return found


def _small(pixels: np.ndarray, longest_px: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((longest_px, longest_px))
    return image
