"""Who the flags ask for: from photos, an embedding, names or a folder of people; each checked against the adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from faceid.config import build_section
from faceid.faces.identities.identity import Identity, load_identity
from faceid.faces.identities.photos_to_identity import make_identity
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.sampling.sampling_settings import SampleSettings
from faceid.sampling.who.private_folder import private_folder
from faceid.sampling.who.rendered_identities import Face, check_identity, named_face, read_people
from faceid.toy.shipped import resolve_encoder_path


def people_given(settings: SampleSettings, metadata: AdapterMetadata | None) -> list[str]:
    """The names of everyone of --identities_dir, checked; one empty name without it, or where the face is off."""
    if settings.identities_dir is None or metadata is None or settings.names_identities:
        return [""]
    people = read_people(Path(settings.identities_dir))
    for name, identity in people.items():
        check_identity(identity, metadata, f"identities_dir: {name}")
    return list(people) if settings.face_scale > 0 else [""]  # the base model renders everyone alike


def faces_by_name(settings: SampleSettings, faces: FaceSettings) -> Callable[[str, AdapterMetadata | None], Face]:
    """The face of an identity's text, as --identity says it; of an empty one that of the command line."""

    def face_of(text: str, metadata: AdapterMetadata | None) -> Face:
        if not text:
            return face_given(settings, faces, metadata)
        if metadata is None or settings.face_scale == 0:
            return Face()
        named = replace(settings, identity=text, identity_from=None, identity_to=None, face_embedding=None)
        return named_face(replace(named, face_images_dir=None), metadata)

    return face_of


def face_given(settings: SampleSettings, faces: FaceSettings, metadata: AdapterMetadata | None) -> Face:
    """The one person of the photos, the embedding or the names, checked; nobody when none is given or shown."""
    if settings.names_identities and metadata is not None:
        named = named_face(settings, metadata)
        return named if settings.face_scale > 0 else Face()
    identity = _identity(settings, faces, metadata)
    if identity is None or metadata is None:
        return Face()
    check_identity(identity, metadata, "face_embedding" if settings.face_embedding else "face_images_dir")
    return Face(identity.name, identity.embedding) if settings.face_scale > 0 else Face()


def _identity(settings: SampleSettings, faces: FaceSettings, metadata: AdapterMetadata | None) -> Identity | None:
    if settings.face_embedding is not None:
        return load_identity(settings.face_embedding)
    if settings.face_images_dir is None:
        return None
    if metadata is not None and faces.encoder_path is None:
        # The encoder the adapter was trained with, unless another is named (and then refused if it differs).
        chosen = {**asdict(faces), "encoder": metadata.encoder, "encoder_path": metadata.encoder_path}
        faces = build_section(FaceSettings, chosen)
    faces = replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
    with private_folder() as folder:
        return make_identity(Path(settings.face_images_dir), folder / "identity", faces)
