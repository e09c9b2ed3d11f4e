"""Options that change nothing are named, and only when they were given."""

from dataclasses import replace

import pytest

from faceid.data.clip_settings import CaptionSettings, ClipSettings, PairingSettings
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter_settings import AdapterSettings
from faceid.training.checks.training_effects import warn_without_effect
from faceid.training.inputs.prepare import Preparation
from faceid.training.training_settings import InputSettings, TrainingSettings

NO_VALIDATION = {"validate_every": 0}
NO_VIDEOS = {"validation_videos": 0}


def warned(caplog, training, pairing=None, faces=None):
    inputs = InputSettings(
        model_path="toy", output_dir="o", face_images_dir="f", dance_videos_dir="d", pose_videos_dir="p"
    )
    sections = (AdapterSettings(), ClipSettings(), CaptionSettings(), faces or FaceSettings())
    warn_without_effect(Preparation(inputs, *sections, None, "toy", None), training, pairing or PairingSettings())
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**NO_VALIDATION, "validation_steps": 7}, "validation_steps: has no effect with validate_every=0"),
        ({**NO_VALIDATION, "early_stop_after": 3}, "early_stop_after: has no effect with validate_every=0"),
        ({**NO_VALIDATION, "best_metric": "loss"}, "best_metric: has no effect with validate_every=0"),
        ({**NO_VIDEOS, "validation_cfg_scale": 2.0}, "validation_cfg_scale: has no effect with no validation videos"),
        ({"validation_people": 3}, "validation_people: has no effect with heldout_dancers=0"),
        ({"masked_loss_probability": 0, "masked_loss_min_cells": 4}, "masked_loss_min_cells: has no effect"),
        ({"num_workers": 200}, "num_workers=200: more than the "),
        ({"logit_normal_share": 1, "shift": 5.0}, "shift: has no effect with logit_normal_share=1"),
    ],
)
def test_an_option_without_effect_is_named(options, said, caplog):
    (message,) = warned(caplog, TrainingSettings(**options))
    assert message.startswith(said)


def test_a_detector_s_and_an_encoder_s_options_are_named_without_them(caplog):
    faces = FaceSettings(detector_path="x.onnx", onnx_mean=1.0, onnx_std=2.0)
    said = warned(caplog, TrainingSettings(), faces=faces)
    assert said == [
        "onnx_mean: has no effect without --encoder onnx",
        "onnx_std: has no effect without --encoder onnx",
        "detector_path: has no effect without --detector yunet",
    ]
    caplog.clear()
    used = FaceSettings(encoder="onnx", detector="yunet", detector_path="x.onnx", onnx_mean=1.0)
    assert warned(caplog, TrainingSettings(), faces=used) == []


def test_options_that_have_one_are_not(caplog):
    settings = TrainingSettings(
        heldout_dancers=2,
        validation_people=3,
        validation_steps=7,
        validation_cfg_scale=2.0,
        masked_loss_min_cells=4,
        shift=5.0,
        early_stop_after=3,
    )
    assert warned(caplog, settings) == []
    # Held-out people are videos too.
    assert warned(caplog, replace(settings, validation_videos=0)) == []
    assert warned(caplog, TrainingSettings(**NO_VALIDATION, **NO_VIDEOS, validation_people=2)) == [
        "validation_videos: has no effect with validate_every=0"
    ]


def test_the_control_pairing_and_a_run_of_one_stage_name_what_they_do_not_use(caplog):
    constant = PairingSettings(pairing="constant", max_faces=3)
    assert warned(caplog, TrainingSettings(), constant)[0].startswith("max_faces: has no effect with pairing=constant")
    caplog.clear()
    mixture = PairingSettings(stage2_photos=0.6, stage2_clips=0.2)
    one_stage = TrainingSettings(num_epochs=5, freeze_mapper_after_epochs=5)
    assert [message.split(":")[0] for message in warned(caplog, one_stage, mixture)] == [
        "stage2_photos",
        "stage2_clips",
    ]
