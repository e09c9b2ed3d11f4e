"""A rendering leaves no trace in the model, whatever was asked for and however it ended."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, train_a_little
from module_digest import differences, random_state, state_of_module

from faceid.errors import ConfigError
from faceid.models.adapter.face_adapter import LORA_NAME, install_adapter
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.models.rendering.rendering_state import rendering

pytestmark = pytest.mark.promise(
    "a validation leaves no trace in a run, on one process, DDP and ZeRO-2, and when it is killed",
    bar="every tensor, scale, mode, hook and generator as before",
    proof="nothing_lost",
)

FACE = faces(2)
POSE = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
BASE, HALF = {"face_scale": 0.0}, {"face_scale": 0.5}
ASKED = {
    "the base": BASE,
    "half a face": HALF,
    "blocks of their own": {"face_block_scales": [0.5, 0.0, 0.25, 1.5, 1.0, 1.0]},
    "a face that changes": {"face_embedding": FACE},
    "a face for some of the steps": {"face_start": 0.4, "face_end": 0.7},
    "all at once": {
        **HALF,
        "face_embedding": FACE,
        "face_block_scales": [0.0] * 6,
        "step_cache": 5.0,
        "window": 1,
        "num_inference_steps": 3,
    },
}


@pytest.fixture
def pipeline(toy_wan, small_adapter_settings):
    """As within a run: in training mode, but for one part that somebody set apart."""
    adapter = install_adapter(toy_wan.transformer, replace(small_adapter_settings, face_modulation=True), EMBEDDING_DIM)
    train_a_little(adapter)
    toy_wan.transformer.train()
    toy_wan.transformer.blocks[1].eval()
    return FaceIdentityPipeline(toy_wan, adapter)


def state(pipeline):
    return {**state_of_module(pipeline.wan.transformer, pipeline.adapter), **random_state()}


def render(pipeline, **asked):
    given = {"face_embedding": FACE[0], "num_inference_steps": 2, "cfg_scale": 2.0, "output_type": "latent", **asked}
    return pipeline(POSE, **given)


@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.slow
def test_a_rendering_leaves_no_trace(pipeline, asked):
    before = state(pipeline)
    first = render(pipeline, **asked)
    assert differences(before, state(pipeline)) == []
    assert torch.equal(render(pipeline, **asked), first)


@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.slow
def test_nor_does_one_that_fails_half_way(pipeline, asked):
    def fail(done, total):
        raise OSError("the disk is full")

    before = state(pipeline)
    with pytest.raises(OSError, match="full"):
        render(pipeline, on_step=fail, **asked)
    assert differences(before, state(pipeline)) == []


@pytest.mark.fault("T2")
def test_one_that_is_refused_changes_nothing_either(pipeline):
    before = state(pipeline)
    with pytest.raises(ConfigError, match="face_block_scales: 2 numbers"):
        render(pipeline, face_scale=0.5, face_block_scales=[0.0, 0.0])
    assert differences(before, state(pipeline)) == []


@pytest.mark.fault("T2")
@pytest.mark.slow
def test_the_next_video_does_not_inherit_what_the_last_one_asked_for(pipeline):
    plain = render(pipeline)
    for asked in (BASE, HALF, ASKED["blocks of their own"]):
        assert not torch.equal(render(pipeline, **asked), plain)
        assert torch.equal(render(pipeline), plain)


def test_what_was_set_before_is_what_is_there_afterwards(pipeline):
    """Not the default: whoever set a strength by hand finds it again."""
    pipeline.adapter.set_block_strengths([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    pipeline.adapter.set_lora_strength(0.7)
    before = state(pipeline)
    render(pipeline, face_scale=0.0)
    assert differences(before, state(pipeline)) == []


@pytest.mark.slow
def test_the_digest_sees_each_thing_that_a_rendering_could_leave(pipeline):
    """A digest that sees nothing would make the tests above say nothing."""
    transformer, adapter = pipeline.wan.transformer, pipeline.adapter
    block, layer = transformer.blocks[0], adapter.lora_layers()[0]
    leave = [
        lambda: adapter.set_lora_strength(0.5),
        lambda: adapter.set_block_strengths([0.5] * 6),
        lambda: adapter.set_num_faces(2),
        lambda: adapter.switch(False),
        lambda: transformer.eval(),
        lambda: layer.enable_adapters(False),
        lambda: adapter.mapper.requires_grad_(False),
        lambda: block.register_forward_hook(lambda *_: None),
        lambda: setattr(block.attn2.processor, "num_faces", 3),
        lambda: block.attn2.to_k.base_layer.weight.data.add_(1),
        lambda: torch.rand(1),
        lambda: np.random.rand(),
    ]
    for number, change in enumerate(leave):
        before = state(pipeline)
        change()
        assert differences(before, state(pipeline)), number
        adapter.switch(True)


def test_inside_the_block_the_mode_is_eval_and_strengths_may_be_set(pipeline):
    transformer, adapter = pipeline.wan.transformer, pipeline.adapter
    before = state(pipeline)
    with rendering(transformer, adapter):
        assert not any(module.training for module in transformer.modules())
        with rendering(transformer, adapter):
            adapter.set_lora_strength(0.0)
        assert adapter.lora_layers()[0].scaling[LORA_NAME] > 0
        adapter.switch(False)
    assert differences(before, state(pipeline)) == []
