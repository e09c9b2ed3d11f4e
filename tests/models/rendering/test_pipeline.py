"""FaceIdentityPipeline against WanVACEPipeline: equal where it must be, different where it should be."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from adapter_inputs import write_adapter

from faceid.errors import ConfigError, ModelError
from faceid.models.adapter.adapter_file import read_adapter
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.base.wan import load_wan
from faceid.models.lora.lora_formats import lora_of_adapter
from faceid.models.lora.lora_writing import write_lora
from faceid.models.rendering.pipeline import FaceIdentityPipeline, draw_noise
from faceid.toy.shipped import resolve_model_path

LONGER_VIDEOS = pytest.mark.promise(
    "longer videos in windows, and a face that changes from frame to frame", bar="all checks pass", proof="sampling"
)

SIZE, FRAMES, STEPS, DIM = 32, 5, 3, 24


def pose_video(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


def stock_latents(pipeline, frames, references=None, cfg_scale=5.0, latents=None):
    stock = pipeline.base_pipeline
    stock.set_progress_bar_config(disable=True)
    return stock(
        prompt="a dance",
        negative_prompt="blurred",
        video=[PIL.Image.fromarray(frame) for frame in frames],
        reference_images=references,
        height=SIZE,
        width=SIZE,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        guidance_scale=cfg_scale,
        generator=torch.Generator("cpu").manual_seed(7),
        latents=latents,
        output_type="latent",
        # The toy tokenizer holds 64 tokens; the pipeline's own default of 512 is Wan's.
        max_sequence_length=64,
    ).frames


def our_latents(pipeline, frames, **options):
    chosen = {"cfg_scale": 5.0, **options}
    return pipeline(
        frames,
        prompt="a dance",
        negative_prompt="blurred",
        num_inference_steps=STEPS,
        seed=7,
        output_type="latent",
        **chosen,
    )


def with_trained_adapter(wan, settings):
    adapter = install_adapter(wan.transformer, settings, DIM)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return FaceIdentityPipeline(wan, adapter)


def face(seed=1):
    return torch.nn.functional.normalize(torch.randn(DIM, generator=torch.Generator().manual_seed(seed)), dim=0)


@pytest.mark.parametrize(("cfg_start", "forwards"), [(0.0, 6), (0.3, 5), (0.5, 4), (1.0, 3)])
def test_guidance_begins_after_its_share_of_the_steps(toy_wan, small_adapter_settings, cfg_start, forwards):
    pipeline, calls = with_trained_adapter(toy_wan, small_adapter_settings), []
    plain = our_latents(pipeline, pose_video(), face_embedding=face(), cfg_scale=1.0)
    toy_wan.transformer.register_forward_hook(lambda *_: calls.append(1))
    late = our_latents(pipeline, pose_video(), face_embedding=face(), cfg_start=cfg_start)
    assert len(calls) == forwards
    assert torch.equal(late, plain) == (cfg_start == 1.0)


def test_a_prompt_that_reaches_into_the_targets_words_is_warned_of(toy_wan, small_adapter_settings, caplog):
    pipeline = with_trained_adapter(toy_wan, replace(small_adapter_settings, target_words=40))
    pipeline.encode_prompts("a person dancing", "a " + "dancing " * 25)
    assert caplog.text == ""
    pipeline.encode_prompts("dancing " * 25, "")
    pipeline.encode_prompts("dancing " * 25, "")
    assert caplog.text.count("(target_words) begin after 24: its end") == 1


@pytest.mark.parametrize("cfg_scale", [1.0, 5.0])
def test_without_an_adapter_it_is_the_base_pipeline(toy_wan, cfg_scale):
    pipeline = FaceIdentityPipeline(toy_wan)
    frames = pose_video()
    expected = stock_latents(pipeline, frames, cfg_scale=cfg_scale)
    assert torch.equal(our_latents(pipeline, frames, cfg_scale=cfg_scale), expected)


def test_reference_images_as_the_base_pipeline(toy_wan):
    pipeline = FaceIdentityPipeline(toy_wan)
    references = [PIL.Image.fromarray(pose_video(seed)[0]).resize((40, 24)) for seed in (5, 6)]
    channels, *of_video = toy_wan.geometry.latent_shape(FRAMES, SIZE, SIZE)
    shape = (1, channels, len(references) + of_video[0], *of_video[1:])
    noise = draw_noise(shape, len(references), 7)
    # A video begins with the same noise whether it has references or not.
    assert torch.equal(noise[:, :, len(references) :], draw_noise((1, channels, *of_video), 0, 7))
    assert not torch.equal(noise[:, :, 0], noise[:, :, len(references)])
    expected = stock_latents(pipeline, pose_video(), references, latents=noise)[:, :, len(references) :]
    assert torch.equal(our_latents(pipeline, pose_video(), reference_images=references), expected)


@pytest.mark.promise(
    "the videos of a batch: at face_scale 0 WanVACEPipeline's, with the face those of one call each",
    bar="the same bytes; torch.equal",
    proof="sampling",
)
@pytest.mark.promise("face_scale 0 with a trained adapter is WanVACEPipeline", bar="torch.equal", proof="main")
def test_face_scale_zero_with_a_trained_adapter_is_the_base_pipeline(toy_wan, small_adapter_settings):
    frames = pose_video()
    expected = stock_latents(FaceIdentityPipeline(toy_wan), frames)
    pipeline = with_trained_adapter(toy_wan, small_adapter_settings)
    full = our_latents(pipeline, frames, face_embedding=face(), face_scale=1.0)
    assert not torch.equal(full, expected)
    assert torch.equal(our_latents(pipeline, frames, face_embedding=face(), face_scale=0.0), expected)
    assert torch.equal(our_latents(pipeline, frames, face_embedding=face(), face_scale=1.0), full)


def test_the_change_grows_with_face_scale(toy_wan, small_adapter_settings):
    pipeline, frames = with_trained_adapter(toy_wan, small_adapter_settings), pose_video()
    base = our_latents(pipeline, frames, face_scale=0.0)
    changes = [
        (our_latents(pipeline, frames, face_embedding=face(), face_scale=scale) - base).abs().mean().item()
        for scale in (0.25, 0.5, 1.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("face_scale, strength", [(0.5, 0.5), (1.0, 1.0), (1.5, 1.0)])
def test_the_lora_follows_face_scale_up_to_its_full_strength(toy_wan, small_adapter_settings, face_scale, strength):
    pipeline = with_trained_adapter(toy_wan, small_adapter_settings)
    layer, seen = toy_wan.transformer.blocks[0].attn1.to_q, []
    toy_wan.transformer.register_forward_hook(lambda *_: seen.append(layer.scaling["face"]))
    our_latents(pipeline, pose_video(), face_embedding=face(), face_scale=face_scale)
    assert seen == [pytest.approx(strength * small_adapter_settings.alpha / 4)] * 2 * STEPS


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(toy_wan):
    pipeline = FaceIdentityPipeline(toy_wan)
    first, again, other = (pipeline(pose_video(), num_inference_steps=2, seed=seed) for seed in (1, 1, 2))
    assert first.shape == (FRAMES, SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_what_cannot_be_is_refused(toy_wan, small_adapter_settings):
    with pytest.raises(ModelError, match="no adapter"):
        FaceIdentityPipeline(toy_wan)(pose_video(), face_embedding=face())
    pipeline = with_trained_adapter(toy_wan, small_adapter_settings)
    with pytest.raises(ModelError, match="encoder"):
        pipeline(pose_video(), face_embedding=torch.ones(5))
    with pytest.raises(ConfigError, match="use 5 or 9"):
        pipeline(np.zeros((7, SIZE, SIZE, 3), dtype=np.uint8), face_embedding=face())
    with pytest.raises(ConfigError, match="height=30"):
        pipeline(np.zeros((5, 30, SIZE, 3), dtype=np.uint8), face_embedding=face())
    with pytest.raises(ConfigError, match="face_scale"):
        pipeline(pose_video(), face_embedding=face(), face_scale=-0.1)


def test_outside_its_steps_the_face_is_off_and_the_base_renders(toy_wan, small_adapter_settings):
    pipeline, frames = with_trained_adapter(toy_wan, small_adapter_settings), pose_video()
    was_on = []
    toy_wan.transformer.register_forward_pre_hook(lambda *_: was_on.append(pipeline.adapter._is_on))
    late = our_latents(pipeline, frames, face_embedding=face(), face_start=0.4, cfg_scale=1.0)
    early = our_latents(pipeline, frames, face_embedding=face(), face_end=0.4, cfg_scale=1.0)
    assert was_on == [False, False, True, True, True, False] and pipeline.adapter._is_on
    all_along, never = (
        our_latents(pipeline, frames, face_embedding=face(), face_scale=scale, cfg_scale=1.0) for scale in (1.0, 0.0)
    )
    results = [late, early, all_along, never]
    assert not any(torch.equal(a, b) for n, a in enumerate(results) for b in results[:n])
    assert (late - never).abs().mean() < (all_along - never).abs().mean()


@pytest.mark.slow
def test_guidance_of_the_face_alone(toy_wan, small_adapter_settings):
    pipeline, frames = with_trained_adapter(toy_wan, small_adapter_settings), pose_video()
    given = {"face_embedding": face()}
    nobody, plain = our_latents(pipeline, frames), our_latents(pipeline, frames, **given)
    calls = []
    toy_wan.transformer.register_forward_hook(lambda *_: calls.append(1))
    # Without any of it nobody in particular is rendered; with as much as the text has, what was there before.
    assert torch.equal(our_latents(pipeline, frames, face_guidance=0.0, **given), nobody)
    assert len(calls) == 3 * STEPS
    assert torch.allclose(our_latents(pipeline, frames, face_guidance=5.0, **given), plain, atol=1e-3)
    stronger = our_latents(pipeline, frames, face_guidance=8.0, **given)
    assert (stronger - nobody).abs().mean() > (plain - nobody).abs().mean() > 0
    calls.clear()
    our_latents(pipeline, frames, face_guidance=2.0, cfg_scale=1.0, **given)
    assert len(calls) == 2 * STEPS


@pytest.mark.parametrize("settings", [{}, {"face_modulation": True}])
@pytest.mark.slow
def test_blocks_have_strengths_of_their_own(toy_wan, small_adapter_settings, settings):
    pipeline = with_trained_adapter(toy_wan, replace(small_adapter_settings, **settings))
    adapter, frames, given = pipeline.adapter, pose_video(), {"face_embedding": face()}
    blocks = len(toy_wan.transformer.blocks)
    plain = our_latents(pipeline, frames, **given)
    adapter.set_block_strengths([0.0] * blocks)
    # The LoRA is still on: no face, but not the base.
    other_face = our_latents(pipeline, frames, face_embedding=face(2))
    none = our_latents(pipeline, frames, **given)
    assert torch.equal(none, other_face) and not torch.equal(none, plain)
    adapter.set_block_strengths([1.0] + [0.0] * (blocks - 1))
    one = our_latents(pipeline, frames, **given)
    assert not torch.equal(one, none) and not torch.equal(one, plain)
    adapter.set_block_strengths([1.0] * blocks)
    assert torch.equal(our_latents(pipeline, frames, **given), plain)
    with pytest.raises(ConfigError, match=f"face_block_scales: 3 numbers; the base has {blocks} main blocks"):
        adapter.set_block_strengths([1.0] * 3)


def test_reference_images_count_apart_from_the_pose(toy_wan):
    pipeline, frames = FaceIdentityPipeline(toy_wan), pose_video()
    given = {"reference_images": [PIL.Image.fromarray(pose_video(5)[0])]}
    plain = our_latents(pipeline, frames, **given)
    assert torch.equal(our_latents(pipeline, frames, reference_scale=1.0, control_scale=1.0, **given), plain)
    assert not torch.equal(our_latents(pipeline, frames, reference_scale=0.0, **given), plain)
    posed, unposed = (our_latents(pipeline, frames, reference_scale=1.0, control_scale=s, **given) for s in (1.0, 0.0))
    assert not torch.equal(posed, unposed)


@LONGER_VIDEOS
@pytest.mark.slow
def test_windows_of_a_long_pose_video_have_its_length(toy_wan):
    pipeline = FaceIdentityPipeline(toy_wan)
    frames = np.concatenate([pose_video(seed)[:4] for seed in range(6)] + [pose_video()[:1]])
    windowed = our_latents(pipeline, frames, window=3, overlap=1)
    assert windowed.shape == our_latents(pipeline, frames).shape == (1, 16, 7, 4, 4)
    assert torch.equal(our_latents(pipeline, frames, window=7), our_latents(pipeline, frames))
    assert torch.isfinite(windowed).all()


@LONGER_VIDEOS
@pytest.mark.parametrize("settings", [{}, {"face_modulation": True}])
@pytest.mark.slow
def test_a_face_may_change_from_frame_to_frame(toy_wan, small_adapter_settings, settings):
    pipeline, frames = with_trained_adapter(toy_wan, replace(small_adapter_settings, **settings)), pose_video()
    one, two = face(1), face(2)
    alone = our_latents(pipeline, frames, face_embedding=one)
    same = our_latents(pipeline, frames, face_embedding=torch.stack([one, one]))
    assert torch.allclose(same, alone, atol=1e-4)
    changing = our_latents(pipeline, frames, face_embedding=torch.stack([one, two]))
    other = our_latents(pipeline, frames, face_embedding=two)
    # Each frame is nearer to the video of its own face.
    nearer = [
        (changing[:, :, at] - own[:, :, at]).abs().mean() < (changing[:, :, at] - strange[:, :, at]).abs().mean()
        for at, own, strange in ((0, alone, other), (1, other, alone))
    ]
    # The modulation has no frames: there it is the mean face's.
    assert all(nearer) or settings
    assert not torch.equal(changing, alone) and not torch.equal(changing, other)
    # And what follows is as before.
    assert torch.equal(our_latents(pipeline, frames, face_embedding=one), alone)
    with pytest.raises(ModelError, match="3 faces for 2 latent frames"):
        our_latents(pipeline, frames, face_embedding=torch.stack([one, two, two]))


@LONGER_VIDEOS
@pytest.mark.slow
def test_a_changing_face_goes_with_its_frames_into_windows_and_guidance(toy_wan, small_adapter_settings):
    pipeline = with_trained_adapter(toy_wan, small_adapter_settings)
    frames = np.concatenate([pose_video(seed)[:4] for seed in range(4)] + [pose_video()[:1]])
    given = {
        "window": 3,
        "overlap": 1,
        "face_guidance": 2.0,
        "reference_images": [PIL.Image.fromarray(pose_video(5)[0])],
    }
    alone = our_latents(pipeline, frames, face_embedding=face(1), **given)
    same = our_latents(pipeline, frames, face_embedding=face(1).expand(6, -1), **given)
    assert torch.allclose(same, alone, atol=1e-3)
    late = torch.stack([face(1)] * 5 + [face(2)])
    changed = (our_latents(pipeline, frames, face_embedding=late, **given) - alone).abs().mean((0, 1, 3, 4))
    assert changed[-1] > 2 * changed[0]


@pytest.mark.slow
def test_offloaded_blocks_compute_the_same_whatever_is_done_with_the_adapter(small_adapter_settings, tmp_path):
    """Here the GPU is the CPU: what is moved, when, and that it changes nothing."""
    base = resolve_model_path("toy")
    files = [write_adapter(tmp_path / f"{seed}.safetensors", small_adapter_settings, seed) for seed in (2, 3)]
    files.append(write_adapter(tmp_path / "wider.safetensors", replace(small_adapter_settings, lora_rank=6), 4))
    modulated = replace(small_adapter_settings, face_modulation=True)
    files.append(write_adapter(tmp_path / "modulated.safetensors", modulated, 5))
    plain = FaceIdentityPipeline.from_pretrained(base, files[0])
    offloaded = FaceIdentityPipeline.from_pretrained(base, files[0], is_offloaded=True)
    moved = []
    for number, block in enumerate(offloaded.wan.transformer.blocks):
        to = block.to
        block.to = lambda *where, to=to, number=number, **more: moved.append(number) or to(*where, **more)
    frames = pose_video()
    for file in (*files, files[0]):
        for pipeline in (plain, offloaded):
            pipeline.use_adapter(file)
        # Loaded anew for an adapter of other sizes.
        assert all(hasattr(block, "_diffusers_hook") for block in offloaded.wan.transformer.blocks)
        for more in ({}, {"face_scale": 0.0}, {"step_cache": 0.5, "num_inference_steps": 6}):
            asked = {"num_inference_steps": 2, "cfg_scale": 2.0, "output_type": "latent", **more}
            assert torch.equal(plain(frames, face(), **asked), offloaded(frames, face(), **asked)), (file, more)
    assert set(moved) == set(range(len(offloaded.wan.transformer.blocks)))


def test_an_offloaded_block_is_there_when_its_modulation_begins(small_adapter_settings, tmp_path):
    """Modulation runs before the block's forward, in which diffusers brings the block."""
    modulated = replace(small_adapter_settings, face_modulation=True)
    file = write_adapter(tmp_path / "modulated.safetensors", modulated, 5)
    offloaded = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), file, is_offloaded=True)
    events = []
    for number, block in enumerate(offloaded.wan.transformer.blocks):
        group = block._diffusers_hook.get_hook("group_offloading").group
        bring, take = group.onload_, group.offload_
        group.onload_ = lambda bring=bring, number=number: events.append(("brought", number)) or bring()
        group.offload_ = lambda take=take, number=number: events.append(("taken", number)) or take()
        block.face_modulation.register_forward_pre_hook(lambda *_, number=number: events.append(("used", number)))
    offloaded(pose_video(), face(), num_inference_steps=1, cfg_scale=1.0, output_type="latent")
    there = set()
    for event, number in events:
        there = {"brought": there | {number}, "taken": there - {number}, "used": there}[event]
        assert event != "used" or number in there, f"block {number} is used and not there"
    assert ("used", 0) in events


@pytest.mark.promise(
    "the exported diffusers LoRA in WanVACEPipeline beside ours without the face",
    bar="latents within 1e-5",
    proof="model",
)
@pytest.mark.slow
def test_the_exported_lora_gives_diffusers_the_same_video(toy_path, small_adapter_settings, tmp_path):
    """The face adapter left out: what other tools can load of it does the same there."""
    settings = replace(small_adapter_settings, lora_alpha=6.0)
    path = write_adapter(tmp_path / "adapter.safetensors", settings)
    ours = FaceIdentityPipeline.from_pretrained(toy_path, path)
    blocks = len(ours.wan.transformer.blocks)
    mine = our_latents(ours, pose_video(), face_embedding=face(), face_block_scales=[0.0] * blocks)

    tensors, metadata = read_adapter(path)
    write_lora(tmp_path / "lora.safetensors", lora_of_adapter(tensors, metadata.settings.alpha), "diffusers")
    stock = FaceIdentityPipeline(load_wan(toy_path))
    base = stock_latents(stock, pose_video())
    pipeline = stock.base_pipeline
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    theirs = stock_latents(stock, pose_video())
    assert (theirs - base).abs().max() > 1e-2
    assert (mine - theirs).abs().max() <= 1e-5
