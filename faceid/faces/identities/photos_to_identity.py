"""Make an identity from photos in one call.

Commands use it that take a folder of photos instead of an identity.
"""

from __future__ import annotations

from pathlib import Path

from faceid.faces.encoders.face_encoders import FaceEncoder, load_encoder
from faceid.faces.identities.identity import Identity, check_photos, prepare_identity
from faceid.faces.identity_settings import FaceSettings


def encoder_of(settings: FaceSettings) -> FaceEncoder:
    """The encoder that the settings name, loaded."""
    return load_encoder(
        settings.encoder,
        settings.encoder_path,
        settings.encoder_device,
        mean=settings.onnx_mean,
        std=settings.onnx_std,
        colour=settings.onnx_colour,
    )


def make_identity(
    photos_dir: Path, output_dir: Path, settings: FaceSettings, encoder: FaceEncoder | None = None
) -> Identity:
    """Make an identity folder from photos, named after their folder."""
    name = photos_dir.resolve().name
    check_photos(photos_dir, settings.allow_few)  # before the encoder is loaded
    return prepare_identity(photos_dir, output_dir, name, encoder or encoder_of(settings), settings)
