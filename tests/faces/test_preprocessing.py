"""What an encoder sees is what the published processor of its model would show it: on drawn faces, and on real photos.

The references are transformers' own processors without torchvision (`...Pil`) for CLIP and DINOv2, whose processor is
BiT's. That of DINOv3 exists with torchvision only, which is not installed here: its steps are written out from
`DINOv3ViTImageProcessor` (scale to 0..1, resize, normalise), with the function that torchvision's resize calls.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper

from faceid.faces.encoders.encoder_kinds import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.faces.photos.detect import load_detector
from faceid.faces.photos.photo_faces import examine_photo
from faceid.media import images
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo

pytestmark = pytest.mark.promise(
    ("the encoders: pixels and embeddings beside transformers' own; the report on whether they tell people apart"),
    bar="pixels within 1e-4; all checks pass",
    proof="model",
)

# preprocessor_config.json as published with each model.
PUBLISHED = {
    # openai/clip-vit-large-patch14, from before sizes had names.
    "clip": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "size": 224,
    },
    # facebook/dinov2-large
    "dinov2": {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": IMAGENET_MEAN,
        "image_processor_type": "BitImageProcessor",
        "image_std": IMAGENET_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 256},
    },
    # facebook/dinov3-vitl16-pretrain-lvd1689m, with the class's defaults; what is left open is null.
    "dinov3": {
        "crop_size": None,
        "do_center_crop": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": IMAGENET_MEAN,
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "image_std": IMAGENET_STD,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": 224, "width": 224},
    },
}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_tiny(kind: str, folder, has_preprocessing: bool = True):
    """A random model of the published picture and patch size, and its preprocessing."""
    torch.manual_seed(4)
    if kind == "clip":
        config = transformers.CLIPVisionConfig(**TINY, image_size=224, patch_size=14, projection_dim=24)
        model = transformers.CLIPVisionModelWithProjection(config)
    elif kind == "dinov2":
        # Its position table is for 518 px and is interpolated to the 224 px it is given.
        config = transformers.Dinov2Config(
            **{k: v for k, v in TINY.items() if k != "intermediate_size"}, image_size=518, patch_size=14
        )
        model = transformers.Dinov2Model(config)
    else:
        model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**TINY, image_size=224, patch_size=16))
    model.eval().save_pretrained(folder)
    if has_preprocessing:
        (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED[kind]))
    return model


def reference_pixels(kind: str, folder, crops) -> torch.Tensor:
    """[N, 3, 224, 224] by the processor that was published with the model."""
    if kind == "dinov3":
        return torch.stack([dinov3_steps(crop) for crop in crops])
    processor_class = {"clip": transformers.CLIPImageProcessorPil, "dinov2": transformers.BitImageProcessorPil}[kind]
    return processor_class.from_pretrained(folder)(crops, return_tensors="pt")["pixel_values"]


def dinov3_steps(crop: np.ndarray) -> torch.Tensor:
    scaled = torch.from_numpy(crop).permute(2, 0, 1)[None].float() * (1 / 255)
    resized = torch.nn.functional.interpolate(scaled, (224, 224), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((resized - mean) / std)[0]


@pytest.fixture(scope="module")
def drawn_crops():
    """Drawn faces from a quarter of the encoders' size to twice it, odd sizes too."""
    return [render_photo(draw_person(seed), seed, size) for seed, size in enumerate((61, 112, 224, 301, 448))]


@pytest.fixture(scope="module")
def real_crops(real_data):
    """The faces of fifteen news photos, as the product cuts them."""
    detector = load_detector("haar")
    folders = [*sorted((real_data / "faces" / "lfw").iterdir()), real_data / "faces" / "obama"]
    photos = [path for folder in folders for path in images.list_photos(folder)[:3]]
    crops = [c.crop for path in photos for c in examine_photo(path, detector, 0.3).candidates]
    sides = [len(crop) for crop in crops]
    # Both ways of resizing are among them.
    assert len(crops) >= 15 and min(sides) < 224 and max(sides) > 256
    return crops


@pytest.fixture(params=["clip", "dinov2", "dinov3"])
def kind(request):
    return request.param


def assert_same_pixels(kind, folder, crops):
    write_tiny(kind, folder)
    encoder = load_encoder(kind, folder)
    ours = torch.stack([encoder.preprocessing(crop) for crop in crops])
    assert ours.shape == (len(crops), 3, 224, 224)
    difference = float((ours - reference_pixels(kind, folder, crops)).abs().max())
    # A grey level is 1/255/0.23 = 0.017 here. torch's resize takes its weights as float32: 5e-5 off.
    assert difference < (1e-4 if kind == "dinov3" else 1e-5)


def test_the_pixels_of_drawn_faces_are_the_reference_processors(kind, tmp_path, drawn_crops):
    assert_same_pixels(kind, tmp_path, drawn_crops)


@pytest.mark.real_data
def test_the_pixels_of_real_faces_are_the_reference_processors(kind, tmp_path, real_crops):
    assert_same_pixels(kind, tmp_path, real_crops)


def test_without_its_file_the_published_preprocessing_is_the_same(kind, tmp_path, drawn_crops, caplog):
    write_tiny(kind, tmp_path / "with")
    write_tiny(kind, tmp_path / "without", has_preprocessing=False)
    encoders = [load_encoder(kind, tmp_path / name) for name in ("with", "without")]
    assert f"using the published preprocessing of {kind}" in caplog.text
    assert encoders[0].fingerprint == encoders[1].fingerprint
    assert torch.equal(*(encoder.embed(drawn_crops) for encoder in encoders))


def test_embeddings_are_transformers_own_models_on_the_reference_pixels(kind, tmp_path, drawn_crops):
    model = write_tiny(kind, tmp_path)
    with torch.no_grad():
        output = model(pixel_values=reference_pixels(kind, tmp_path, drawn_crops))
    # Of a DINO the class token behind the last layer norm.
    expected = output.image_embeds if kind == "clip" else output.last_hidden_state[:, 0]
    embeddings = load_encoder(kind, tmp_path).embed(drawn_crops)
    assert torch.allclose(embeddings, torch.nn.functional.normalize(expected, dim=1), atol=1e-5)


def test_opencvs_own_recogniser_sees_what_an_onnx_encoder_sees(tmp_path, drawn_crops):
    """SFace's published use is cv2.FaceRecognizerSF: RGB, 0..255, nothing taken off."""
    file = write_sums_model(tmp_path / "sums.onnx")
    crops = [crop for crop in drawn_crops if len(crop) == 112]
    recogniser = cv2.FaceRecognizerSF.create(str(file), "")
    expected = [recogniser.feature(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[0] for crop in crops]
    embeddings = load_encoder("onnx", file, mean=0.0, std=1.0, colour="rgb").embed(crops)
    assert torch.allclose(embeddings, torch.nn.functional.normalize(torch.tensor(np.array(expected)), dim=1), atol=1e-5)


def write_sums_model(path):
    """A "recogniser" that is the mean colour of each of 16 cells, for a picture of 112x112."""
    picture = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])
    embedding = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 48])
    nodes = [
        helper.make_node("AveragePool", ["data"], ["cells"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["cells"], ["fc1"], axis=1),
    ]
    graph = helper.make_graph(nodes, "sums", [picture], [embedding])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path
