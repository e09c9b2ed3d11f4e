"""Who may judge: never the encoder that conditioned the renders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapter_inputs import write_adapter

from faceid.errors import ConfigError, ModelError
from faceid.evaluation.videos.recognisers import check_recogniser_names, know_gallery, load_recognisers
from faceid.evaluation.videos.reference_people import Reference
from faceid.faces.encoders.encoder_kinds import RECOGNISERS


class MeanColour:
    """Embeds a crop as its mean colour, so that cosines are known by hand."""

    name, fingerprint, dim = "colour", "0", 3

    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        colours = torch.tensor(np.array([face.mean(axis=(0, 1)) for face in faces]), dtype=torch.float32)
        return torch.nn.functional.normalize(colours, dim=1)


def person(name, *colours):
    crops = [np.full((8, 8, 3), colour, np.uint8) for colour in colours]
    return Reference(name, [], crops)


def test_a_person_is_the_mean_of_the_photos_and_strangers_are_everybody_elses():
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    known = know_gallery("colour", MeanColour(), [person("a", red, green), person("b", blue, red)])
    assert known.references == pytest.approx(np.array([[0.5, 0.5, 0], [0.5, 0, 0.5]]))
    # b's photos to a: 0 and 0.5; a's to b: 0.5 and 0.
    assert known.impostor_mean == pytest.approx([0.25, 0.25]) and known.impostor_std == pytest.approx([0.25, 0.25])


def test_the_conditioning_encoder_is_refused_by_fingerprint(settings):
    ((name, encoder),) = load_recognisers(settings().recognisers)
    with pytest.raises(ModelError, match="is the encoder the renders were conditioned on") as refusal:
        load_recognisers(settings(conditioning_fingerprint=encoder.fingerprint).recognisers)
    assert name in str(refusal.value)


def test_the_conditioning_encoder_is_refused_by_the_adapter(settings, small_adapter_settings, tmp_path):
    ((_, encoder),) = load_recognisers(settings().recognisers)
    for fingerprint in (encoder.fingerprint, "another"):
        write_adapter(
            tmp_path / f"{fingerprint[:7]}.safetensors", small_adapter_settings, encoder_fingerprint=fingerprint
        )
    with pytest.raises(ModelError, match="conditioned on"):
        load_recognisers(settings(adapter=tmp_path / f"{encoder.fingerprint[:7]}.safetensors").recognisers)
    assert load_recognisers(settings(adapter=tmp_path / "another.safetensors").recognisers)


@pytest.mark.parametrize("name", ["clip", "arcface:x", "toy_something", "onnx:"])
def test_an_unknown_recogniser_is_refused_with_the_known_ones(settings, name):
    known = ", ".join([*RECOGNISERS, "toy_recogniser"])
    with pytest.raises(ConfigError, match=f"{name!r} is none; use {known}"):
        check_recogniser_names([name])
    with pytest.raises(ConfigError, match=f"{name!r} is none"):
        load_recognisers(settings(recognisers=[name]).recognisers)
