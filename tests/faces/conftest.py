"""Tiny real encoders and a folder of drawn photos."""

from __future__ import annotations

import pytest
from drawn_faces import draw_photo, write_colour_model

TINY_CLIP = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
    "projection_dim": 48,
}


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory):
    from faceid.faces.encoders.face_encoders import initialise_clip

    folder = tmp_path_factory.mktemp("encoder") / "clip"
    initialise_clip(folder, TINY_CLIP, seed=0)
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tiny_clip_folder):
    from faceid.faces.encoders.face_encoders import load_encoder

    return load_encoder("clip", tiny_clip_folder)


@pytest.fixture(scope="session")
def colour_encoder(tmp_path_factory):
    """Embeds a face as its mean colour, through onnxruntime."""
    from faceid.faces.encoders.face_encoders import load_encoder

    return load_encoder("onnx", write_colour_model(tmp_path_factory.mktemp("onnx") / "c.onnx", ["N", 3, 32, 32]))


@pytest.fixture
def photos(tmp_path):
    """Eight different reddish photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(8):
        draw_photo(folder / f"p{index}.png", (200, 70 + 2 * index, 60), seed=index)
    return folder
