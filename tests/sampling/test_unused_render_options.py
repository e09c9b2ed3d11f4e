"""Options of rendering that change nothing, or harm, are named; those that work are not."""

import logging

import pytest
from render_flags import changed, sections_of

from faceid.sampling.unused_render_options import warn_of_render_options

SETTINGS = sections_of(face_lora_path="a.safetensors", face_embedding="e", pose_video="p.mp4", output="o.mp4")
BASE_ALONE = changed(SETTINGS, face_lora_path=None, model_path="toy", face_embedding=None)


@pytest.mark.parametrize(
    "scale, warning",
    [(0.0, "the base model alone"), (0.1, "outside 0.3 to 2.0"), (2.5, "outside 0.3 to 2.0"), (1.0, "")],
)
def test_a_face_scale_that_does_little_good_is_warned_of(caplog, scale, warning):
    caplog.set_level(logging.WARNING, "faceid")
    warn_of_render_options(changed(SETTINGS, face_scale=scale))
    assert warning in caplog.text and bool(caplog.text) == bool(warning)


def test_an_adapter_without_a_face_is_warned_of(caplog):
    caplog.set_level(logging.WARNING, "faceid")
    warn_of_render_options(changed(SETTINGS, face_embedding=None))
    assert "no particular person" in caplog.text


def test_a_face_scale_without_an_adapter_is_warned_of(caplog):
    caplog.set_level(logging.WARNING, "faceid")
    warn_of_render_options(
        changed(SETTINGS, face_lora_path=None, model_path="toy", face_embedding=None, face_scale=0.5)
    )
    assert "face_scale=0.5: has no effect without --face_lora_path" in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (changed(SETTINGS, cfg_scale=1.0, negative_prompt="fog"), "negative_prompt: has no effect with cfg_scale=1.0"),
        (changed(SETTINGS, cfg_scale=1.0, cfg_start=0.5), "cfg_start: has no effect with cfg_scale=1.0"),
        (changed(BASE_ALONE, reference_scale=0.5), "reference_scale: has no effect without --reference_image"),
        (
            changed(SETTINGS, own_references=0, reference_scale=0.5),
            "reference_scale: has no effect without --reference_image or --own_references",
        ),
        (changed(SETTINGS, noises_per_video=2), "noises_per_video: has no effect without --seed per_video"),
        (changed(BASE_ALONE, face_end=0.5), "face_end: has no effect without --face_lora_path"),
        (changed(SETTINGS, window_frames=0, window_overlap=4), "window_overlap: has no effect without windows"),
        (changed(BASE_ALONE, window_overlap=4), "window_overlap: has no effect without windows"),
    ],
)
def test_an_option_without_effect_is_named_alone(settings, said, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    warn_of_render_options(settings)
    (record,) = caplog.records
    assert record.getMessage().startswith(said)


def test_with_the_face_off_or_nobody_given_its_options_change_nothing(caplog):
    caplog.set_level(logging.WARNING, "faceid")
    warn_of_render_options(changed(SETTINGS, face_scale=0.0, face_start=0.2))
    assert "face_start: has no effect with face_scale=0" in caplog.text
    warn_of_render_options(changed(SETTINGS, face_embedding=None, face_guidance=2.0))
    assert "face_guidance: has no effect without a face" in caplog.text


def test_options_that_work_are_not_named(caplog):
    caplog.set_level(logging.WARNING, "faceid")
    chosen = {"face_start": 0.1, "face_end": 0.9, "face_guidance": 2.0, "cfg_start": 0.1, "negative_prompt": "fog"}
    chosen |= {"reference_image": "r.png", "reference_scale": 0.5, "window_overlap": 4, "scheduler": "euler"}
    warn_of_render_options(changed(SETTINGS, **chosen))
    assert caplog.text == ""
