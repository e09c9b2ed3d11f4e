"""The people a render is told apart from, and that no photo is on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_renders import PEOPLE, write_references
from PIL import Image

from faceid.errors import DataError
from faceid.evaluation.videos.reference_people import cut_references, find_reference_photos, refuse_shared_photos
from faceid.faces.photos.detect import load_detector
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo


@pytest.fixture
def references(tmp_path):
    return write_references(tmp_path / "references")


def blank(path):
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(path)


def test_people_are_the_subfolders_in_order_of_name(references):
    (references / "note.txt").write_text("no person")
    assert list(find_reference_photos(references)) == sorted(PEOPLE)


def test_one_person_is_too_few_to_tell_apart(references):
    for name in list(PEOPLE)[1:]:
        shutil.rmtree(references / name)
    with pytest.raises(DataError, match="1 people, at least 2 are needed"):
        find_reference_photos(references)


def test_a_person_without_photos_is_refused(references):
    (references / "zoe").mkdir()
    with pytest.raises(DataError, match="zoe: holds no photos"):
        find_reference_photos(references)


def test_a_conditioning_photo_among_the_references_is_refused_whatever_its_name(references, tmp_path):
    (tmp_path / "conditioning" / "somebody").mkdir(parents=True)
    shutil.copy(references / "bob" / "1.png", tmp_path / "conditioning" / "somebody" / "renamed.jpg")
    with pytest.raises(DataError, match=r"bob/1\.png: is the conditioning photo .*renamed\.jpg"):
        refuse_shared_photos(find_reference_photos(references), tmp_path / "conditioning")


@pytest.mark.parametrize(("size", "quality"), [((96, 96), 60), ((64, 64), 92), ((150, 150), 92), ((96, 80), 92)])
def test_a_resized_or_resaved_conditioning_photo_is_refused_with_the_correlation(references, tmp_path, size, quality):
    (tmp_path / "conditioning").mkdir()
    copy = Image.open(references / "bob" / "1.png").resize(size)
    copy.save(tmp_path / "conditioning" / "copy.jpg", quality=quality)
    with pytest.raises(
        DataError, match=r"bob/1\.png: .*the conditioning photo .*copy\.jpg \(correlation [01]\.\d+, over"
    ):
        refuse_shared_photos(find_reference_photos(references), tmp_path / "conditioning")


COPIES = {
    "mirrored": lambda picture: picture[:, ::-1],
    "cropped": lambda picture: picture[20:-10, 15:-15],
    "brighter": lambda picture: np.clip(picture * 1.3 + 8, 0, 255).astype(np.uint8),
}


@pytest.mark.fault("M9")
@pytest.mark.parametrize("folder", [".", "bob"])
@pytest.mark.parametrize("how", COPIES)
def test_a_crop_or_a_mirrored_conditioning_photo_is_no_reference(tmp_path, how, folder, caplog):
    references = write_photos(tmp_path / "references")
    copy = tmp_path / "conditioning" / folder / "copy.jpg"
    copy.parent.mkdir(parents=True)
    picture = np.asarray(Image.open(references / "bob" / "1.png"))
    Image.fromarray(np.ascontiguousarray(COPIES[how](picture))).save(copy, quality=92)
    people = cut_references(find_reference_photos(references), load_detector("haar"), 0.3, tmp_path / "conditioning")
    assert [[path.name for path in person.photos] for person in people] == [["0.png", "1.png"], ["0.png"]]
    assert "bob/1.png: not a reference, shows the same as the conditioning photo" in caplog.text


def test_other_photos_of_one_person_are_no_copies(tmp_path):
    references = write_photos(tmp_path / "references")
    conditioning = write_photos(tmp_path / "conditioning", first_seed=500)
    assert len(cut_references(find_reference_photos(references), load_detector("haar"), 0.3, conditioning)) == 2


def write_photos(folder: Path, first_seed: int = 0) -> Path:
    """Two people of two drawn photos each, large enough to be cut."""
    for number, name in enumerate(("ann", "bob")):
        (folder / name).mkdir(parents=True)
        for index in range(2):
            photo = render_photo(draw_person(30 + number), first_seed + 10 * number + index, 192)
            Image.fromarray(photo).save(folder / name / f"{index}.png")
    return folder


def test_what_is_no_picture_shares_nothing(references, tmp_path):
    conditioning = tmp_path / "conditioning"
    conditioning.mkdir()
    (conditioning / "torn.jpg").write_bytes((references / "bob" / "1.png").read_bytes()[:200])
    (conditioning / "notes.txt").write_text("no picture")
    for name in ("flat", "flat too"):
        blank(conditioning / f"{name}.png")
    Image.fromarray(np.full((96, 96, 3), 90, np.uint8)).save(references / "ann" / "flat.png")
    (references / "ann" / "torn.jpg").write_bytes(b"nothing")
    refuse_shared_photos(find_reference_photos(references), conditioning)


def test_other_photos_of_the_same_people_are_fine(references, tmp_path):
    refuse_shared_photos(find_reference_photos(references), write_references(tmp_path / "conditioning", first_seed=500))


def test_a_photo_without_a_face_is_left_out_and_said(references, caplog):
    blank(references / "ann" / "z.png")
    people = cut_references(find_reference_photos(references), load_detector("haar"), 0.3)
    assert [len(person.crops) for person in people] == [2, 2, 2, 2]
    assert "z.png: not a reference, no face found" in caplog.text


def test_a_person_without_any_face_is_refused(references):
    for path in (references / "ann").iterdir():
        blank(path)
    with pytest.raises(DataError, match=r"ann: none of its 2 photos can be a reference \(0\.png: no face found"):
        cut_references(find_reference_photos(references), load_detector("haar"), 0.3)


def test_without_a_detector_the_whole_photo_is_the_face(references):
    people = cut_references(find_reference_photos(references), load_detector("none"), 0.0)
    assert {crop.shape for person in people for crop in person.crops} == {(96, 96, 3)}
