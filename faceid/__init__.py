"""faceid: face identity on Wan2.1-VACE, from photos and pose videos to rendered dances.

The names below are the public interface. Each is loaded when it is first used, because the libraries behind some of
them take seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from faceid.faces.identities.blend import blend_face_embeddings, interpolate_face_embeddings
    from faceid.faces.identities.identity import Identity, load_identity
    from faceid.models.adapter.face_tokens import FaceConditioningBlock
    from faceid.models.rendering.pipeline import FaceIdentityPipeline

_HOMES = {
    "FaceConditioningBlock": "faceid.models.adapter.face_tokens",
    "FaceIdentityPipeline": "faceid.models.rendering.pipeline",
    "Identity": "faceid.faces.identities.identity",
    "blend_face_embeddings": "faceid.faces.identities.blend",
    "interpolate_face_embeddings": "faceid.faces.identities.blend",
    "load_identity": "faceid.faces.identities.identity",
}
__all__ = [
    "FaceConditioningBlock",
    "FaceIdentityPipeline",
    "Identity",
    "blend_face_embeddings",
    "interpolate_face_embeddings",
    "load_identity",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'faceid' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
