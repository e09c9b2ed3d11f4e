"""Read whose face is rendered from its folder or file.

The face is checked against the adapter before weights load.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from faceid.errors import DataError, ModelError
from faceid.faces.identities.blend import blend_face_embeddings, interpolate_face_embeddings
from faceid.faces.identities.identity import (
    EMBEDDING_FILE,
    Identity,
    check_folder_name,
    embeddings_sha256,
    load_identity,
)
from faceid.files.given_paths import why_no_folder
from faceid.media.listing import entries_of
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.sampling.who.shown_references import ShownReference, pictures_of
from faceid.sampling.who.who_settings import WhoSettings

log = logging.getLogger(__name__)

# Names, and the share of each.
Shares = tuple[tuple[str, float], ...]
# Of those in a message.
MOST_NAMES = 3


@dataclass(frozen=True)
class Face:
    """The person who is rendered. Default: nobody in particular."""

    name: str = ""
    """The name in jobs.jsonl; empty when no face is rendered."""
    embedding: Tensor | None = None
    """[D], unit length."""
    towards: Tensor | None = None
    """[D], unit length: the face at the video's end. None: the same face throughout."""
    shares: Shares = ()
    """Who is blended in `embedding`, by name, and each one's share of 1. Empty: `name` alone."""
    shares_towards: Shares = ()
    """The same of `towards`."""
    references: tuple[ShownReference, ...] = ()
    """Pictures of the best photos, best first. A blend has none."""

    def over(self, num_frames: int, num_references: int) -> Tensor | None:
        """[D], or with `towards` [references + latent frames, D]: along the great circle, evenly over the frames."""
        if self.embedding is None or self.towards is None:
            return self.embedding
        places = _places(num_frames, num_references)
        return torch.stack([interpolate_face_embeddings(self.embedding, self.towards, place) for place in places])

    def share_over(self, target: str, num_frames: int, num_references: int) -> float | Tensor:
        """How much of a person is in the face: a number, or with `towards` [references + latent frames].

        target: the person's name; empty for nobody, of whom there is nothing.
        """
        alone = ((self.name, 1.0),)
        first, last = _share_of(target, self.shares or alone), _share_of(target, self.shares_towards or alone)
        if self.towards is None:
            return first
        return torch.tensor([first + place * (last - first) for place in _places(num_frames, num_references)])

    def shares_of(self, target: str) -> list[float]:
        """`share_over` at the video's start and end; empty where there is nothing of the person."""
        found = torch.as_tensor(self.share_over(target, 2, 0)).flatten().tolist()
        return found if any(found) else []

    @property
    def sha256(self) -> str:
        """A hash of the person; empty for nobody in particular."""
        return embeddings_sha256(self._embeddings)

    @property
    def numbers(self) -> list[list[float]]:
        """The embeddings as numbers, for a hash."""
        return [one.tolist() for one in self._embeddings]

    @property
    def _embeddings(self) -> list[Tensor]:
        return [one for one in (self.embedding, self.towards) if one is not None]


def warn_of_others(adapter: str, metadata: AdapterMetadata, faces: Sequence[Face]) -> None:
    """Say where an adapter learnt one person's own words and tokens, and who is rendered may be somebody else.

    That is where nobody has that person's name, or who has it is not the identity that was trained on. adapter: its
    file, for the message.
    """
    target, known = metadata.target_name, metadata.target_sha256
    others = [face for face in faces if face.embedding is not None]
    alone = [face for face in others if face.towards is None and face.shares_of(target) == [1.0]]
    if known and any(face.sha256 != known for face in alone):
        log.warning(
            "%s: %s has another embedding here than the identity that it was trained on. What it learnt of %s alone is "
            "shown; if this is another person, give the identity another name",
            *(adapter, target, target),
        )
    if not target or not others or any(face.shares_of(target) for face in others):
        return
    names = ", ".join(sorted({face.name for face in others})[:MOST_NAMES])
    log.warning(
        "%s: what it learnt of %s alone is off, since nobody here has that name (%s). If it is the same person, give "
        "--face_embedding with that identity",
        *(adapter, target, names),
    )


def _places(num_frames: int, num_references: int) -> list[float]:
    """How far each latent frame is on the way from the first face to the last. References have the first."""
    return [0.0] * num_references + [place / max(num_frames - 1, 1) for place in range(num_frames)]


def _share_of(target: str, shares: Sequence[tuple[str, float]]) -> float:
    return sum(share for name, share in shares if target and name == target)


def check_people_folder(folder: Path) -> None:
    """Raises: DataError when the folder is missing, or is one person's own."""
    if (reason := why_no_folder(folder)) is not None:
        raise DataError(f"identities_dir={folder}: {reason}; make it with prepare_face_embeddings.py --people_dir")
    if (folder / EMBEDDING_FILE).is_file():
        raise DataError(f"identities_dir={folder}: is one person's; use --face_embedding, or name the folder above it")


def read_people(folder: Path) -> dict[str, Identity]:
    """Every person of a folder, by name, sorted: a subfolder is an identity folder, NAME.pt an embedding.

    Raises: DataError when there is nobody, two people have one name, a name cannot be a folder's, or an identity cannot
    be used.
    """
    check_people_folder(folder)
    people: dict[str, Identity] = {}
    for path in entries_of(folder, f"identities_dir={folder}"):
        if not (path.is_dir() or path.suffix == ".pt"):
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
    """Raises: ModelError unless the identity was made by the adapter's encoder. source: the key that gave it.

    A bare tensor does not say which encoder made it. It is accepted with a warning when its size fits.
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


def named_face(who: WhoSettings, metadata: AdapterMetadata) -> Face:
    """The face that --identity, or --identity_from and --identity_to, name.

    Raises: DataError for a missing name or an impossible blend; ModelError for another encoder.
    """
    folder = Path(who.identities_dir) if who.identities_dir is not None else None
    if who.identity is not None:
        embedding, shares, references = _blend("identity", who.identity, folder, metadata)
        return Face(who.identity, embedding, shares=shares, references=references)
    before, after = who.identity_from or "", who.identity_to or ""
    first, shares, _ = _blend("identity_from", before, folder, metadata)
    last, shares_towards, _ = _blend("identity_to", after, folder, metadata)
    return Face(f"{before} to {after}", first, last, shares, shares_towards)


def parse_blend(key: str, text: str) -> list[tuple[str, float]]:
    """Parse anna:0.7,bob:0.3 to names and weights. One name alone weighs 1. Raises: DataError for what is neither."""
    parts = [part.strip() for part in text.split(",")]
    # A person may be named 7, or a path may contain a colon.
    if len(parts) == 1 and (":" not in parts[0] or _weight(parts[0].rpartition(":")[2]) is None):
        return [(parts[0], 1.0)]
    found = []
    for part in parts:
        name, colon, weight = part.rpartition(":")
        number = _weight(weight)
        if not colon or not name or number is None:
            raise DataError(f"{key}={text}: {part!r} is not NAME:WEIGHT; write anna:0.7,bob:0.3")
        found.append((name, number))
    return found


def _weight(text: str) -> float | None:
    """A plain number, not negative. float would also accept nan, inf and 1_0."""
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text, re.ASCII) and len(text) < 20 else None


def _blend(
    key: str, text: str, folder: Path | None, metadata: AdapterMetadata
) -> tuple[Tensor, Shares, tuple[ShownReference, ...]]:
    """The embedding of a blend, the share of each identity by its own name, and the references of one alone."""
    parts = parse_blend(key, text)
    embeddings, names = [], []
    references: tuple[ShownReference, ...] = ()
    for name, _ in parts:
        identity = load_identity(_find(key, name, folder))
        check_identity(identity, metadata, f"{key}: {name}")
        embeddings.append(identity.embedding)
        names.append(identity.name)
        references = pictures_of(identity.references, in_memory=False)
    if len(parts) == 1:
        return embeddings[0], ((names[0], 1.0),), references
    weights = [weight for _, weight in parts]
    total = sum(weights)
    shares = tuple((name, weight / total) for name, weight in zip(names, weights, strict=True))
    return blend_face_embeddings(embeddings, weights), shares, ()


def _find(key: str, name: str, folder: Path | None) -> Path:
    """The path of an identity, by its name in a folder of people, or by its own path."""
    if folder is not None:
        for path in (folder / name, folder / f"{name}.pt"):
            if path.exists():
                return path
    if Path(name).exists():
        return Path(name)
    known = sorted(path.stem if path.suffix == ".pt" else path.name for path in folder.iterdir()) if folder else []
    near = difflib.get_close_matches(name, known, 1)
    where = f"not in {folder}, nor is it a path" if folder else "no such path; name its folder by --identities_dir"
    raise DataError(f"{key}={name}: {where}" + (f"; did you mean {near[0]}?" if near else ""))
