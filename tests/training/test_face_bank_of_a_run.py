"""Where a run's dancers' faces come from: the bank given, else the clips as they were given, else their shards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asked_for import asked_for

from faceid.data.clip_settings import CaptionSettings, ClipSettings
from faceid.data.dancer_faces.face_bank import open_face_bank, read_face_bank, write_face_bank
from faceid.data.dancer_faces.face_sources import FilmSource, ShardSource, of_shards
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError
from faceid.faces.identities.photos_to_identity import encoder_of
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter_settings import AdapterSettings
from faceid.toy.shipped import resolve_encoder_path, resolve_model_path
from faceid.training.checks.refusals import check_before_work
from faceid.training.checks.training_effects import warn_without_effect
from faceid.training.inputs import prepare as module
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.input_settings import InputSettings
from faceid.training.inputs.prepare import prepare


@pytest.fixture(scope="module")
def faces():
    return FaceSettings(encoder_path=resolve_encoder_path("toy"))


@pytest.fixture(scope="module")
def bank(toy_inputs, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    index = ShardIndex.load(toy_inputs.shards, "clips")
    write_face_bank(of_shards(index)[:2], folder, encoder_of(faces), faces)
    return folder


@pytest.fixture
def plan(toy_inputs, faces, tmp_path):
    inputs = InputSettings(
        model_path="toy",
        output_dir=str(tmp_path / "run"),
        face_embedding=str(toy_inputs.identity),
        latents=str(toy_inputs.latents),
        shards=str(toy_inputs.shards),
    )
    base = resolve_model_path("toy")
    settings = (AdapterSettings(), ClipSettings(), CaptionSettings())
    return InputPlan(inputs, *settings, faces, base)


def with_inputs(plan, **changes):
    return replace(plan, inputs=replace(plan.inputs, **changes))


def test_a_bank_that_is_given_is_taken_and_none_is_made(plan, bank, tmp_path):
    prepared = prepare(with_inputs(plan, face_bank=str(bank)), "cpu")
    assert prepared.faces == bank and not (tmp_path / "run" / "cache").exists()


def test_without_one_it_is_made_of_the_shards_once(plan, faces, monkeypatch):
    prepared = prepare(plan, "cpu")
    # Eight faces of each of four clips.
    assert len(read_face_bank(prepared.faces, encoder_of(faces).fingerprint)) == 32
    monkeypatch.setattr("faceid.data.dancer_faces.face_bank.cut_faces", lambda *args: pytest.fail("cut again"))
    assert prepare(plan, "cpu") == prepared


def test_clips_that_are_given_show_more_than_their_shards(plan, toy_inputs):
    folders = {
        "dance_videos_dir": str(toy_inputs.dataset / "videos"),
        "pose_videos_dir": str(toy_inputs.dataset / "poses"),
    }
    of_folders = module._face_sources(with_inputs(plan, latents=None, shards=None, **folders))
    assert len(of_folders) == 4 and all(isinstance(source, FilmSource) for source in of_folders)
    assert all(isinstance(source, ShardSource) for source in module._face_sources(plan))


def test_a_bank_of_another_encoder_is_refused_before_anything_is_encoded(plan, bank, monkeypatch):
    import faceid.training.inputs.prepare as prepare_module

    monkeypatch.setattr(prepare_module, "write_face_bank", lambda *args: pytest.fail("work was done"))
    monkeypatch.setattr(prepare_module, "open_face_bank", lambda folder, fingerprint: open_face_bank(folder, "0" * 64))
    with pytest.raises(DataError, match="use one encoder"):
        prepare(with_inputs(plan, face_bank=str(bank)), "cpu")


def test_a_bank_that_is_not_there_is_named_and_shards_beside_one_are_warned_of(plan, bank, caplog):
    with pytest.raises(DataError, match=r"face_bank=.*no such folder"):
        check_before_work(with_inputs(plan, face_bank=str(bank / "absent")))
    warn_without_effect(replace(asked_for(), inputs=with_inputs(plan, face_bank=str(bank)).inputs))
    assert "shards: has no effect with --face_bank" in caplog.text
