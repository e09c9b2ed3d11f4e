"""Our control assembly against WanVACEPipeline itself, to the bit."""

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import WanVACEPipeline

from faceid.models.base.initialise import initialise_base
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.models.base.wan import load_wan
from faceid.models.wan_vace.control import assemble_control, control_channels, mask_channels, pose_control
from faceid.toy.shipped import BASE_CONFIGS

pytestmark = pytest.mark.promise("control tensor equals WanVACEPipeline's", bar="torch.equal", proof="main")

SIZE, FRAMES = 32, 9


def picture(seed, height=SIZE, width=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def wan_8x(tmp_path_factory):
    """A tiny base with Wan2.1's own factors: 8x in space, 96 control channels."""
    vae = {**BASE_CONFIGS["vae"], "dim_mult": [1, 1, 1, 1], "temperal_downsample": [False, True, True]}
    transformer = {**BASE_CONFIGS["transformer"], "vace_in_channels": 96, "num_layers": 1, "vace_layers": [0]}
    folder = tmp_path_factory.mktemp("wan_8x") / "base"
    initialise_base(folder, {**BASE_CONFIGS, "vae": {**vae, "scale_factor_spatial": 8}, "transformer": transformer}, 1)
    return load_wan(folder)


@pytest.fixture(params=["toy_4x", "wan_8x"])
def pipeline(request, toy_wan, wan_8x):
    wan = toy_wan if request.param == "toy_4x" else wan_8x
    return wan, WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)


def pipeline_control(pipe, frames, references):
    video = [PIL.Image.fromarray(frame) for frame in frames]
    refs = [PIL.Image.fromarray(r) for r in references] or None
    size = (1, SIZE, SIZE, len(frames), torch.float32, torch.device("cpu"))
    video, masks, refs = pipe.preprocess_conditions(video, None, refs, *size)
    latents = pipe.prepare_video_latents(video, masks, refs, None, torch.device("cpu"))
    return torch.cat([latents, pipe.prepare_masks(masks, refs)], dim=1), refs


@pytest.mark.parametrize("num_references", [0, 1, 2])
def test_control_equals_the_pipelines(pipeline, num_references):
    wan, pipe = pipeline
    frames = np.stack([picture(i) for i in range(FRAMES)])
    references = [picture(100 + i, 48, 24) for i in range(num_references)]
    expected, ready_references = pipeline_control(pipe, frames, references)

    pixels = to_pixels(frames)
    halves = [wan.statistics.normalise(encode_pixels(wan.vae, half)) for half in (torch.zeros_like(pixels), pixels)]
    mask = torch.ones(1, mask_channels(wan.geometry), *halves[0].shape[2:])
    reference_latents = [
        wan.statistics.normalise(encode_pixels(wan.vae, r[None, :, None])) for r in ready_references[0]
    ]
    ours = assemble_control(*halves, mask, reference_latents)
    assert ours.shape[1] == control_channels(wan.geometry)
    assert torch.equal(ours, expected)


def test_pose_control_equals_the_pipelines_from_cached_latents(pipeline):
    wan, pipe = pipeline
    frames = np.stack([picture(i) for i in range(FRAMES)])
    expected, _ = pipeline_control(pipe, frames, [])
    pose = encode_pixels(wan.vae, to_pixels(frames))
    inactive = encode_pixels(wan.vae, torch.zeros(1, 3, FRAMES, SIZE, SIZE))
    ours = pose_control(wan.statistics.normalise(pose), wan.statistics.normalise(inactive), wan.geometry)
    assert torch.equal(ours, expected)


def test_the_last_reference_comes_first():
    half = torch.zeros(1, 2, 1, 2, 2)
    references = [torch.full((1, 2, 1, 2, 2), float(value)) for value in (1, 2)]
    control = assemble_control(half, half, torch.ones(1, 4, 1, 2, 2), references)
    assert control[0, 0, :, 0, 0].tolist() == [2.0, 1.0, 0.0]
    assert control[0, -1, :, 0, 0].tolist() == [0.0, 0.0, 1.0]
