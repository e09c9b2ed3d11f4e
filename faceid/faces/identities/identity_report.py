"""Write report.html: every photo with its face, its weight and scores, or why it was dropped.

One file, no network. Only this output holds faces.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from faceid.faces.photos.photo_faces import Photo

CROP_PX = 128
CHOSEN_COLOUR, OTHER_COLOUR = (46, 160, 67), (230, 140, 20)


def render_identity_report(about: dict[str, Any], photos: list[Photo]) -> str:
    """HTML text.

    about: name, encoder, encoder_fingerprint, detector, aggregation. For photos that make an identity, about also holds
    dim, concentration and effective_photos. For refused photos it holds `refused`, the reason.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # Kept photos come first, heaviest first. The dropped ones follow by name.
    ordered = sorted(photos, key=lambda photo: (photo.dropped is not None, -photo.weight, photo.name))
    kept = sum(photo.dropped is None for photo in photos)
    rows = [_row(photo) for photo in ordered]
    template = environment.get_template("report.html.j2")
    return template.render(about=about, rows=rows, num_kept=kept, num_photos=len(photos))


def _row(photo: Photo) -> dict[str, Any]:
    return {
        "photo": photo,
        "thumbnail": _data_uri(_with_boxes(photo)) if photo.thumbnail is not None else None,
        "crop": _data_uri(_small_crop(photo.chosen.crop)) if photo.chosen is not None else None,
    }


def _with_boxes(photo: Photo) -> Image.Image:
    assert photo.thumbnail is not None
    image = Image.fromarray(photo.thumbnail)
    draw = ImageDraw.Draw(image)
    for candidate in photo.candidates:
        box = [value * photo.thumbnail_scale for value in candidate.face.box_xyxy]
        # The right and bottom edges are exclusive.
        inside = (box[0], box[1], max(box[2] - 1, box[0]), max(box[3] - 1, box[1]))
        draw.rectangle(inside, outline=CHOSEN_COLOUR if candidate is photo.chosen else OTHER_COLOUR, width=3)
    return image


def _small_crop(crop: np.ndarray) -> Image.Image:
    return Image.fromarray(crop).resize((CROP_PX, CROP_PX), Image.Resampling.LANCZOS)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
