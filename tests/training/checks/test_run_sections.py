"""The sections of a run: which options may change when it goes on, field by field, and what the pages say of it."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from asked_for import asked_for

from faceid.config import parse_sections
from faceid.training.checkpoints.checkpoint import CheckpointError
from faceid.training.checks.run_sections import SECTIONS, RunSections, defaults, may_change
from faceid.training.inputs.origin import OF_ORIGIN, refuse_incomplete, refuse_other_origin

REPOSITORY = Path(__file__).resolve().parents[3]
# Of each option: what becomes of a run that goes on with another value of it.
REFUSED = """
batch_size learning_rate warmup_steps weight_decay ema max_grad_norm freeze_mapper_after_epochs mixed_precision seed
shift logit_normal_share photo_shift photo_logit_normal_share
masked_loss_probability masked_loss_min_cells null_target
identity_loss_weight identity_loss_encoder identity_loss_max_sigma
heldout_dancers heldout_clips heldout_photos
conditioning_dim mapper_hidden_dim num_mapper_layers num_tokens mapper_dropout lora_rank lora_alpha lora_branch
lora_layers face_attention_every face_modulation target_tokens target_words target_tokens_rate
pairing other_clip_share max_faces face_dropout text_dropout both_dropout reference_share body_share
stage2_samples stage2_photos stage2_clips stage2_null
""".split()
WARNED_OF = ["num_epochs"]
TAKEN = """
micro_batch_size gradient_checkpointing compile attention_backend num_workers max_damaged_share
accelerate_config dry_run
validate_every validation_steps validation_cfg_scale validation_videos validation_people validation_recogniser
best_metric early_stop_after save_every checkpoint_every_steps keep_checkpoints resume
log_every_steps log_samples tensorboard peak_tflops watchdog_s
""".split()
# Not compared as options: another value makes other inputs, and those are compared.
BY_CONTENT = """
model_path output_dir face_images_dir face_embedding dance_videos_dir pose_videos_dir latents shards face_bank expert
vae_path text_encoder_path init_adapter init_lora target_description
num_frames height width fps fit uneven_pairs clips_per_shard caption caption_files
photo_framings photo_sizes photo_caption
encoder encoder_path encoder_device onnx_mean onnx_std onnx_colour aggregation detector detector_path face_margin
allow_few check_one_person shared
""".split()
WORDS = {
    "same": "the same, else refused by name",
    "free": "may change",
    "by_content": "what was made of them is the same",
}


def origin(recipe):
    return {**dict.fromkeys(OF_ORIGIN), "recipe": recipe}


def test_every_option_is_in_the_table_once():
    names = [field.name for section in SECTIONS for field in fields(section)]
    assert sorted([*REFUSED, *WARNED_OF, *TAKEN, *BY_CONTENT]) == sorted(names)


def test_what_a_checkpoint_keeps_is_all_but_what_is_known_by_its_content():
    assert sorted(asked_for().recipe()) == sorted([*REFUSED, *WARNED_OF, *TAKEN])
    assert sorted(asked_for().learnt()) == sorted([*REFUSED, *WARNED_OF])


@pytest.mark.parametrize("name", [*REFUSED, *WARNED_OF, *TAKEN])
def test_a_run_goes_on_with_another_value_or_is_refused_by_name(name, caplog):
    recipe = asked_for().recipe()
    saved, now = origin({**recipe, name: "before"}), origin({**recipe, name: "now"})
    with caplog.at_level(logging.WARNING, "faceid"):
        if name in REFUSED:
            with pytest.raises(CheckpointError, match=rf"{name} was before, now now; resume with --{name} before"):
                refuse_other_origin(Path("step_1"), saved, now, may_change(), defaults())
        else:
            refuse_other_origin(Path("step_1"), saved, now, may_change(), defaults())
    assert len(caplog.records) == (name in WARNED_OF)


def test_an_option_that_is_gone_or_new_is_refused():
    recipe = asked_for().recipe()
    for saved, now in (({**recipe, "gone": 1}, recipe), (recipe, {**recipe, "new": 1})):
        with pytest.raises(CheckpointError, match=r"(gone was 1, now None|new was None, now 1); "):
            refuse_other_origin(Path("step_1"), origin(saved), origin(now), may_change(), defaults())


def test_a_run_from_before_an_option_goes_on_with_its_default_and_no_other():
    recipe = asked_for().recipe()
    before = origin({name: value for name, value in recipe.items() if name != "null_target"})
    refuse_other_origin(Path("step_1"), before, origin(recipe), may_change(), defaults())
    now = origin({**recipe, "null_target": "data"})
    with pytest.raises(CheckpointError, match="null_target was base, now data; resume with --null_target base"):
        refuse_other_origin(Path("step_1"), before, now, may_change(), defaults())


@pytest.mark.parametrize(
    "name", ["updates", "validated", "chunk", "init_lora", "target_description", "asked_batch_size"]
)
def test_a_checkpoint_that_says_less_is_refused_by_what_it_does_not_say(name):
    whole = {
        **dict.fromkeys(("step", "updates", "validation", "validated", "samples_per_epoch"), 1),
        "origin": origin({}),
    }
    refuse_incomplete(Path("step_1"), whole)
    for part in (whole, whole["origin"]):
        part.pop(name, None)
    with pytest.raises(CheckpointError, match=f"step_1: does not say its {name}, as a"):
        refuse_incomplete(Path("step_1"), whole)


def test_the_page_of_the_run_folder_says_the_same_of_every_group():
    page = (REPOSITORY / "docs" / "run_folder.md").read_text(encoding="utf-8")
    table = dict(re.findall(rf"^\| (.+) \| ({'|'.join(WORDS.values())}) \|$", page, re.MULTILINE))
    groups = {(section.__doc__ or "").splitlines()[0].rstrip("."): WORDS[section.ON_RESUME] for section in SECTIONS}
    assert table == groups


def test_the_help_shows_the_options_by_those_groups(capsys):
    with pytest.raises(SystemExit):
        parse_sections("train.py", "", SECTIONS, ["--help"])
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{(section.__doc__ or '').splitlines()[0].rstrip('.')}:\n") for section in SECTIONS]
    assert places == sorted(places)


def test_a_config_of_before_the_sections_reads_back(tmp_path):
    """Its keys are flat and in another order."""
    asked = asked_for(learning_rate=3e-4, shift=5.0, resume="none", num_workers=1, lora_rank=8, max_faces=3)
    # A list has lines of its own below its key.
    lines = re.split(r"\n(?! |-)", asked.as_yaml().rstrip())
    (tmp_path / "config.yaml").write_text("\n".join(sorted(lines, reverse=True)))
    words = ["--config", str(tmp_path / "config.yaml")]
    assert RunSections(*parse_sections("train.py", "", SECTIONS, words)) == asked


def test_the_global_batch_takes_the_place_of_what_was_asked_for():
    asked = asked_for(batch_size=1, micro_batch_size=2, seed=7)
    assert asked.with_batch_size(6) == replace(asked, optimizer=replace(asked.optimizer, batch_size=6))
    assert asked_for(micro_batch_size=2).with_global_batch(3, None).optimizer.batch_size == 6
    saved = {"origin": {"recipe": {"batch_size": 12}, "asked_batch_size": 1}}
    assert asked.with_global_batch(3, json.loads(json.dumps(saved))).optimizer.batch_size == 12
