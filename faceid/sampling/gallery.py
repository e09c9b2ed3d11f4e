"""gallery.html of a rendered folder: posters that play under the mouse, filters, and what failed, with reasons.

It needs nothing but the folder it lies in: zip that, and it opens anywhere.
"""

from __future__ import annotations

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
from faceid.media.images import list_photos, read_photo
from faceid.media.video import read_video
from faceid.outputs import staged_file
from faceid.writing import write_atomic

log = logging.getLogger(__name__)

GALLERY_NAME, PARTS = "gallery.html", "gallery"
POSTER_PX, PHOTO_PX, PHOTOS_EACH = 480, 144, 4
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

    rows: lines of jobs.jsonl. references_dir: a folder of photos a person. scores: by id, from `--score`.
    """
    videos, failed, sizes = [], [], []
    for row in rows:
        if row["error"]:
            failed.append(row)
            continue
        poster, size = _poster(output_dir, row)
        sizes.append(size)
        known = {"prompt": "", "adapter": "", **row}
        videos.append({**known, "src": quote(row["output"]), "poster": quote(poster), "scores": _known(scores, row)})
    names = sorted({video["identity"] for video in videos if video["identity"]})
    people = [
        {"name": name, "photos": photos} for name in names if (photos := _photos(output_dir, references_dir, name))
    ]
    width, height = sizes[0] if sizes else (16, 9)
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
    write_atomic(path, html)
    return path


def _known(scores: Mapping[str, Mapping[str, Any]] | None, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a card says of a video's likeness; None for a video that was not scored."""
    scored = (scores or {}).get(row["id"])
    if scored is None:
        return None
    return {**scored, "has_face": scored["similarity"] is not None, "is_right": bool(scored["rank1"])}


def _poster(output_dir: Path, row: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """The poster's path in the folder, made where it is not there yet, and its size (width, height)."""
    name = f"{PARTS}/posters/{row['id']}.jpg"
    path = output_dir / name
    if not path.is_file():
        frames = read_video(output_dir / row["output"]).frames
        _save(frames[len(frames) // 2], path, POSTER_PX)
    with Image.open(path) as poster:
        return name, poster.size


def _photos(output_dir: Path, references_dir: Path | None, name: str) -> list[str]:
    """A person's first photos, small, inside the folder; none where there are none."""
    if references_dir is None or not (references_dir / name).is_dir():
        return []
    found = []
    for number, photo in enumerate(list_photos(references_dir / name)[:PHOTOS_EACH], start=1):
        part = f"{PARTS}/references/{name}_{number}.jpg"
        try:
            _save(read_photo(photo), output_dir / part, PHOTO_PX)
        except FaceidError as error:
            log.warning("not in the gallery: %s", error)
            continue
        found.append(quote(part))
    return found


def _save(pixels: np.ndarray, path: Path, longest_px: int) -> None:
    image = Image.fromarray(pixels)
    image.thumbnail((longest_px, longest_px))
    with staged_file(path) as temporary:
        image.save(temporary, quality=88)
