"""Make a folder of identities from a folder of people's photos.

One encoder serves all, and failures stop nobody else. Nothing is made twice. An identity folder that is current (same
photos, encoder and settings) stays unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faceid.errors import DataError, DiskError, one_line
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.identities.identity import (
    check_folder_name,
    check_photos,
    identity_is_current,
    load_identity,
    prepare_identity,
)
from faceid.faces.identities.identity_folder import IDENTITY, check_output_folder
from faceid.faces.identity_settings import FaceSettings
from faceid.files.given_paths import why_no_folder
from faceid.files.outputs import claim_folder, is_ours, kind_of, refuse_folder
from faceid.logs import progress
from faceid.media.listing import entries_of, say_passed_over

log = logging.getLogger(__name__)

# The content of the folder of all identities, in words.
IDENTITIES = "identities of people"


@dataclass
class PreparedPeople:
    """The result for each person, by the name of their folder."""

    made: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Name to reason."""

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Record a DataError inside the block as this person's failure, in one line, and go on."""
        try:
            yield
        except DiskError:
            raise
        except DataError as error:
            self.failed[name] = one_line(error)
            log.error("%s: not made: %s", name, self.failed[name])


def prepare_people(
    people_dir: Path, output_dir: Path, settings: FaceSettings, load_encoder: Callable[[], FaceEncoder]
) -> PreparedPeople:
    """Make `output_dir/<person>` of every subfolder of photos, named after it.

    load_encoder: called once, after all checks that can refuse without it.
    Raises: OutputError when `output_dir` holds what this command did not write, or cannot be written. Raises DataError
    when nothing at all can be done, and the ModelError and ConfigError of encoder and detector.
    """
    folders, people = find_people(people_dir, output_dir), PreparedPeople()
    inputs, ours = [people_dir, *folders], _of_before(output_dir)
    refuse_folder(output_dir, IDENTITIES, inputs, ours)
    for photos_dir in folders:
        with people.attempt(photos_dir.name):
            check_folder_name(photos_dir.name, f"people_dir={people_dir}")
            check_photos(photos_dir, settings.allow_few)
            check_output_folder(output_dir / photos_dir.name, photos_dir)
    usable = [photos_dir for photos_dir in folders if photos_dir.name not in people.failed]
    encoder = load_encoder() if usable else None
    if usable:
        claim_folder(output_dir, IDENTITIES, inputs, not settings.shared, ours)
    for photos_dir in progress(usable, "people", unit="person"):
        assert encoder is not None
        name, folder = photos_dir.name, output_dir / photos_dir.name
        with people.attempt(name):
            if _is_current(folder, photos_dir, encoder, settings):
                people.current.append(name)
            else:
                prepare_identity(photos_dir, folder, name, encoder, settings)
                people.made.append(name)
    if not people.made and not people.current:
        name, reason = next(iter(people.failed.items()))
        raise DataError(f"people_dir={people_dir}: no identity could be made of {len(folders)}; {name}: {reason}")
    return people


def _of_before(output_dir: Path) -> list[str]:
    """The entries of a folder of identities that has no mark of its own: made before 2026-12, or person by person.

    Such a folder may be continued. The entries are identity folders, leftovers of killed commands, and reports of
    refused photos.
    """
    if not output_dir.is_dir():
        return []
    return [
        path.name
        for path in output_dir.iterdir()
        if kind_of(path) == IDENTITY or path.name.startswith(".faceid-") or is_ours(path)
    ]


def find_people(people_dir: Path, output_dir: Path) -> list[Path]:
    """The folders of photos, sorted. Raises: DataError when there are none, or the output would become one of them."""
    if (reason := why_no_folder(people_dir)) is not None:
        raise DataError(f"people_dir={people_dir}: {reason}; it holds one folder of photos for each person")
    if people_dir.resolve() in (output_dir.resolve(), *output_dir.resolve().parents):
        raise DataError(f"output_dir={output_dir}: lies in people_dir, among the photos; choose another output folder")
    folders = [path for path in entries_of(people_dir, f"people_dir={people_dir}") if path.is_dir()]
    say_passed_over(
        people_dir, [], "which lie in no person's folder", lambda path, _: False, f"people_dir={people_dir}"
    )
    if not folders:
        raise DataError(
            f"people_dir={people_dir}: holds no folders, one for each person; a folder of photos is --face_images_dir"
        )
    return folders


def _is_current(folder: Path, photos_dir: Path, encoder: FaceEncoder, settings: FaceSettings) -> bool:
    """Whether there is nothing to do. An identity under another name, or a damaged one, is made again."""
    try:
        if not identity_is_current(folder, photos_dir, encoder, settings):
            return False
        return load_identity(folder).name == photos_dir.name
    except DataError as error:
        log.warning("%s; it is made again", one_line(error))
        return False
