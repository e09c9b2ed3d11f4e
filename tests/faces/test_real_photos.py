"""The whole way on real photos: news portraits, near-duplicates, groups, odd files."""

from __future__ import annotations

import shutil

import pytest
import torch

from faceid.errors import DataError
from faceid.faces.identities.identity import prepare_identity
from faceid.faces.identity_settings import FaceSettings

pytestmark = pytest.mark.real_data

PEOPLE = ("Ariel_Sharon", "Arnold_Schwarzenegger", "Colin_Powell", "Donald_Rumsfeld", "Tony_Blair")


def described(output):
    return {entry["file"]: entry for entry in torch.load(output / "metadata.pt", weights_only=True)["photos"]}


@pytest.mark.parametrize("name", PEOPLE)
def test_ten_news_photos_give_an_identity(name, real_data, tmp_path, tiny_clip):
    photos = real_data / "faces" / "lfw" / name
    identity = prepare_identity(photos, tmp_path / "out", name, tiny_clip, FaceSettings())
    assert len(identity.photo_weights) >= 6
    assert all(len(entry["box_xyxy"]) == 4 for entry in described(tmp_path / "out").values())


def test_two_photos_of_lennon_are_refused_with_the_minimum(real_data, tmp_path, tiny_clip):
    with pytest.raises(DataError, match=r"2 photos, at least 3 are needed.*--allow_few"):
        prepare_identity(real_data / "faces" / "lennon", tmp_path / "out", "lennon", tiny_clip, FaceSettings())


@pytest.mark.slow
def test_copies_and_half_faces_of_obama_are_dropped_with_reasons(real_data, tmp_path, tiny_clip):
    photos = real_data / "faces" / "obama"
    prepare_identity(photos, tmp_path / "out", "obama", tiny_clip, FaceSettings())
    reasons = {name: entry["reason"] for name, entry in described(tmp_path / "out").items() if not entry["kept"]}
    assert set(reasons) == {"obama-240p.jpg", "obama_small.jpg", "obama_partial_face.jpg", "obama_partial_face2.jpg"}
    assert "same picture as obama.jpg" in reasons["obama_small.jpg"]
    assert "no face" in reasons["obama_partial_face.jpg"]


@pytest.mark.slow
def test_group_photos_are_flagged(real_data, tmp_path, tiny_clip):
    (tmp_path / "photos").mkdir()
    for path in [*(real_data / "faces" / "group").iterdir(), *(real_data / "faces" / "obama").glob("obama[123].jpg")]:
        shutil.copy(path, tmp_path / "photos")
    prepare_identity(tmp_path / "photos", tmp_path / "out", "obama", tiny_clip, FaceSettings())
    entries = described(tmp_path / "out")
    for name in ("obama_and_biden.jpg", "two_people.jpg"):
        assert entries[name]["notes"][0].startswith("2 faces; took the one that agrees")


@pytest.mark.slow
def test_odd_files_never_stop_the_others(real_data, tmp_path, tiny_clip):
    (tmp_path / "photos").mkdir()
    for path in [*(real_data / "image_bad").iterdir()]:
        if "hopper" not in path.name:
            shutil.copy(path, tmp_path / "photos")
    for path in sorted((real_data / "faces" / "lfw" / "Tony_Blair").iterdir())[:2]:
        shutil.copy(path, tmp_path / "photos")
    prepare_identity(tmp_path / "photos", tmp_path / "out", "x", tiny_clip, FaceSettings())
    kept = {name for name, entry in described(tmp_path / "out").items() if entry["kept"]}
    assert kept == {"face_32bit_rgba.png", "Tony_Blair_0001.jpg", "Tony_Blair_0002.jpg"}
