"""Making the toy world's weights: stages replace only what stages left, and what is shipped is replaced whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from calling import call, refused

from faceid.files.outputs import staged_file
from faceid.files.provenance import sha256_file
from faceid.toy import shipped
from toy_factory import build_base, work_folder
from toy_factory.train_vae import VaeTraining
from toy_factory.work_folder import PARTS, WITH_PUBLISHED, describe_files, made_whole

ALL = [name for name in PARTS if name not in WITH_PUBLISHED]


def small_stage(name: str):
    """As the stages write, in no time."""

    def stage(work: Path) -> dict:
        part = PARTS[name]
        if part and Path(part).suffix:
            with staged_file(work / part) as temporary:
                temporary.write_text(f"new {name}")
        elif part:
            with made_whole(
                work / part, goes_on=name in ("vae_finish", "text", "transformer", "transformer_finish")
            ) as folder:
                (folder / name).mkdir(parents=True)
                (folder / name / "weights").write_text(f"new {name}")
        return {"made_by": name}

    return stage


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A work folder to be, and a package with weights of before and their record."""
    monkeypatch.setattr(build_base, "STAGES", {name: small_stage(name) for name in ALL})
    weights, record_file = tmp_path / "package" / "weights", tmp_path / "records" / "toy_base.json"
    for part in dict.fromkeys(part for part in PARTS.values() if part):
        file = weights / part if Path(part).suffix else weights / part / "old"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"old {part}")
    record_file.parent.mkdir()
    record_file.write_text(json.dumps({"sha256": {name: sha for name, (_, sha) in describe_files(weights).items()}}))
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    monkeypatch.setattr(work_folder, "RECORD", record_file)
    return SimpleNamespace(work=tmp_path / "work", weights=weights, record=record_file)


def make(place, *names: str, publish: bool = False):
    words = ["--work_dir", place.work, "--stages", f"[{', '.join(names)}]", "--publish", str(publish).lower()]
    return call("tools/train_toy_base.py", *words)


def content(folder: Path) -> dict[str, str]:
    return {name: sha for name, (_, sha) in describe_files(folder).items()}


@pytest.mark.fault("L1")
def test_a_folder_of_the_users_is_left_as_it_is(place):
    """Its vae was replaced by a new one."""
    mine = place.work / "base" / "vae" / "config.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refused(make(place, "vae"), f"work_dir={place.work}: holds base, not written by this command")
    assert mine.read_text() == "mine" and [path.name for path in place.work.iterdir()] == ["base"]


@pytest.mark.fault("L1")
@pytest.mark.parametrize("name", ["base/vae/weights", "base/me.txt", "readout.safetensors", "data.json"])
def test_what_came_to_lie_in_a_work_folder_is_left_as_it_is(place, name):
    assert make(place, "vae").code == 0
    mine = place.work / name
    mine.write_text("mine")
    before = content(place.work)
    refused(make(place, *ALL), f"work_dir={place.work}")
    assert content(place.work) == before


@pytest.mark.fault("L1")
def test_only_what_the_stages_left_is_published(place):
    """An empty work folder with a file of the user's in base/ took the place of the shipped base."""
    before = content(place.weights)
    refused(make(place, publish=True), "publish: stage vae has not ended in work_dir=")
    assert make(place, *ALL).code == 0
    (place.work / "base" / "me.txt").write_text("mine")
    refused(make(place, publish=True), f"work_dir={place.work / 'base'}: holds me.txt")
    (place.work / "base" / "me.txt").unlink()
    (place.work / "base" / "transformer" / "weights").unlink()
    refused(make(place, publish=True), f"{place.work / 'base/transformer/weights'}: is not there")
    assert content(place.weights) == before


@pytest.mark.fault("L1")
def test_what_is_shipped_is_replaced_whole_where_it_is_as_its_record_says(place):
    (place.weights / "base" / "me.txt").write_text("mine")
    refused(make(place, "vae", publish=True), f"{place.weights / 'base/me.txt'}: is not as {place.record} says")
    assert not place.work.exists()
    (place.weights / "base" / "me.txt").unlink()
    assert make(place, *ALL, publish=True).code == 0
    shipped = content(place.weights)
    assert set(shipped) == {
        *(f"base/{stage}/weights" for stage in ("vae", "vae_finish", "text", "transformer", "transformer_finish")),
        *("encoder/encoder/weights", "strong_encoder/strong_encoder/weights", "recogniser/recogniser/weights"),
        *("readout.safetensors", "pose_reader.safetensors", "adapter/old", "strong_adapter/old"),
    }
    assert json.loads(place.record.read_text())["sha256"] == shipped
    assert [path.name for path in place.weights.parent.iterdir()] == ["weights"]
    assert not list(place.weights.rglob(".faceid")), "nothing of the maker's machine is shipped"
    # Again, from the same or another folder.
    assert make(place, publish=True).code == 0 and content(place.weights) == shipped


def test_a_publishing_that_was_killed_before_its_record_is_gone_on_with(place, monkeypatch):
    assert make(place, *ALL).code == 0
    with monkeypatch.context() as killed:
        killed.setattr(work_folder, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            work_folder.publish(place.work, place.weights, place.record)
    assert make(place, publish=True).code == 0
    assert json.loads(place.record.read_text())["sha256"] == content(place.weights)


def test_a_killed_stage_leaves_what_was_there(place, monkeypatch):
    assert make(place, "vae").code == 0
    before = content(place.work)

    def killed(work):
        with made_whole(work / "base", goes_on=True) as folder:
            shutil.rmtree(folder / "vae")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_base.build_stage(place.work, "transformer", {"transformer": killed})
    assert content(place.work) == before
    assert make(place, *ALL).code == 0


@pytest.mark.slow
def test_the_first_stage_leaves_a_base_that_is_ours(tmp_path, monkeypatch):
    """The real one, of two clips and one step."""
    real = build_base.draw_clips
    monkeypatch.setattr(build_base, "draw_clips", lambda num, **kinds: real(2, **kinds))
    monkeypatch.setattr(build_base, "VaeTraining", lambda: VaeTraining(num_clips=2, num_steps=1, finishing_steps=1))
    assert build_base.build_stage(tmp_path, "vae", build_base.STAGES)["stage"] == "vae"
    described = describe_files(shipped.WEIGHTS / "base")
    made = describe_files(tmp_path / "base")
    # The tokenizer is made anew by the stage `text`.
    assert made.keys() - described.keys() == {"tokenizer/added_tokens.json"}
    assert described.keys() - made.keys() == {"tokenizer/tokenizer.json"}
    work_folder.refuse_work(tmp_path, list(PARTS))
    scheduler = "scheduler/scheduler_config.json"
    assert sha256_file(tmp_path / "base" / scheduler) == described[scheduler][1]
