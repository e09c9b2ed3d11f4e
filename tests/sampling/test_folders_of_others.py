"""What is not a command's own stays as it is: folders, caches, files; and others' files say nothing of places."""

import errno
import json
import logging
import os
from dataclasses import fields

import pytest
import torch
from one_video_inputs import render
from render_flags import changed, for_one
from safetensors.torch import save_file
from two_poses import rows, run

from faceid.config import parse_sections
from faceid.errors import ConfigError, DataError
from faceid.files.writing import no_room
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling import sampling_run as module
from faceid.sampling.like import NEVER_SET_BY_IT, read_sidecar, words_like
from faceid.sampling.one_video.sidecar import SET_BY_IT, sidecar_of
from faceid.sampling.render_sections import SECTIONS

pytestmark = pytest.mark.promise(
    "a batch of renders, its cache, and a file that somebody sent",
    bar="deletes its own entries alone; no place to write is taken from a file",
    proof="nothing_lost",
)


@pytest.fixture
def no_weights(monkeypatch):
    def load(*arguments):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(FaceIdentityPipeline, "from_pretrained", load)


@pytest.fixture
def two(settings):
    return changed(settings, num_inference_steps=1, cfg_scale=1.0)


@pytest.mark.fault("L4")
def test_a_batch_refuses_a_folder_that_holds_a_film_of_somebody(two, tmp_path, no_weights):
    (tmp_path / "out" / "anna").mkdir(parents=True)
    film = tmp_path / "out" / "anna" / "x_pose.mp4"
    film.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"output_dir=.*out: holds anna, not written by this command"):
        run(two)
    assert film.read_bytes() == b"mine"


@pytest.mark.fault("L4")
@pytest.mark.parametrize("name", ["anna/x_pose.mp4", "anna/x_pose.json", "gallery.html", "jobs.jsonl"])
def test_a_batch_goes_on_only_where_nothing_of_its_own_is_taken(two, tmp_path, no_weights, name, monkeypatch):
    """In the folder of an earlier one, before weights load."""
    with monkeypatch.context() as stopped:
        stopped.setattr(FaceIdentityPipeline, "from_pretrained", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(two)
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(DataError, match=f"output_dir=.*{name}: exists, and is not as this command wrote it"):
        run(two)
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


@pytest.mark.fault("L4")
def test_a_job_list_is_not_replaced_by_its_results(two, tmp_path, no_weights):
    (tmp_path / "work").mkdir()
    listed = tmp_path / "work" / "jobs.jsonl"
    listed.write_text(json.dumps({"pose": str(tmp_path / "poses" / "x_pose.mp4"), "identity": "anna"}))
    before = listed.read_bytes()
    with pytest.raises(DataError, match=r"holds jobs\.jsonl"):
        run(changed(two, jobs=str(listed), output_dir=str(tmp_path / "work")))
    assert listed.read_bytes() == before


@pytest.mark.fault("L5")
def test_a_folder_of_models_is_no_cache_and_that_is_said_before_weights_load(two, tmp_path, no_weights):
    (tmp_path / "models").mkdir()
    mine = tmp_path / "models" / "face_lora.safetensors"
    save_file({"a": torch.zeros(9)}, mine)
    before = mine.read_bytes()
    of_models = changed(two, cache_dir=str(tmp_path / "models"), cache_gb=1e-9)
    of_one = {
        "pose_video": two.batch.pose_videos_dir + "/x_pose.mp4",
        "output": str(tmp_path / "o.mp4"),
        "identity": "anna",
    }
    for asked in (of_models, for_one(of_models, **of_one)):
        with pytest.raises(DataError, match=r"cache_dir=.*models: holds face_lora.safetensors, not written by this"):
            run(asked)
    assert mine.read_bytes() == before


@pytest.mark.fault("L6")
def test_every_flag_is_one_that_somebodys_file_may_set_or_one_that_it_never_may():
    flags_known = {field.name for section in SECTIONS for field in fields(section)}
    assert not set(SET_BY_IT) & set(NEVER_SET_BY_IT) and not flags_known - {*SET_BY_IT, *NEVER_SET_BY_IT}


@pytest.mark.fault("L6")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_dir", "/home/me/models"),
        ("cache_gb", 1e-9),
        ("config", "/tmp/evil.yaml"),
        ("batch", True),
        ("output_dir", "/home/me"),
        ("output", "/home/me/film.mp4"),
        ("jobs", "/tmp/jobs.jsonl"),
        ("like", "another.json"),
        ("no_such_flag", 1),
    ],
)
def test_somebodys_json_sets_no_place_and_nothing_else_that_is_not_listed(tmp_path, name, value):
    kept = {"face_lora_path": "toy", "pose_video": "p.mp4", "seed": 1, name: value}
    content = {"version": 1, "settings": kept, "inputs": {"pose": ""}, "video": {"sha256": "", "name": "a.mp4"}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"like=.*a\.json: sets '{name}', which a video's .json may not"):
        words_like(["--like", str(tmp_path / "a.json"), "--output", str(tmp_path / "o.mp4")])


@pytest.mark.fault("L6")
@pytest.mark.slow
def test_a_json_of_before_which_names_what_a_batch_has_is_read_and_what_it_reads_is_said(flags, tmp_path, caplog):
    assert render(*flags, "--output", str(tmp_path / "o.mp4")) == 0
    said = read_sidecar(tmp_path / "o.json")
    said["settings"] |= {"jobs": None, "static": False, "gallery": True, "references_dir": None, "score": None}
    (tmp_path / "old.json").write_text(json.dumps(said))
    caplog.set_level(logging.INFO, "faceid")
    assert render("--like", str(tmp_path / "old.json"), "--output", str(tmp_path / "again.mp4")) == 0
    for name in ("face_lora_path", "face_embedding", "pose_video"):
        assert f"old.json: reads {name}={said['settings'][name]}" in caplog.text


@pytest.mark.fault("L9")
@pytest.mark.parametrize("taken", ["o_seed2.mp4", "o_seed2.json"])
def test_one_video_is_refused_before_the_work_where_its_place_or_its_jsons_is_taken(
    flags,
    tmp_path,
    no_weights,
    taken,
):
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(DataError, match=f"output=.*{taken}: exists, and is not as this command wrote it"):
        render(*flags, "--output", str(tmp_path / "o.mp4"), "--seed", "[1, 2]")
    assert (tmp_path / taken).read_bytes() == b"mine"


@pytest.mark.fault("L9")
def test_a_disk_that_cannot_be_written_is_told_before_weights_load(flags, two, tmp_path, no_weights, monkeypatch):
    """As a file system that was mounted read-only answers: access(2) says no, also to the superuser."""
    access = module.refuse_file.__globals__["os"].access
    read_only = tmp_path / "read_only"
    read_only.mkdir()
    monkeypatch.setattr("os.access", lambda path, mode, **_: path != read_only and access(path, mode))
    with pytest.raises(DataError, match=r"output=.*read_only: .* cannot be written"):
        render(*flags, "--output", str(read_only / "o.mp4"))
    with pytest.raises(DataError, match=r"output_dir=.*read_only.*cannot be written"):
        run(changed(two, output_dir=str(read_only)))


@pytest.mark.fault("W1")
@pytest.mark.slow
def test_a_disk_that_is_full_leaves_no_video_without_its_json(flags, tmp_path, monkeypatch):
    with monkeypatch.context() as full:

        def no_json(path, content):
            raise no_room(path)

        full.setattr(module, "write_output", no_json)
        with pytest.raises(DataError, match=r"o\.json: no space left on the disk; make room"):
            render(*flags, "--output", str(tmp_path / "o.mp4"))
    assert not [path.name for path in tmp_path.iterdir() if path.stem == "o" or ".tmp" in path.name]
    # The same command, when there is room, replaces its own.
    for _ in range(2):
        assert render(*flags, "--output", str(tmp_path / "o.mp4")) == 0
    assert read_sidecar(sidecar_of(tmp_path / "o.mp4"))
    # It shows a face.
    assert (tmp_path / "o.mp4").stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("W8")
@pytest.mark.slow
def test_a_video_is_made_again_with_as_many_threads_as_before(flags, tmp_path, caplog):
    """Whose number is a part of a CPU's bytes: sums are cut into as many parts."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert render(*flags, "--output", str(tmp_path / "o.mp4")) == 0
        assert read_sidecar(tmp_path / "o.json")["threads"] == 1
        torch.set_num_threads(2)
        caplog.set_level(logging.INFO, "faceid")
        assert render("--like", str(tmp_path / "o.json"), "--output", str(tmp_path / "p.mp4"), "--device", "cpu") == 0
        assert torch.get_num_threads() == 1 and "computed with 1 threads, as that video was, not 2" in caplog.text
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "p.mp4").read_bytes() == (tmp_path / "o.mp4").read_bytes()


@pytest.mark.parametrize("seed", ["99999999999999999999", "[1, -99999999999999999999]"])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(ConfigError, match=r"seed.*Input should be .* than or equal to -?9223372036854775807"):
        words = ["--face_lora_path", "toy", "--pose_video", "p.mp4", "--output", "o.mp4", "--seed", seed]
        parse_sections("sample.py", "", SECTIONS, words)


@pytest.mark.fault("W9")
@pytest.mark.parametrize("listed", [False, True])
def test_a_face_that_cannot_be_rendered_is_refused_before_weights_load(two, tmp_path, no_weights, listed):
    """The command line's own; one that a row of a list names fails that row."""
    (tmp_path / "face.pt").write_bytes(b"no tensor")
    asked = changed(two, identities_dir=None, face_embedding=str(tmp_path / "face.pt"))
    if listed:
        (tmp_path / "jobs.jsonl").write_text('{"pose": "x_pose.mp4"}\n')
        asked = changed(asked, jobs=str(tmp_path / "jobs.jsonl"))
    with pytest.raises(DataError, match=r"face\.pt: cannot be read as tensors"):
        run(asked)
    assert not list(tmp_path.glob("out/**/*.mp4"))


@pytest.mark.fault("W7")
@pytest.mark.slow
def test_without_hard_links_a_batch_is_refused_before_weights_load_and_with_static_it_renders(
    two,
    tmp_path,
    no_weights,
    monkeypatch,
):
    """As exfat and many network file systems are."""

    def none(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with pytest.raises(DataError, match=r"no hard links .*give --static"):
        run(two)
    monkeypatch.undo()
    monkeypatch.setattr(os, "link", none)
    assert run(changed(two, static=True)) == 0
    assert not any(row["error"] for row in rows(tmp_path / "out")) and len(list(tmp_path.glob("out/*/*.mp4"))) == 4
