"""What the photos and clips of a run are said to show: their own captions, or the common one."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from asked_for import asked_for

from faceid.data.clip_settings import CaptionSettings, ClipSettings
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.photo_latents import PhotoLatent, read_photo_latents
from faceid.data.shards.index import ShardIndex
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import TrainingSet
from faceid.errors import DataError
from faceid.faces.identities.identity import load_identity
from faceid.faces.identity_settings import FaceSettings
from faceid.files.provenance import sha256_json
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.toy.shipped import resolve_encoder_path, resolve_model_path
from faceid.training.checkpoints.checkpoint import CheckpointError
from faceid.training.checks.dry_run import dry_run
from faceid.training.checks.refusals import check_before_work
from faceid.training.checks.training_effects import warn_without_effect
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.input_settings import InputSettings
from faceid.training.inputs.origin import StartingPoint, origin_of, refuse_other_origin
from faceid.training.inputs.prepare import prepare
from faceid.training.world.distributed import ExpectedWorld
from faceid.training.world.launched import Launch

OWN = "a woman laughing"


@pytest.fixture
def plan(toy_inputs, tmp_path):
    """Latents made beforehand and four photos, the first with a caption of its own."""
    photos = shutil.copytree(toy_inputs.dataset / "photos/target", tmp_path / "photos")
    first = min(file for file in photos.iterdir() if file.suffix in (".jpg", ".png"))
    first.with_suffix(".txt").write_text(OWN)
    inputs = InputSettings(
        model_path="toy",
        output_dir=str(tmp_path / "run"),
        face_embedding=str(toy_inputs.identity),
        face_images_dir=str(photos),
        latents=str(toy_inputs.latents),
    )
    faces = FaceSettings(encoder_path=resolve_encoder_path("toy"))
    base = resolve_model_path("toy")
    return InputPlan(inputs, AdapterSettings(), ClipSettings(), CaptionSettings(), faces, base)


def photos_of(plan):
    return read_photo_latents(prepare(plan, "cpu").photos, plan.base.latents_fingerprint)


@pytest.mark.fault("M12")
def test_a_runs_photos_have_their_own_captions_and_a_changed_one_is_encoded_anew(plan, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "faceid"):
        photos = photos_of(plan)
    assert sorted(photo.caption or "" for photo in photos.values()) == ["", "", "", OWN]
    assert "1 of 4 photos have a caption of their own" in caplog.text
    (file,) = (tmp_path / "photos").glob("*.txt")
    file.write_text("another")
    assert "another" in [photo.caption for photo in photos_of(plan).values()]
    ignored = photos_of(replace(plan, captions=CaptionSettings(caption_files="ignore")))
    assert {photo.caption for photo in ignored.values()} == {None}


@pytest.mark.fault("M12")
def test_a_caption_that_cannot_be_read_is_refused_before_work_and_by_the_dry_run(plan, toy_inputs, tmp_path):
    (file,) = (tmp_path / "photos").glob("*.txt")
    file.write_bytes(b"")
    with pytest.raises(DataError, match="the caption is empty"):
        check_before_work(plan)
    file.unlink()
    # Of raw folders a clip's.
    videos = shutil.copytree(toy_inputs.dataset / "videos", tmp_path / "videos")
    min(videos.glob("*.mp4")).with_suffix(".txt").write_bytes(b"\xff")
    folders = {"dance_videos_dir": str(videos), "pose_videos_dir": str(toy_inputs.dataset / "poses")}
    raw = replace(plan, inputs=replace(plan.inputs, latents=None, **folders))
    raw = replace(raw, clips=ClipSettings(num_frames=9, height=64, width=64))

    def refused(of_plan):
        launch = Launch(0, 1)
        sections = asked_for(batch_size=1, resume="none")
        lines, refused = dry_run(of_plan, sections, launch, None, ExpectedWorld("single", 1, is_bf16=False))
        said.extend(line for line in lines if line.startswith("data: "))
        return refused

    said: list[str] = []

    assert any("the caption is not UTF-8" in line for line in refused(raw))
    with pytest.raises(DataError, match="the caption is not UTF-8"):
        prepare(raw, "cpu")
    # Prepared without a run's claim, the folder is nobody's.
    raw = replace(raw, inputs=replace(raw.inputs, output_dir=str(tmp_path / "another")))
    assert refused(replace(raw, captions=CaptionSettings(caption_files="ignore"))) == []
    assert said[-1].endswith("captions of their own: 0 clips, 0 photos")
    file.write_text(OWN)
    min(videos.glob("*.mp4")).with_suffix(".txt").write_text(OWN)
    assert refused(raw) == [] and said[-1].endswith("captions of their own: 1 clips, 1 photos")


@pytest.mark.fault("M12")
def test_a_run_of_raw_folders_trains_each_clip_with_its_caption(plan, toy_inputs, tmp_path):
    videos = shutil.copytree(toy_inputs.dataset / "videos", tmp_path / "videos")
    min(videos.glob("*.mp4")).with_suffix(".txt").write_text(OWN)
    folders = {"dance_videos_dir": str(videos), "pose_videos_dir": str(toy_inputs.dataset / "poses")}
    raw = replace(plan, inputs=replace(plan.inputs, latents=None, face_bank=None, face_images_dir=None, **folders))
    raw = replace(raw, clips=ClipSettings(num_frames=5, height=32, width=32))
    (latents,) = prepare(raw, "cpu").latents
    prompts = ShardIndex.load(latents).header["prompt_of"]
    assert sorted(prompts.values()).count(OWN) == 1 and len(prompts) == 4


@pytest.mark.fault("M12")
def test_a_photo_is_trained_with_its_own_caption_and_a_checkpoint_knows_it(toy_inputs, monkeypatch, tmp_path):
    latents, identity = LatentSet.open(toy_inputs.latents), load_identity(toy_inputs.identity)
    pairing = Pairing(PairingSettings(text_dropout=0, both_dropout=0), 5, identity, FaceBank(), {})
    monkeypatch.setattr(pairing, "photo_face", lambda key: identity.embedding)
    monkeypatch.setattr(
        pairing, "clip_face", lambda clip, g: SimpleNamespace(embedding=identity.embedding, source="own", num_faces=1)
    )
    statistics = ModelFiles.find(resolve_model_path("toy")).statistics
    own = torch.full_like(latents.prompt(""), 3.0)
    photo = PhotoLatent(torch.randn(16, 1, 8, 8).bfloat16(), torch.ones(1, 8, 8))
    told = replace(photo, caption=OWN, prompt_embeds=own)
    training_set = TrainingSet(latents, {"p1": photo, "p2": told}, pairing, statistics, StreamOrder(5))
    texts = {sample.keys[0]: sample.text[0] for sample in map(training_set.__getitem__, range(len(training_set)))}
    assert torch.equal(texts["p2"], own.float())
    assert torch.equal(texts["p1"], latents.prompt(latents.caption).float())
    # Folders without captions are named as they were before there were any.
    plain = TrainingSet(latents, {"p1": photo, "p2": photo}, pairing, statistics, StreamOrder(5))
    base = SimpleNamespace(files=SimpleNamespace(exact_fingerprint="b"))
    start = StartingPoint(base, "toy", None, None)
    before, now = (origin_of(each, identity, {}, base, start) for each in (plain, training_set))
    assert before["photos"] == sha256_json(["p1", "p2"])
    with pytest.raises(CheckpointError, match="was trained with other photos"):
        refuse_other_origin(tmp_path, before, now, (), {})


@pytest.mark.fault("M12")
def test_with_latents_the_switch_is_for_photos_alone(plan, caplog):
    ignoring = replace(plan, captions=CaptionSettings(caption_files="ignore"))
    sections = replace(asked_for(), inputs=plan.inputs, captions=ignoring.captions)
    warn_without_effect(sections)
    assert "caption_files" not in caplog.text
    warn_without_effect(replace(sections, inputs=replace(plan.inputs, face_images_dir=None)))
    assert "caption_files: has no effect with --latents" in caplog.text
