"""Our control assembly against WanVACEPipeline itself, to the bit."""

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import WanVACEPipeline

from faceid.models.latents import encode_pixels, to_pixels
from faceid.vace import assemble_control, fold_mask, pose_control, split_by_mask

SIZE, FRAMES = 32, 9


def picture(seed, height=SIZE, width=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pipeline(toy_wan):
    pipe = WanVACEPipeline(toy_wan.tokenizer, toy_wan.text_encoder, toy_wan.vae, toy_wan.scheduler, toy_wan.transformer)
    return toy_wan, pipe


def pipeline_control(pipe, frames, mask, references):
    video = [PIL.Image.fromarray(frame) for frame in frames]
    masks = None if mask is None else [PIL.Image.fromarray(m) for m in mask]
    refs = [PIL.Image.fromarray(r) for r in references] or None
    size = (1, SIZE, SIZE, len(frames), torch.float32, torch.device("cpu"))
    video, masks, refs = pipe.preprocess_conditions(video, masks, refs, *size)
    latents = pipe.prepare_video_latents(video, masks, refs, None, torch.device("cpu"))
    return torch.cat([latents, pipe.prepare_masks(masks, refs)], dim=1), masks, refs


@pytest.mark.parametrize("num_references", [0, 1, 2])
@pytest.mark.parametrize("with_mask", [False, True])
def test_control_equals_the_pipelines(pipeline, num_references, with_mask):
    wan, pipe = pipeline
    frames = np.stack([picture(i) for i in range(FRAMES)])
    mask = None
    if with_mask:
        mask = np.zeros((FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
        for index in range(FRAMES):  # another region in every frame
            mask[index, 3 + index : 20 + index, 5:17] = 255
    references = [picture(100 + i, 48, 24) for i in range(num_references)]
    expected, mask_pixels, ready_references = pipeline_control(pipe, frames, mask, references)

    pixels = to_pixels(frames)
    inactive, reactive = split_by_mask(pixels, mask_pixels)
    halves = [wan.statistics.normalise(encode_pixels(wan.vae, half)) for half in (inactive, reactive)]
    folded = fold_mask(mask_pixels[0, 0], wan.geometry).unsqueeze(0)
    reference_latents = [
        wan.statistics.normalise(encode_pixels(wan.vae, r[None, :, None])) for r in ready_references[0]
    ]
    ours = assemble_control(*halves, folded, reference_latents)
    assert ours.shape[1] == wan.geometry.control_channels
    assert torch.equal(ours, expected)


def test_pose_control_equals_the_pipelines_from_cached_latents(pipeline):
    wan, pipe = pipeline
    frames = np.stack([picture(i) for i in range(FRAMES)])
    expected, _, _ = pipeline_control(pipe, frames, None, [])
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
