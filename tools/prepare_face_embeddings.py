"""Photos of one face to an identity folder: embedding, weights and a report of what each photo contributed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point
from faceid.faces.identity import check_photos, prepare_identity
from faceid.faces.identity_folder import check_output_folder
from faceid.faces.settings import FaceSettings
from faceid.logs import set_up_logging
from faceid.media import images


@dataclass(frozen=True)
class PhotoPaths:
    """Which photos, and where the identity goes."""

    face_images_dir: str
    """Folder with 3 to 20 photos of one person; 10 to 15 different ones are best."""
    output_dir: str
    """Identity folder to write; an earlier identity there is replaced."""
    identity_name: str | None = None
    """Name of the person. Default: the name of the photo folder."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check what can be checked cheaply, load the encoder once, write the identity."""
    sections = parse_sections(
        "prepare_face_embeddings.py", __doc__ or "", [PhotoPaths, FaceSettings], sys.argv[1:] if argv is None else argv
    )
    paths: PhotoPaths = sections[0]
    settings: FaceSettings = sections[1]
    set_up_logging()
    photos_dir, output_dir = Path(paths.face_images_dir), Path(paths.output_dir)
    name = photos_dir.resolve().name if paths.identity_name is None else paths.identity_name
    if not name.strip():
        raise ConfigError(f"identity_name={name!r}: is empty; name the person")
    check_photos(photos_dir, settings, images)
    check_output_folder(output_dir.resolve(), photos_dir)

    # Loading these takes seconds: only after the cheap checks.
    from faceid.data.identities import encoder_of
    from faceid.toy.base import resolve_encoder_path

    encoder = encoder_of(replace(settings, encoder_path=resolve_encoder_path(settings.encoder_path)))
    prepare_identity(photos_dir, output_dir, name, encoder, settings, images)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
