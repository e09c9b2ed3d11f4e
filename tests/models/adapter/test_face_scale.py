"""face_scale counts once: half of it is half of the face in every block, half of the modulation, half of the LoRA.

Measured inside one pass of a rendering, whatever place of the way from the flag to the block might count it again.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, train_a_little

from faceid.models.adapter.face_adapter import LORA_NAME, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.wan import load_wan
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.toy.shipped import resolve_model_path

pytestmark = pytest.mark.fault("planted: face_scale applied twice")
SETTINGS = AdapterSettings(
    conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, lora_alpha=6.0, face_modulation=True
)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipeline() -> FaceIdentityPipeline:
    wan = load_wan(resolve_model_path("toy"))
    adapter = install_adapter(wan.transformer, SETTINGS, EMBEDDING_DIM)
    train_a_little(adapter)
    wan.transformer.eval().requires_grad_(False)
    return FaceIdentityPipeline(wan, adapter)


def face(num_frames: int) -> torch.Tensor:
    """[D], or one for each latent frame."""
    drawn = torch.randn(num_frames, EMBEDDING_DIM, generator=torch.Generator().manual_seed(1))
    faces = torch.nn.functional.normalize(drawn, dim=1)
    return faces[0] if num_frames == 1 else faces


def seen_at(pipeline, module, face_scale, face_block_scales=None, num_faces=1, strength=None):
    """(inputs, output) of a module in the one pass with the face. strength: of the LoRA, forced on every layer."""
    seen, adapter = [], pipeline.adapter
    hook = module.register_forward_hook(lambda _, inputs, output: seen.append((inputs, output)))
    force = []
    if strength is not None:
        force.append(pipeline.wan.transformer.register_forward_pre_hook(lambda *_: adapter.set_lora_strength(strength)))
    try:
        pipeline(
            FRAMES,
            face(num_faces),
            face_scale=face_scale,
            cfg_scale=1.0,
            num_inference_steps=1,
            output_type="latent",
            face_block_scales=face_block_scales,
        )
    finally:
        for each in (hook, *force):
            each.remove()
        adapter.set_block_strengths([1.0] * len(pipeline.wan.transformer.blocks))
        adapter.set_lora_strength(1.0)
    assert len(seen) == 1
    return seen[0]


SCALES = (0.25, 0.5, 2.0)


@pytest.mark.parametrize("num_faces", [1, 2])
def test_half_the_scale_is_half_the_face_in_a_block(pipeline, num_faces):
    block = pipeline.wan.transformer.blocks[-1]
    others = [0.0] * (len(pipeline.wan.transformer.blocks) - 1)

    def output(face_scale: float, own: float) -> torch.Tensor:
        # Nothing but this block's face depends on the scale: the others' are off, and so is the LoRA. The modulation
        # of this block is before its text attention, so that its share is taken off with what comes in.
        block.face_modulation.up.weight.zero_()
        return seen_at(pipeline, block.attn2, face_scale, [*others, own], num_faces, strength=0.0)[1]

    kept = block.face_modulation.up.weight.clone()
    try:
        without = output(1.0, 0.0)
        whole = output(1.0, 1.0) - without
        assert whole.abs().max() > 1e-3
        for scale in SCALES:
            assert torch.allclose(output(scale, 1.0) - without, scale * whole, atol=1e-5), scale
        # A block's own strength multiplies it, once as well.
        assert torch.allclose(output(1.0, 0.5) - without, 0.5 * whole, atol=1e-5)
    finally:
        block.face_modulation.up.weight.copy_(kept)


def test_half_the_scale_is_half_the_modulation(pipeline):
    module = pipeline.wan.transformer.blocks[0].face_modulation
    (inputs, output) = seen_at(pipeline, module, 1.0)
    whole = output - inputs[1]
    assert whole.abs().max() > 1e-4
    for scale in SCALES:
        (inputs, output) = seen_at(pipeline, module, scale)
        assert torch.allclose(output - inputs[1], scale * whole, atol=1e-6), scale


@pytest.mark.parametrize(("face_scale", "strength"), [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_half_the_scale_is_half_the_lora_and_more_than_one_is_one(pipeline, face_scale, strength):
    layer = pipeline.adapter.lora_layers()[0]
    (inputs, output) = seen_at(pipeline, layer, face_scale)
    product = layer.lora_B[LORA_NAME](layer.lora_A[LORA_NAME](inputs[0]))
    added = output - layer.base_layer(inputs[0])
    assert product.abs().max() > 1e-4
    assert torch.allclose(added, strength * SETTINGS.alpha / SETTINGS.lora_rank * product, atol=1e-5)
