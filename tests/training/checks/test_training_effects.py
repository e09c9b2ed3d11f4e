"""Options that change nothing are named, and only when they were given."""

import pytest
from asked_for import asked_for

from faceid.training.checks.training_effects import warn_without_effect

NO_VALIDATION = {"validate_every": 0}
NO_VIDEOS = {"validation_videos": 0}


def warned(caplog, **options):
    warn_without_effect(asked_for(**options))
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
    (message,) = warned(caplog, **options)
    assert message.startswith(said)


def test_a_detector_s_and_an_encoder_s_options_are_named_without_them(caplog):
    said = warned(caplog, detector_path="x.onnx", onnx_mean=1.0, onnx_std=2.0)
    assert said == [
        "onnx_mean: has no effect without --encoder onnx",
        "onnx_std: has no effect without --encoder onnx",
        "detector_path: has no effect without --detector yunet",
    ]
    caplog.clear()
    used = {"encoder": "onnx", "detector": "yunet", "detector_path": "x.onnx", "onnx_mean": 1.0}
    assert warned(caplog, **used) == []


def test_options_that_have_one_are_not(caplog):
    options = {
        "heldout_dancers": 2,
        "validation_people": 3,
        "validation_steps": 7,
        "validation_cfg_scale": 2.0,
        "masked_loss_min_cells": 4,
        "shift": 5.0,
        "early_stop_after": 3,
    }
    assert warned(caplog, **options) == []
    # Held-out people are videos too.
    assert warned(caplog, **options, validation_videos=0) == []
    assert warned(caplog, **NO_VALIDATION, **NO_VIDEOS, validation_people=2) == [
        "validation_videos: has no effect with validate_every=0"
    ]


def test_the_control_pairing_and_a_run_of_one_stage_name_what_they_do_not_use(caplog):
    said = warned(caplog, pairing="constant", max_faces=3)
    assert said[0].startswith("max_faces: has no effect with pairing=constant")
    caplog.clear()
    one_stage = {"num_epochs": 5, "freeze_mapper_after_epochs": 5, "stage2_photos": 0.6, "stage2_clips": 0.2}
    assert [message.split(":")[0] for message in warned(caplog, **one_stage)] == [
        "stage2_photos",
        "stage2_clips",
    ]
