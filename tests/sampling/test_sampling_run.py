"""sample.py from settings to files on the toy base: who is rendered, where, and what is refused before weights load."""

import json
import logging
import re
import sys

import numpy as np
import pytest
from adapter_inputs import EMBEDDING_DIM as DIM
from adapter_inputs import write_adapter
from launching import BIN, run_command
from PIL import Image
from render_flags import changed, for_one, sections_of
from written_identities import write_embedding, write_identity

import sample
from faceid.errors import ConfigError, DataError, ModelError
from faceid.media.video import write_video
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling import sampling_run
from faceid.sampling.jobs import plan
from faceid.sampling.jobs.job_folder import JobFolder
from faceid.sampling.one_video import loaded_models
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo


@pytest.fixture
def adapter_file(small_adapter_settings, tmp_path):
    return write_adapter(tmp_path / "adapter.safetensors", small_adapter_settings)


@pytest.fixture
def settings(adapter_file, tmp_path):
    """Two poses as two people, one of them a bare embedding."""
    for name in ("x", "y"):
        write_video(tmp_path / "poses" / f"{name}_pose.mp4", np.full((5, 32, 48, 3), 90, np.uint8), fps=16)
    write_identity(tmp_path / "people" / "bob", seed=2, size=DIM)
    write_embedding(tmp_path / "people" / "anna.pt", seed=1, size=DIM)
    return sections_of(
        face_lora_path=str(adapter_file),
        identities_dir=str(tmp_path / "people"),
        batch=True,
        pose_videos_dir=str(tmp_path / "poses"),
        output_dir=str(tmp_path / "out"),
        num_inference_steps=1,
        cfg_scale=1.0,
        seed=5,
        device="cpu",
    )


@pytest.fixture
def one(settings, tmp_path):
    """One pose as one of them."""
    return for_one(
        settings, pose_video=str(tmp_path / "poses" / "x_pose.mp4"), output=str(tmp_path / "one.mp4"), identity="bob"
    )


@pytest.fixture
def no_weights(monkeypatch):
    def load(*arguments):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(FaceIdentityPipeline, "from_pretrained", load)


def rows(folder):
    return [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_pose_is_rendered_as_every_person_with_models_loaded_once(settings, tmp_path, caplog):
    caplog.set_level(logging.INFO, "faceid")
    assert sampling_run.run_sampling(settings) == 0
    found = [(row["identity"], row["output"], row["seed"], row["face_scale"]) for row in rows(tmp_path / "out")]
    assert found == [
        ("anna", "anna/x_pose.mp4", 5, 1.0),
        ("bob", "bob/x_pose.mp4", 5, 1.0),
        ("anna", "anna/y_pose.mp4", 5, 1.0),
        ("bob", "bob/y_pose.mp4", 5, 1.0),
    ]
    assert all((tmp_path / "out" / output).is_file() for _, output, *_ in found)
    assert caplog.text.count("loaded transformer") == 1


def test_at_face_scale_0_each_pose_is_rendered_once_and_that_is_said(settings, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    assert sampling_run.run_sampling(changed(settings, face_scale=0.0)) == 0
    found = [(row["identity"], row["output"], row["face_scale"]) for row in rows(tmp_path / "out")]
    assert found == [("", "x_pose.mp4", 0.0), ("", "y_pose.mp4", 0.0)]
    assert not (tmp_path / "out" / "anna").exists()
    assert "each pose is rendered once, not as every person" in caplog.text


def test_one_persons_batch_names_the_identity_and_has_no_subfolder(settings, tmp_path):
    alone = changed(settings, identities_dir=None, face_embedding=str(tmp_path / "people" / "bob"))
    assert sampling_run.run_sampling(alone) == 0
    found = [(row["identity"], row["output"]) for row in rows(tmp_path / "out")]
    assert found == [("bob", "x_pose.mp4"), ("bob", "y_pose.mp4")]


@pytest.mark.slow
def test_nobody_is_named_where_no_face_shows(settings, tmp_path):
    nobody = changed(settings, identities_dir=None)
    base_alone = changed(nobody, face_lora_path=None, model_path="toy", height=32, width=48, num_frames=5, fps=16.0)
    unseen = changed(nobody, face_embedding=str(tmp_path / "people" / "bob"), face_scale=0.0)
    for given, scale in ((nobody, 1.0), (base_alone, 0.0), (unseen, 0.0)):
        assert sampling_run.run_sampling(given) == 0
        assert [(row["identity"], row["face_scale"]) for row in rows(tmp_path / "out")] == [("", scale)] * 2


def test_one_person_by_another_encoder_is_refused_before_weights_are_loaded(settings, tmp_path, no_weights):
    write_identity(tmp_path / "people" / "carl", size=DIM, fingerprint="f" * 64)
    with pytest.raises(ModelError, match=r"identities_dir: carl: made by encoder clip \(f{12}\)"):
        sampling_run.run_sampling(settings)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_a_persons_folder_is_refused_before_weights_are_loaded(settings, tmp_path, no_weights):
    JobFolder.claim(tmp_path / "out", [])
    (tmp_path / "out" / "bob").write_text("mine")
    with pytest.raises(DataError, match=r"out/bob/x_pose\.mp4: its folder cannot be made"):
        sampling_run.run_sampling(settings)
    assert (tmp_path / "out" / "bob").read_text() == "mine"


def test_offloading_on_the_cpu_is_said_to_change_nothing(one, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    assert sampling_run.run_sampling(changed(one, offload=True)) == 0
    assert "offload: has no effect on the CPU" in caplog.text


@pytest.mark.slow
def test_toy_names_the_adapter_that_is_shipped(settings, adapter_file, tmp_path, monkeypatch):
    for module in (loaded_models, plan):
        monkeypatch.setattr(module, "resolve_adapter_path", {"toy": str(adapter_file)}.get)
    assert sampling_run.run_sampling(changed(settings, face_lora_path="toy")) == 0
    assert len(rows(tmp_path / "out")) == 4


def test_one_video_wants_as_many_processes_as_render_it_together(one, no_weights, monkeypatch):
    with pytest.raises(ConfigError, match="context_parallel=2: but 1 process; start it with accelerate launch"):
        sampling_run.run_sampling(changed(one, context_parallel=2))
    with pytest.raises(ConfigError, match="context_parallel=8: does not divide the base's 4 attention heads"):
        sampling_run.run_sampling(changed(one, context_parallel=8))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes for one video; give --context_parallel 2, or --batch"):
        sampling_run.run_sampling(one)


@pytest.mark.slow
def test_a_batch_is_scored_by_evaluation_when_asked(settings, tmp_path):
    for number, name in enumerate(("anna", "bob")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(render_photo(draw_person(number), 3, 96)).save(tmp_path / "photos" / name / "1.png")
    asked = changed(settings, score="toy_recogniser", references_dir=str(tmp_path / "photos"))
    assert sampling_run.run_sampling(changed(asked, detector="none"), sample.make_judge) == 0
    scores = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [score["output"] for score in scores] == [row["output"] for row in rows(tmp_path / "out")]
    assert {score["recogniser"] for score in scores} == {"toy_recogniser"}
    html = (tmp_path / "out" / "gallery.html").read_text()
    assert len(re.findall(r"likeness \d?-?\d\.\d\d", html)) == len(scores) == 4


def test_a_judge_that_cannot_be_is_refused_before_weights_load(settings, tmp_path, no_weights):
    (tmp_path / "photos").mkdir()
    asked = changed(settings, score="toy_recogniser", references_dir=str(tmp_path / "photos"))
    with pytest.raises(DataError, match="0 people, at least 2 are needed"):
        sampling_run.run_sampling(asked, sample.make_judge)


@pytest.mark.starts_process
@pytest.mark.promise(
    "one video computed by two processes under accelerate launch", bar="the bytes of one process's", proof="sampling"
)
@pytest.mark.proof_only("half a minute", proof="sampling")
def test_two_processes_under_accelerate_write_the_video_of_one(one, tmp_path):
    words = [
        *(
            "sample.py",
            "--face_lora_path",
            one.models.face_lora_path,
            "--pose_video",
            one.video.pose_video,
            "--device",
            "cpu",
        ),
        *("--identities_dir", one.who.identities_dir, "--identity", "bob", "--num_inference_steps", "3"),
    ]
    run_command([sys.executable, *words, "--output", str(tmp_path / "alone.mp4")])
    launch = [str(BIN / "accelerate"), "launch", "--config_file", "launch/accelerate/cpu.yaml"]
    run_command([*launch, *words, "--output", str(tmp_path / "both.mp4"), "--context_parallel", "2"])
    assert (tmp_path / "both.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    sidecar = json.loads((tmp_path / "both.json").read_text())
    assert "context_parallel" not in sidecar["settings"]
