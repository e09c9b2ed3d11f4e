"""Make an identity folder from photos of one face, with each photo's weight and contribution; or of many people."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections, warn_of_unused
from faceid.errors import ConfigError, run_entry_point
from faceid.faces.identity_settings import FaceSettings
from faceid.logs import set_up_logging
from faceid.toy.shipped import resolve_encoder_path

log = logging.getLogger("faceid.tools.prepare_face_embeddings")

SOME_FAILED_EXIT_CODE = 1


@dataclass(frozen=True)
class PhotoPaths:
    """Which photos, and where the identity goes."""

    output_dir: str
    """Identity folder to write. An earlier identity there is replaced. With --people_dir: the folder of all of them."""
    face_images_dir: str | None = None
    """Folder with 3 to 20 photos of one person. 10 to 15 different ones are best."""
    people_dir: str | None = None
    """Instead: a folder of such folders, one for each person, who is named after it. Current identities stay."""
    identity_name: str | None = None
    """Name of the person. Default: the name of the photo folder."""

    def __post_init__(self) -> None:
        if self.people_dir is not None:
            for name in ("face_images_dir", "identity_name"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}: has no meaning with --people_dir, whose folders name the people")
        elif self.face_images_dir is None:
            raise ConfigError("face_images_dir: missing; give one person's photos, or --people_dir")


def main(argv: list[str] | None = None) -> int:
    """Parse, check what can be checked cheaply, load the encoder once, write the identities."""
    sections = parse_sections(
        "prepare_face_embeddings.py", __doc__ or "", [PhotoPaths, FaceSettings], sys.argv[1:] if argv is None else argv
    )
    paths: PhotoPaths = sections[0]
    settings: FaceSettings = sections[1]
    # Heavy imports come only once the command line is known to be good.
    from faceid.faces.identities.identity import check_photos, prepare_identity
    from faceid.faces.identities.identity_folder import check_output_folder
    from faceid.faces.identities.photos_to_identity import encoder_of

    set_up_logging()
    warn_of_unused([settings], settings.unused())
    output_dir = Path(paths.output_dir)
    if paths.people_dir is not None:
        return _prepare_people(Path(paths.people_dir), output_dir, settings)
    photos_dir = Path(paths.face_images_dir or "")
    name = photos_dir.resolve().name if paths.identity_name is None else paths.identity_name
    if not name.strip():
        raise ConfigError(f"identity_name={name!r}: is empty; name the person")
    check_photos(photos_dir, settings.allow_few)
    check_output_folder(output_dir, photos_dir)
    prepare_identity(photos_dir, output_dir, name, encoder_of(_resolved(settings)), settings)
    return 0


def _prepare_people(people_dir: Path, output_dir: Path, settings: FaceSettings) -> int:
    from faceid.faces.identities.people_folder import prepare_people
    from faceid.faces.identities.photos_to_identity import encoder_of

    people = prepare_people(people_dir, output_dir, settings, lambda: encoder_of(_resolved(settings)))
    log.info(
        "%d identities made, %d current already, %d failed, in %s",
        *(len(names) for names in (people.made, people.current, people.failed)),
        output_dir,
    )
    return SOME_FAILED_EXIT_CODE if people.failed else 0


def _resolved(settings: FaceSettings) -> FaceSettings:
    return replace(settings, encoder_path=resolve_encoder_path(settings.encoder_path))


if __name__ == "__main__":
    run_entry_point(main)
