"""Settings of whose face is rendered. Field names are flag names."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class WhoSettings:
    """Whose face is rendered."""

    face_images_dir: str | None = None
    """3 to 20 photos of the face."""
    face_embedding: str | None = None
    """An identity folder or its identity_embedding.pt, instead of photos."""
    identities_dir: str | None = None
    """A folder of people, an identity folder or NAME.pt each. With --batch every pose is rendered as every one. With
    --identity, or --identity_from and --identity_to, their names are looked up here."""
    identity: str | None = None
    """Who is rendered: a name of --identities_dir, a path, or a blend of several, anna:0.7,bob:0.3."""
    identity_from: str | None = None
    """The face at the video's beginning, which turns into that of --identity_to. As --identity."""
    identity_to: str | None = None
    """The face at the video's end."""

    @property
    def is_named(self) -> bool:
        """Whether names say who is rendered."""
        return self.identity is not None or self.identity_from is not None

    @property
    def is_somebody(self) -> bool:
        """Whether anybody in particular is rendered."""
        given = (self.face_images_dir, self.face_embedding, self.identities_dir)
        return self.is_named or any(one is not None for one in given)
