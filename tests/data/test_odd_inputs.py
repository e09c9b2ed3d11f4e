"""What people bring, odd: each reader of training data says in one line what it was, or reads it as what it is."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from written_identities import unit_embedding, write_identity

from faceid.data.body.keypoints import read_keypoints
from faceid.data.body.sidecars import read_heads
from faceid.data.dancers import read_dancers
from faceid.data.shards.index import ShardIndex, index_sha256
from faceid.errors import DataError
from faceid.evaluation.videos.heads import known_heads
from faceid.faces.identities.identity import load_identity
from faceid.faces.identities.identity_folder import write_manifest

pytestmark = pytest.mark.fault("W5")


def refused(read, *arguments, says):
    with pytest.raises(DataError) as error:
        read(*arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["shards"][0].update(sha256=7), "sha256 7"),
        (lambda c: c["shards"][0].update(size=7.5), "size 7.5"),
        (lambda c: c["samples"][0].update(dancer=["a"]), "dancer ['a']"),
        (lambda c: c["samples"][0].update(frames="9"), "frames '9'"),
        (lambda c: c["samples"][0].update(camera=1), "camera 1"),
        (lambda c: c["samples"][0]["members"].update(json=[]), "not an index of ours"),
        (lambda c: c["settings"].update(height=0), "height"),
        (lambda c: c.update(settings=[]), "settings"),
        (lambda c: c.update(kind="others"), "kind 'others'"),
        (lambda c: c.update(dropped=[1]), "dropped"),
    ],
)
def test_an_index_is_of_the_types_that_training_takes_it_for(tmp_path, change, says):
    settings = {"num_frames": 9, "height": 64, "width": 64, "fps": 16.0}
    sample = {"key": "a", "members": {"json": [512, 2]}, "frames": 9, "dancer": "d", "genre": None, "camera": None}
    shard = {"path": "clips-000000.tar", "size": 2048, "sha256": "a" * 64, "count": 1}
    content = {"kind": "clips", "version": 1, "settings": settings, "dropped": [], "shards": [shard]}
    content["samples"] = [{**sample, "shard": 0}]
    (tmp_path / "index.json").write_text(json.dumps({**content, "sha256": index_sha256(content)}))
    assert len(ShardIndex.load(tmp_path, "clips")) == 1
    change(content)
    (tmp_path / "index.json").write_text(json.dumps({**content, "sha256": index_sha256(content)}))
    refused(ShardIndex.load, tmp_path, says=says)


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        ({"file": "../../a.jpg"}, "'../../a.jpg' is no photo's name"),
        ({"file": 3}, "photos.0.file"),
        ({"weight": float("nan")}, "weighs nan"),
        ({"box_xyxy": [1, 2]}, "a face box of 2 numbers"),
        ({"sha256": None}, "written by an older version"),
        ({"kept": "perhaps"}, "photos.0.kept"),
    ],
)
def test_metadata_of_an_identity_is_checked_before_it_names_a_file(tmp_path, photo, says):
    folder = write_identity(tmp_path / "anna")
    (folder / "embeddings").mkdir()
    torch.save(unit_embedding(0), folder / "embeddings" / "a.jpg.pt")
    kept = {"file": "a.jpg", "kept": True, "weight": 1.0, "box_xyxy": [1, 2, 3, 4], "sha256": "a" * 64}
    about = {"name": "anna", "encoder": "clip", "encoder_fingerprint": "e" * 64}
    for entry in (kept, {**kept, **photo}):
        torch.save({**about, "photos": [entry]}, folder / "metadata.pt")
        (folder / "manifest.json").unlink()
        write_manifest(folder, about)
        if entry == kept:
            assert load_identity(folder).photo_weights == {"a.jpg": 1.0}
    refused(load_identity, folder, says=says)


@pytest.mark.parametrize("name", ["../b.pt", "/etc/passwd"])
def test_a_manifest_names_files_within_its_folder(tmp_path, name):
    folder = write_identity(tmp_path / "anna")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size": 1, "sha256": "a"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(load_identity, folder, says=f"{name!r} is outside the folder")


def test_a_clip_of_two_dancers_is_refused_and_a_quoted_name_may_have_two_lines(tmp_path):
    table = tmp_path / "dancers.csv"
    table.write_text("clip,dancer\na.mp4,anna\nb.mp4,bob\na,bob\n")
    refused(read_dancers, table, says="line 4: a is of bob, and of anna before")
    table.write_text('clip,dancer\na.mp4,"an\nna"\nb,bob\na,"an\nna"\n')
    assert read_dancers(table) == {"a": "an\nna", "b": "bob"}
    table.write_text('clip,dancer\na.mp4,"anna\nb.mp4,bob\n')
    refused(read_dancers, table, says="cannot be read as a CSV file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([{"image_id": 10**12, "keypoints": [1.0, 2.0, 0.9] * 17}], "a film has up to 180000"),
        ([{"image_id": -3, "keypoints": [1.0, 2.0, 0.9] * 17}], "frame -3"),
        ({"instance_info": [{"frame_id": 2**60, "instances": []}]}, "a film has up to 180000"),
        ({"joints": [[[1, 2]] * 17], "size_hw": [0, 0]}, "size_hw [0, 0] is not [height, width]"),
        ({"joints": [[[1, 2]] * 16 + [[1]]]}, "joints are [frames][17][x, y]"),
    ],
)
def test_a_frames_number_makes_no_room_for_a_million_frames(tmp_path, content, says):
    (tmp_path / "a.json").write_text(json.dumps(content))
    refused(read_keypoints, tmp_path / "a.json", says=says)


def test_a_box_is_of_finite_numbers(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    (tmp_path / "a.heads.json").write_text('{"boxes": [["nan", 1, 2, 3]], "size_hw": [32, 48]}')
    refused(read_heads, tmp_path / "a.heads.json", (32, 48), says="a box at")
    refused(known_heads, tmp_path, "a", [0], (32, 48), says="not four finite numbers")
