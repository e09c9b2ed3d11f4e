"""Find the people whom the flags ask for.

Photos, an embedding, names or a folder of people name them. Each is checked against the adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from faceid.config import build_section
from faceid.faces.identities.identity import Identity, load_identity
from faceid.faces.identities.photos_to_identity import make_identity
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.sampling.who.private_folder import private_folder
from faceid.sampling.who.rendered_identities import Face, check_identity, named_face, read_people
from faceid.sampling.who.shown_references import ShownReference, pictures_of
from faceid.sampling.who.who_settings import WhoSettings
from faceid.toy.shipped import resolve_encoder_path


def people_given(who: WhoSettings, metadata: AdapterMetadata | None, is_of_each: bool) -> list[str]:
    """The names of everyone in --identities_dir, checked; one empty name without it, or without a video of each."""
    if who.identities_dir is None or metadata is None or who.is_named:
        return [""]
    people = read_people(Path(who.identities_dir))
    for name, identity in people.items():
        check_identity(identity, metadata, f"identities_dir: {name}")
    return list(people) if is_of_each else [""]


def faces_by_name(
    who: WhoSettings, faces: FaceSettings, is_shown: bool
) -> Callable[[str, AdapterMetadata | None], Face]:
    """Return a function: the face of an identity's text, as in --identity; for an empty text the command line's."""

    def face_of(text: str, metadata: AdapterMetadata | None) -> Face:
        if not text:
            return face_given(who, faces, metadata, is_shown)
        if metadata is None:
            return Face()
        named = named_face(WhoSettings(identities_dir=who.identities_dir, identity=text), metadata)
        return named if is_shown else Face(references=named.references)

    return face_of


def face_given(who: WhoSettings, faces: FaceSettings, metadata: AdapterMetadata | None, is_shown: bool) -> Face:
    """The one person of the photos, the embedding or the names, checked; nobody when none is given or shown."""
    if who.is_named and metadata is not None:
        named = named_face(who, metadata)
        return named if is_shown else Face(references=named.references)
    identity, references = _identity(who.face_embedding, who.face_images_dir, faces, metadata)
    if identity is None or metadata is None:
        return Face()
    check_identity(identity, metadata, "face_embedding" if who.face_embedding else "face_images_dir")
    if not is_shown:
        return Face(references=references)
    return Face(identity.name, identity.embedding, references=references)


def _identity(
    embedding: str | None, photos_dir: str | None, faces: FaceSettings, metadata: AdapterMetadata | None
) -> tuple[Identity | None, tuple[ShownReference, ...]]:
    if embedding is not None:
        identity = load_identity(embedding)
        return identity, pictures_of(identity.references, in_memory=False)
    if photos_dir is None:
        return None, ()
    if metadata is not None and faces.encoder_path is None:
        # This is the adapter's own encoder, unless another is named. Another one is then refused if it differs.
        chosen = {**asdict(faces), "encoder": metadata.encoder, "encoder_path": metadata.encoder_path}
        faces = build_section(FaceSettings, chosen)
    faces = replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
    with private_folder() as folder:
        made = make_identity(Path(photos_dir), folder / "identity", faces)
        return made, pictures_of(made.references, in_memory=True)
