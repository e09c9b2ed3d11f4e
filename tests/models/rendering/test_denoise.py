"""The loop between noise and latents: who is asked what at which step, windows, schedulers and reference hints."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from faceid.errors import ConfigError
from faceid.models.rendering.denoise import (
    Conditions,
    LatentWindows,
    Predictor,
    _windows,
    denoise,
)
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.schedulers import SCHEDULERS, make_scheduler

pytestmark = pytest.mark.promise(
    "longer videos in windows, and a face that changes from frame to frame", bar="all checks pass", proof="sampling"
)

CPU = torch.device("cpu")
UNIPC = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


class Model:
    """Answers by a rule; keeps what it was asked. One cell is one token."""

    config = SimpleNamespace(patch_size=(1, 1, 1), vace_layers=[0, 1])
    dtype, device = torch.float32, CPU

    def __init__(self, rule):
        self.rule, self.asked = rule, []

    def __call__(self, **inputs):
        self.asked.append(inputs)
        return (self.rule(inputs),)


def conditions(frames=3, references=0):
    return Conditions(
        text=torch.full((1, 1, 1), 1.0),
        negative_text=torch.full((1, 1, 1), 2.0),
        face=None,
        null_face=None,
        control=torch.arange(references + frames, dtype=torch.float32).view(1, 1, -1, 1, 1).repeat(1, 1, 1, 2, 2),
        num_references=references,
    )


def noise(frames=3, seed=0):
    return torch.randn(1, 4, frames, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_all_schedulers_go_through_wans_noise_levels_and_end_at_what_a_straight_path_leads_to():
    found = {}
    for name, spec in SCHEDULERS.items():
        scheduler = make_scheduler(UNIPC, name, None)
        spec.set_steps(scheduler, 7, CPU)
        levels = scheduler.sigmas
        assert levels[-1] == 0 and len(scheduler.timesteps) == 7
        x0, start = noise(seed=1), noise()
        # From pure noise, as the loop does: the path is straight, whatever the first level is called.
        first = levels[0]
        model = Model(lambda inputs, first=first, x0=x0, start=start: (start - x0) / first)
        end = denoise(Predictor(model), scheduler, start, conditions(), Sampling(1.0, 1.0, 7, scheduler=name))
        assert torch.allclose(end, x0, atol=1e-4)
        found[name] = levels
    assert torch.allclose(found["unipc"], found["euler"], atol=1e-5)


def test_the_models_own_scheduler_is_taken_as_it_is_and_another_shift_makes_another():
    assert make_scheduler(UNIPC, "unipc", None) is UNIPC and make_scheduler(UNIPC, "unipc", 3.0) is UNIPC
    steeper = make_scheduler(UNIPC, "unipc", 5.0)
    for name, scheduler in (("unipc", steeper), ("euler", make_scheduler(UNIPC, "euler", 5.0))):
        SCHEDULERS[name].set_steps(scheduler, 4, CPU)
        u = torch.linspace(1, 1 / 1000, 5)[:-1]
        assert torch.allclose(scheduler.sigmas[:-1], 5 * u / (1 + 4 * u), atol=1e-5)
    with pytest.raises(ConfigError, match=f"scheduler=none_such: unknown; use {' or '.join(SCHEDULERS)}"):
        make_scheduler(UNIPC, "none_such", None)


@pytest.mark.parametrize(("frames", "size", "overlap"), [(10, 4, 1), (17, 6, 2), (9, 8, 3), (21, 5, 4)])
def test_windows_cover_everything_evenly_and_overlap_enough(frames, size, overlap):
    windows = list(_windows(frames, LatentWindows(size, overlap), CPU))
    assert windows[0].start == 0 and windows[-1].end == frames
    assert all(window.end - window.start == size == len(window.weights) for window in windows)
    shared = [before.end - after.start for before, after in pairwise(windows)]
    assert min(shared) >= overlap and max(shared) - min(shared) <= 1
    # One fewer would not do.
    assert (len(windows) - 1) * (size - overlap) + overlap < frames
    total = torch.zeros(frames)
    for window in windows:
        assert (window.weights > 0).all()
        total[window.start : window.end] += window.weights
    if overlap <= size // 2 and max(shared) <= size // 2:
        # Up and down are a partition of unity where two windows meet.
        assert torch.allclose(total, torch.ones(frames), atol=1e-6)


def test_a_window_as_long_as_the_video_is_no_window_and_windows_agree_where_the_model_does():
    """A model whose answer for a frame needs that frame alone: windows change nothing but rounding."""
    whole = denoise(Predictor(frame_by_frame()), UNIPC, noise(9), conditions(9), Sampling(1.0, 5.0, 4))
    same = denoise(Predictor(frame_by_frame()), UNIPC, noise(9), conditions(9), Sampling(1.0, 5.0, 4), LatentWindows(9))
    assert torch.equal(whole, same)
    windowed = denoise(
        Predictor(frame_by_frame()), UNIPC, noise(9), conditions(9), Sampling(1.0, 5.0, 4), LatentWindows(4, 2)
    )
    assert torch.allclose(windowed, whole, atol=1e-5)


def frame_by_frame():
    return Model(
        lambda inputs: inputs["hidden_states"] * inputs["control_hidden_states"].cos() * inputs["encoder_hidden_states"]
    )


def test_every_window_sees_the_references_and_its_own_part_of_the_pose():
    model = frame_by_frame()
    of_seven = conditions(7, references=2)
    end = denoise(Predictor(model), UNIPC, noise(2 + 7), of_seven, Sampling(1.0, 1.0, 1), LatentWindows(4, 1))
    assert end.shape == (1, 4, 9, 2, 2)
    seen = [asked["control_hidden_states"][0, 0, :, 0, 0].tolist() for asked in model.asked]
    # References are frames 0 and 1.
    assert seen == [[0, 1, 2, 3, 4, 5], [0, 1, 5, 6, 7, 8]]


def test_reference_hints_have_a_strength_of_their_own_and_equal_ones_stay_numbers():
    model = frame_by_frame()
    sampling = Sampling(1.0, 1.0, 1, control_scale=0.5, reference_scale=0.25)
    denoise(Predictor(model), UNIPC, noise(3), conditions(2, references=1), sampling)
    (asked,) = model.asked
    scale = asked["control_hidden_states_scale"]
    # Four tokens a frame, the reference first.
    assert scale.shape == (2, 1, 12, 1)
    assert scale[1, 0, :, 0].tolist() == [0.25] * 4 + [0.5] * 8
    equal = frame_by_frame()
    for reference_scale in (1.0, 0.5):
        sampling = Sampling(1.0, 1.0, 1, control_scale=0.5, reference_scale=reference_scale)
        denoise(Predictor(equal), UNIPC, noise(3), conditions(2, references=1), sampling)
    assert [asked["control_hidden_states_scale"].dim() for asked in equal.asked] == [4, 1]


def test_guidance_by_references_asks_without_them_and_leaves_them_alone():
    model = frame_by_frame()
    given = conditions(4, references=2)
    plain = {"cfg_scale": 3.0, "num_inference_steps": 1}
    found = denoise(Predictor(model), UNIPC, noise(6), given, Sampling(reference_guidance=True, **plain))
    with_face, unconditional = (asked["control_hidden_states"][0, 0, :, 0, 0].tolist() for asked in model.asked)
    assert (with_face, unconditional) == ([0, 1, 2, 3, 4, 5], [2, 3, 4, 5])
    both = denoise(Predictor(frame_by_frame()), UNIPC, noise(6), given, Sampling(**plain))
    alone = denoise(Predictor(frame_by_frame()), UNIPC, noise(6), given, Sampling(1.0, 1.0, 1))
    # This model looks at one frame at a time: the video is guided as ever, the references are not.
    assert torch.equal(found[:, :, 2:], both[:, :, 2:]) and torch.equal(found[:, :, :2], alone[:, :, :2])
    no_references = conditions(4)
    assert torch.equal(
        denoise(
            Predictor(frame_by_frame()), UNIPC, noise(4), no_references, Sampling(reference_guidance=True, **plain)
        ),
        denoise(Predictor(frame_by_frame()), UNIPC, noise(4), no_references, Sampling(**plain)),
    )


@pytest.mark.slow
def test_a_step_cache_leaves_out_inner_steps_alone_and_is_gone_afterwards(toy_wan, caplog):
    import logging

    from faceid.models.rendering.pipeline import FaceIdentityPipeline

    caplog.set_level(logging.INFO, "faceid")
    frames = torch.randint(0, 255, (5, 32, 32, 3), dtype=torch.uint8).numpy()
    pipeline, ran = FaceIdentityPipeline(toy_wan), []
    toy_wan.transformer.vace_blocks[0].attn1.register_forward_hook(lambda *_: ran.append(1))
    given = {"num_inference_steps": 10, "cfg_scale": 2.0, "output_type": "latent"}
    exact = pipeline(frames, **given)
    assert len(ran) == 20
    ran.clear()
    cached = pipeline(frames, step_cache=0.15, **given)
    left_out = 20 - len(ran)
    assert 0 < left_out <= 16 and f"step cache: {left_out} of 20 passes left out" in caplog.text
    assert 0 < (cached - exact).abs().mean() < 0.2 * exact.abs().mean()
    ran.clear()
    # However far it may move: the first step and the last are computed, two passes each.
    pipeline(frames, step_cache=100.0, **given)
    assert len(ran) == 4
    assert torch.equal(pipeline(frames, **given), exact)


def test_the_shares_of_steps_are_counted_from_the_start():
    sampling = Sampling(num_inference_steps=10, cfg_start=0.25, face_start=0.2, face_end=0.65)
    assert [index for index in range(10) if sampling.shows_face(index)] == [2, 3, 4, 5, 6]
    # Both on a step: the first has the face, the last has it no more.
    on_a_step = Sampling(num_inference_steps=8, face_start=0.25, face_end=0.5)
    assert [index for index in range(8) if on_a_step.shows_face(index)] == [2, 3]
    assert [index for index in range(10) if not sampling.is_guided(index)] == [0, 1, 2]
    assert not any(Sampling(face_scale=0.0).shows_face(index) for index in range(50))
    assert not any(Sampling(cfg_scale=1.0).is_guided(index) for index in range(50))


@pytest.mark.parametrize(
    "wrong",
    [
        {"face_scale": -0.1},
        {"face_start": 0.5, "face_end": 0.5},
        {"face_start": -0.1},
        {"face_end": 1.1},
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_windows_that_overlap_altogether_are_refused():
    with pytest.raises(ConfigError, match="overlap=4 latent frames: must be less than the window's 4"):
        LatentWindows(4, 4)
