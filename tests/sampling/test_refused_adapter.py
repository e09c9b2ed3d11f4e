"""An adapter that is refused once its modules are installed leaves nothing behind, and the next one is used whole."""

import numpy as np
import pytest
from adapter_inputs import EMBEDDING_DIM, write_adapter
from written_identities import unit_embedding

from faceid.errors import ModelError
from faceid.models.adapter.adapter_file import read_adapter, save_adapter
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.toy.shipped import resolve_model_path


def render(pipeline):
    face = unit_embedding(1, EMBEDDING_DIM) if pipeline.adapter is not None else None
    frames = np.full((5, 32, 48, 3), 90, np.uint8)
    return pipeline(frames, face, num_inference_steps=1, cfg_scale=1.0, output_type="latent")


@pytest.fixture
def files(small_adapter_settings, tmp_path):
    """A good adapter, and one that is whole in itself, of a base that is twice as wide."""
    good = write_adapter(tmp_path / "good.safetensors", small_adapter_settings)
    tensors, metadata = read_adapter(good)
    bad = tmp_path / "bad.safetensors"
    wide = {
        name: tensor.repeat(1, 2) if ".lora_A." in name else tensor.repeat(2, 1)
        for name, tensor in tensors.items()
        if not name.startswith("face_mapper.")
    }
    save_adapter(bad, {**tensors, **wide}, metadata)
    return good, bad


def test_after_a_refused_adapter_the_one_before_renders_as_it_did(files):
    good, bad = files
    pipeline = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), good)
    expected = render(pipeline)
    with pytest.raises(ModelError, match=r"bad\.safetensors: .* is \[.*256.*\], this model needs \[.*128.*\]"):
        pipeline.use_adapter(bad)
    pipeline.use_adapter(good)
    assert pipeline.adapter is not None and render(pipeline).equal(expected)


@pytest.mark.slow
def test_after_a_refused_adapter_the_base_is_bare(files):
    pipeline = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"))
    expected, names = render(pipeline), [name for name, _ in pipeline.wan.transformer.named_parameters()]
    with pytest.raises(ModelError, match="this model needs"):
        pipeline.use_adapter(files[1])
    pipeline.use_adapter(None)
    assert [name for name, _ in pipeline.wan.transformer.named_parameters()] == names
    assert render(pipeline).equal(expected)
