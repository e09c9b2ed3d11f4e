"""Encoders give unit embeddings from local files only, and say what is missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from drawn_faces import write_colour_model
from safetensors.torch import load_file, save_file

from faceid.errors import ModelError
from faceid.faces.encoders.face_encoders import initialise_clip, load_encoder, save_embedding_mean


def faces(count, seed=0):
    """Square crops of different sizes."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (s, s, 3), dtype=np.uint8) for s in 40 + 13 * np.arange(count)]


def test_clip_embeddings_are_unit_float32_and_independent_of_the_batch(tiny_clip):
    crops = faces(19)
    together = tiny_clip.embed(crops)
    alone = torch.cat([tiny_clip.embed([crop]) for crop in crops])
    assert together.shape == (19, tiny_clip.dim) == (19, 48) and together.dtype == torch.float32
    assert torch.allclose(together.norm(dim=1), torch.ones(19), atol=1e-6)
    assert torch.allclose(together, alone, atol=1e-5)


def test_clip_equals_transformers_own_processor_and_model(tiny_clip_folder, tiny_clip):
    crops = faces(3)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(tiny_clip_folder)
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(tiny_clip_folder)
    with torch.no_grad():
        expected = model(**processor(crops, return_tensors="pt")).image_embeds
    assert torch.allclose(tiny_clip.embed(crops), torch.nn.functional.normalize(expected, dim=1), atol=1e-5)


def test_no_face_gives_no_rows(tiny_clip):
    assert tiny_clip.embed([]).shape == (0, 48)


def test_initialise_clip_writes_the_same_bytes_and_leaves_the_generator_alone(tmp_path, tiny_clip_folder):
    config = transformers.CLIPVisionConfig.from_pretrained(tiny_clip_folder).to_diff_dict()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    initialise_clip(tmp_path / "again", config, seed=0)
    assert torch.rand(1) == expected
    names = ("model.safetensors", "preprocessor_config.json")
    assert all((tmp_path / "again" / n).read_bytes() == (tiny_clip_folder / n).read_bytes() for n in names)


def test_the_fingerprint_tells_weights_apart_and_not_places(tmp_path, tiny_clip_folder, tiny_clip):
    shutil.copytree(tiny_clip_folder, tmp_path / "copy")
    assert load_encoder("clip", tmp_path / "copy").fingerprint == tiny_clip.fingerprint
    config = transformers.CLIPVisionConfig.from_pretrained(tiny_clip_folder).to_diff_dict()
    initialise_clip(tmp_path / "other", config, seed=1)
    assert load_encoder("clip", tmp_path / "other").fingerprint != tiny_clip.fingerprint


def test_embeddings_are_centred_by_the_stored_mean(tmp_path, tiny_clip_folder, tiny_clip):
    shutil.copytree(tiny_clip_folder, tmp_path / "centred")
    crops = faces(6)
    mean = tiny_clip.embed(crops).mean(0)
    save_embedding_mean(tmp_path / "centred", mean)
    encoder = load_encoder("clip", tmp_path / "centred")
    expected = torch.nn.functional.normalize(tiny_clip.embed(crops) - mean, dim=1)
    assert torch.allclose(encoder.embed(crops), expected, atol=1e-4)
    assert encoder.fingerprint != tiny_clip.fingerprint


def test_a_mean_of_another_size_is_refused(tmp_path, tiny_clip_folder):
    shutil.copytree(tiny_clip_folder, tmp_path / "centred")
    save_embedding_mean(tmp_path / "centred", torch.zeros(7))
    with pytest.raises(ModelError, match="embedding_mean"):
        load_encoder("clip", tmp_path / "centred")


def test_a_whole_clip_checkpoint_serves_as_encoder(tmp_path):
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 99,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    # As in the published checkpoint, the vision part knows the size of the projection too.
    vision["projection_dim"] = 24
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    assert load_encoder("clip", tmp_path).embed(faces(2)).shape == (2, 24)


def test_dinov3_gives_its_class_token(tmp_path):
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    transformers.DINOv3ViTModel(config).save_pretrained(tmp_path)
    encoder = load_encoder("dinov3", tmp_path)
    embeddings = encoder.embed(faces(3))
    assert encoder.name == "dinov3" and embeddings.shape == (3, 32)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3), atol=1e-6)


@pytest.fixture
def tiny_dinos(tmp_path):
    """A folder of each DINO."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(tmp_path / "dinov2")
    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes)).save_pretrained(tmp_path / "dinov3")
    return tmp_path


def test_dinov2_gives_unit_embeddings_whatever_the_batch(tiny_dinos):
    encoder, crops = load_encoder("dinov2", tiny_dinos / "dinov2"), faces(9)
    together = encoder.embed(crops)
    assert (encoder.name, encoder.dim, together.shape) == ("dinov2", 32, (9, 32))
    assert torch.allclose(together.norm(dim=1), torch.ones(9), atol=1e-6)
    assert torch.allclose(together, torch.cat([encoder.embed([crop]) for crop in crops]), atol=1e-5)


@pytest.mark.parametrize(("asked", "given"), [("dinov2", "dinov3"), ("dinov3", "dinov2")])
def test_one_dino_is_not_taken_for_the_other(tiny_dinos, asked, given):
    with pytest.raises(ModelError, match=rf"not a {asked} encoder: .*model_type={given}.*; use --encoder {given}, or"):
        load_encoder(asked, tiny_dinos / given)


def test_clip_is_not_taken_for_a_dino(tiny_clip_folder):
    with pytest.raises(ModelError, match=r"not a dinov2 encoder: .*model_type=clip\w*; use --encoder clip"):
        load_encoder("dinov2", tiny_clip_folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_dino_folder_whose_config_says_nothing_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: does not say which model it is of"):
        load_encoder("dinov2", tmp_path)


def test_weights_of_another_architecture_are_refused(tiny_clip_folder, tmp_path):
    shutil.copytree(tiny_clip_folder, tmp_path / "x")
    tensors = load_file(tmp_path / "x" / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "x" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not a clip encoder: .*visual_projection"):
        load_encoder("clip", tmp_path / "x")


def test_damaged_weights_are_refused(tiny_clip_folder, tmp_path):
    shutil.copytree(tiny_clip_folder, tmp_path / "x")
    file = tmp_path / "x" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="clip encoder that can be loaded"):
        load_encoder("clip", tmp_path / "x")


def test_without_its_preprocessing_file_the_published_one_is_used_and_said(
    tiny_clip_folder, tmp_path, tiny_clip, caplog
):
    shutil.copytree(tiny_clip_folder, tmp_path / "x")
    (tmp_path / "x" / "preprocessor_config.json").unlink()
    encoder = load_encoder("clip", tmp_path / "x")
    assert torch.equal(encoder.embed(faces(2)), tiny_clip.embed(faces(2)))
    assert "no preprocessor_config.json" in caplog.text


def test_a_missing_hub_model_says_how_to_get_it():
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        load_encoder("clip", "nobody/nothing")


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """Whatever the machine's hub cache holds, this one holds nothing."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("empty_cache")
def test_the_gated_model_says_each_step_to_get_it():
    with pytest.raises(ModelError) as refusal:
        load_encoder("dinov3")
    name = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    steps = [f"accept the licence at https://huggingface.co/{name}", "`hf auth login`", f"`hf download {name}`"]
    places = [str(refusal.value).index(step) for step in [*steps, "--encoder dinov2"]]
    assert places == sorted(places)


@pytest.mark.usefixtures("empty_cache")
def test_the_free_one_names_its_published_model():
    with pytest.raises(ModelError, match="run `hf download facebook/dinov2-large`") as refusal:
        load_encoder("dinov2")
    assert "gated" not in str(refusal.value)


def test_what_is_neither_a_folder_nor_a_hub_name_is_refused():
    with pytest.raises(ModelError, match="my encoder: no such folder"):
        load_encoder("clip", "my encoder")


def test_an_encoder_that_needs_a_file_is_refused_without_one():
    with pytest.raises(ModelError, match=r"encoder=onnx: needs --encoder_path, the \.onnx file of a face recogniser"):
        load_encoder("onnx")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        load_encoder("clip", tmp_path / "absent")


@pytest.mark.starts_process
@pytest.mark.slow
def test_the_default_model_is_found_in_the_hub_cache_without_a_network(tmp_path, tiny_clip_folder):
    repository = tmp_path / "hub" / "models--openai--clip-vit-large-patch14"
    revision = "0" * 40
    shutil.copytree(tiny_clip_folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    code = "from faceid.faces.encoders.face_encoders import load_encoder; print('dim', load_encoder('clip').dim)"
    # The cache's place is read when huggingface_hub is imported, hence a process of its own.
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        environment = {
            **os.environ,
            "HF_HOME": str(tmp_path),
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
        }
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
        assert "dim 48" in run.stdout, run.stderr
        # Nobody knocked at the hub's door.
        with pytest.raises(BlockingIOError):
            hub.accept()


@pytest.mark.parametrize("shape", [["N", 3, 32, 32], [1, 3, 32, 32], ["N", 32, 32, 3], ["N", 3, "H", "W"]])
def test_onnx_reads_layout_size_and_batch_from_the_file(tmp_path, shape):
    encoder = load_encoder("onnx", write_colour_model(tmp_path / "m.onnx", shape))
    red, blue = np.zeros((50, 50, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    expected = torch.tensor([[1.0, -1, -1], [-1, -1, 1]]) / 3**0.5
    assert torch.allclose(encoder.embed([red, blue]), expected, atol=1e-6)


def test_onnx_colour_order_and_range_can_be_set(tmp_path):
    file = write_colour_model(tmp_path / "m.onnx", ["N", 3, 32, 32])
    encoder = load_encoder("onnx", file, mean=0.0, std=255.0, colour="bgr")
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert encoder.embed([red])[0].tolist() == [0.0, 0.0, 1.0]
    assert encoder.fingerprint != load_encoder("onnx", file).fingerprint


@pytest.mark.parametrize("shape", [["N", 1, 32, 32], ["N", 3, 32, 48], [4, 3, 32, 32]])
def test_an_onnx_file_that_is_no_recogniser_is_refused(tmp_path, shape):
    file = tmp_path / "m.onnx"
    write_colour_model(file, shape)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_encoder("onnx", file)


def test_a_damaged_onnx_file_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_encoder("onnx", tmp_path / "m.onnx")


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install faceid\[onnx\]"):
        load_encoder("onnx", write_colour_model(tmp_path / "m.onnx", ["N", 3, 32, 32]))
