"""Whose face is rendered: read from its folder or file, named, and checked against the adapter before weights load."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from faceid.errors import DataError, ModelError
from faceid.faces.identity import EMBEDDING_FILE, Identity, check_folder_name, load_identity
from faceid.models.adapter_file import AdapterMetadata

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Face:
    """Who is rendered. Nobody in particular by default."""

    name: str = ""
    """What jobs.jsonl records; empty when no face is rendered."""
    embedding: Tensor | None = None
    """[D], unit length."""


def read_people(folder: Path) -> dict[str, Identity]:
    """Every person of a folder, by name, sorted: a subfolder is an identity folder, NAME.pt an embedding.

    Raises: DataError when there are none, when two have one name, when a name cannot be a folder's, or when an
    identity cannot be used.
    """
    if not folder.is_dir():
        raise DataError(
            f"identities_dir={folder}: no such folder; make it with prepare_face_embeddings.py --people_dir"
        )
    if (folder / EMBEDDING_FILE).is_file():
        raise DataError(f"identities_dir={folder}: is one person's; use --face_embedding, or name the folder above it")
    people: dict[str, Identity] = {}
    for path in folder.iterdir():
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".pt"):
            continue
        name = path.name if path.is_dir() else path.stem
        check_folder_name(name, f"identities_dir={folder}")
        if name in people:
            raise DataError(f"identities_dir={folder}: both {name}/ and {name}.pt are there; remove one of them")
        people[name] = load_identity(path)
    if not people:
        raise DataError(f"identities_dir={folder}: holds no identity folders and no .pt files; nobody to render")
    return dict(sorted(people.items()))


def check_identity(identity: Identity, metadata: AdapterMetadata, source: str) -> None:
    """Raises: ModelError unless the identity was made by the adapter's encoder. source: the key it was given by.

    A bare tensor says not which encoder made it, and is taken with a warning when its size fits.
    """
    if identity.encoder_fingerprint and identity.encoder_fingerprint != metadata.encoder_fingerprint:
        raise ModelError(
            f"{source}: made by encoder {identity.encoder} ({identity.encoder_fingerprint[:12]}), the adapter "
            f"was trained with {metadata.encoder} ({metadata.encoder_fingerprint[:12]}); use that encoder"
        )
    if len(identity.embedding) != metadata.face_embedding_dim:
        raise ModelError(
            f"{source}: {len(identity.embedding)} numbers, the adapter was trained with {metadata.face_embedding_dim}; "
            f"make the identity with its encoder, {metadata.encoder}"
        )
    if not identity.encoder_fingerprint:
        log.warning("%s: a bare tensor says not which encoder made it; the adapter wants %s", source, metadata.encoder)
