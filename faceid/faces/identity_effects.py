"""Options of turning photos into an identity that change nothing with the others."""

from __future__ import annotations

from collections.abc import Iterator

from faceid.config import Reason
from faceid.faces.identity_settings import FaceSettings

# What says how the photos of one person become an identity.
OF_IDENTITIES = ("aggregation", "allow_few", "check_one_person")


def of_faces(faces: FaceSettings, without_identity: str = "") -> Iterator[Reason]:
    """Those that detector and encoder do not use. without_identity: why no identity is made, where none is."""
    if without_identity:
        for name in OF_IDENTITIES:
            yield name, without_identity
    if faces.encoder != "onnx":
        for name in ("onnx_mean", "onnx_std", "onnx_colour"):
            yield name, "without --encoder onnx"
    if faces.detector != "yunet":
        yield "detector_path", "without --detector yunet"
