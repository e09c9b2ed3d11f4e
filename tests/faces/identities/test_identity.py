"""Photos to an identity folder and back."""

from __future__ import annotations

import io
import json
import os
import shutil
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_faces import draw_photo
from PIL import Image, ImageEnhance, ImageOps

from faceid.errors import DataError
from faceid.faces.identities.identity import identity_is_current, load_identity, prepare_identity
from faceid.faces.identities.reference_pictures import cut_reference
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.copies import are_copies
from faceid.faces.photos.detect import DetectedFace
from faceid.faces.photos.photo_faces import examine_photo
from faceid.media.images import read_photo

WHOLE = FaceSettings(detector="none")


def prepare(photos, output, encoder, settings=WHOLE, name="ann"):
    return prepare_identity(photos, output, name, encoder, settings)


def test_the_folder_has_the_stated_files_and_loads_equal(tmp_path, photos, tiny_clip):
    made = prepare(photos, tmp_path / "out", tiny_clip)
    stored = torch.load(tmp_path / "out" / "identity_embedding.pt", weights_only=True)
    assert stored.dtype == torch.float32 and stored.shape == (48,) and abs(float(stored.norm()) - 1) < 1e-6
    names = {
        str(p.relative_to(tmp_path / "out"))
        for p in (tmp_path / "out").rglob("*")
        if p.is_file() and ".faceid" not in p.parts
    }
    files = {"identity_embedding.pt", "metadata.pt", "report.html", "manifest.json", "provenance.json"}
    assert names == files | {f"embeddings/{photo}.pt" for photo in made.photo_weights} | {
        f"references/{number}.png" for number in (1, 2)
    }
    read = load_identity(tmp_path / "out")
    assert (read.name, read.encoder, read.encoder_fingerprint) == ("ann", "clip", tiny_clip.fingerprint)
    assert torch.equal(read.embedding, made.embedding) and read.photo_weights == made.photo_weights
    assert all(torch.equal(read.photo_embeddings[key], value) for key, value in made.photo_embeddings.items())
    again = load_identity(tmp_path / "out" / "identity_embedding.pt")
    assert again.name == "ann" and again.photo_weights == made.photo_weights


def test_the_best_photos_are_kept_for_the_base_to_look_at(tmp_path, photos, tiny_clip):
    made = prepare(photos, tmp_path / "out", tiny_clip)
    best = max(made.photo_weights, key=made.photo_weights.get)
    expected = cut_reference(read_photo(photos / best), made.photo_boxes[best])
    assert [path.name for path in made.references] == ["1.png", "2.png"]
    assert np.array_equal(read_photo(made.references[0]), expected)
    assert load_identity(tmp_path / "out").references == made.references
    # They are part of what the manifest answers for.
    made.references[0].write_bytes(made.references[1].read_bytes())
    with pytest.raises(DataError, match=r"references/1.png"):
        load_identity(tmp_path / "out")


def test_the_same_photos_give_the_same_bytes(tmp_path, photos, tiny_clip):
    contents = []
    for name in ("one", "two"):
        prepare(photos, tmp_path / name, tiny_clip)
        contents.append((tmp_path / name / "identity_embedding.pt").read_bytes())
    assert contents[0] == contents[1]


def test_the_three_aggregations_differ(tmp_path, photos, colour_encoder):
    ways = ("weighted_mean", "mean", "median")
    results = [
        prepare(photos, tmp_path / how, colour_encoder, FaceSettings(detector="none", aggregation=how)) for how in ways
    ]
    assert set(results[1].photo_weights.values()) == {1 / 8}
    assert not torch.equal(results[0].embedding, results[1].embedding)
    assert not torch.equal(results[1].embedding, results[2].embedding)


def test_an_identity_is_replaced_whole(tmp_path, photos, tiny_clip):
    prepare(photos, tmp_path / "out", tiny_clip)
    (photos / "p7.png").unlink()
    prepare(photos, tmp_path / "out", tiny_clip)
    assert not (tmp_path / "out" / "embeddings" / "p7.png.pt").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, photos, tiny_clip):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"holds thesis\.txt, not as this command wrote it"):
        prepare(photos, tmp_path / "out", tiny_clip)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_foreign_file_in_an_identity_folder_is_not_lost(tmp_path, photos, tiny_clip):
    prepare(photos, tmp_path / "out", tiny_clip)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        prepare(photos, tmp_path / "out", tiny_clip)


def test_the_output_may_not_be_the_folder_of_the_photos(photos, tiny_clip):
    with pytest.raises(DataError, match="holds the photos"):
        prepare(photos, photos.parent, tiny_clip)


@pytest.mark.parametrize(("count", "words"), [(0, "no photos"), (2, "allow_few"), (21, "at most 20")])
def test_a_wrong_number_of_photos_is_refused(tmp_path, tiny_clip, count, words):
    (tmp_path / "few").mkdir()
    for index in range(count):
        draw_photo(tmp_path / "few" / f"{index}.png", (99, 99, 99), seed=index)
    with pytest.raises(DataError, match=words):
        prepare(tmp_path / "few", tmp_path / "out", tiny_clip)
    assert not (tmp_path / "out").exists()


def test_too_few_usable_photos_says_how_many_and_why(tmp_path, photos, tiny_clip):
    for index in range(2, 8):
        (photos / f"p{index}.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"2 of 8 photos are usable, 3 are needed \(p2.png: cannot be decoded"):
        prepare(photos, tmp_path / "out", tiny_clip)


def test_allow_few_goes_on_with_two_photos(tmp_path, photos, tiny_clip):
    for index in range(2, 8):
        (photos / f"p{index}.png").unlink()
    identity = prepare(photos, tmp_path / "out", tiny_clip, FaceSettings(detector="none", allow_few=True))
    assert len(identity.photo_weights) == 2


def test_allow_few_still_needs_a_face(tmp_path, photos, tiny_clip):
    with pytest.raises(DataError, match="0 of 8 photos are usable"):
        prepare(photos, tmp_path / "out", tiny_clip, FaceSettings(detector="haar", allow_few=True))


def test_two_people_are_refused_unless_the_check_is_off(tmp_path, photos, colour_encoder):
    for index in range(4):
        draw_photo(photos / f"q{index}.png", (40, 60 + 2 * index, 210), seed=100 + index)
    with pytest.raises(DataError, match="two different people"):
        prepare(photos, tmp_path / "out", colour_encoder)
    settings = FaceSettings(detector="none", check_one_person=False)
    assert len(prepare(photos, tmp_path / "out", colour_encoder, settings).photo_weights) >= 8


def test_dropped_photos_are_logged_and_told_in_report_and_metadata(tmp_path, photos, tiny_clip, caplog):
    shutil.copy(photos / "p0.png", photos / "copy.png")
    (photos / "half.jpg").write_bytes(b"\xff\xd8\xff")
    prepare(photos, tmp_path / "out", tiny_clip)
    report = (tmp_path / "out" / "report.html").read_text()
    entries = torch.load(tmp_path / "out" / "metadata.pt", weights_only=True)["photos"]
    reasons = {entry["file"]: entry["reason"] for entry in entries if not entry["kept"]}
    assert set(reasons) == {"p0.png", "half.jpg"} and "copy.png" in reasons["p0.png"]
    assert all(f"Dropped: {reason}" in report for reason in reasons.values())
    assert all(f"{name} dropped: {reason}" in caplog.text for name, reason in reasons.items())


def test_the_report_is_one_private_file_with_all_names_escaped(tmp_path, photos, tiny_clip):
    os.rename(photos / "p0.png", photos / "<b>p0.png")
    prepare(photos, tmp_path / "out", tiny_clip, name="<script>")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "keep it private" in report and "<script" not in report and "<b>p0" not in report
    assert report.count("data:image/jpeg;base64,") == 16
    assert "http" not in report


def test_no_other_file_holds_pictures(tmp_path, photos, tiny_clip):
    prepare(photos, tmp_path / "out", tiny_clip)
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file() and file.name != "report.html":
            assert file.stat().st_size < 12_000 and b"base64" not in file.read_bytes()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert str(photos) not in json.dumps(manifest)


def test_the_orientation_of_the_camera_does_not_change_the_identity(tmp_path, photos, tiny_clip):
    turned = tmp_path / "turned"
    turned.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in photos.iterdir():
        # Stored a quarter turn to the left, with the tag that says: turn right.
        Image.fromarray(np.rot90(np.asarray(Image.open(path))).copy()).save(turned / path.name, exif=exif)
    plain = prepare(photos, tmp_path / "a", tiny_clip)
    assert torch.equal(plain.embedding, prepare(turned, tmp_path / "b", tiny_clip).embedding)


def test_a_bare_tensor_is_an_identity_of_unknown_encoder(tmp_path):
    torch.save(torch.nn.functional.normalize(torch.ones(8), dim=0), tmp_path / "bob.pt")
    identity = load_identity(tmp_path / "bob.pt")
    assert (identity.name, identity.encoder, identity.photo_weights) == ("bob", "unknown", {})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(8), "of length 2.828"),
        (torch.full((8,), float("nan")), "finite"),
        (torch.eye(3), "one float tensor"),
        ({"embedding": 1}, "one float tensor"),
    ],
)
def test_what_is_no_unit_embedding_is_refused(tmp_path, value, words):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(DataError, match=words):
        load_identity(tmp_path / "x.pt")


class Harmful:
    """A pickle that would run code."""

    def __reduce__(self):
        return (os.mkdir, ("harmed",))


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), tmp_path / "x.pt")
    with pytest.raises(DataError, match="plain types"):
        load_identity(tmp_path / "x.pt")
    assert not (tmp_path / "harmed").exists()


def test_a_changed_or_incomplete_folder_is_refused(tmp_path, photos, tiny_clip):
    prepare(photos, tmp_path / "out", tiny_clip)
    file = tmp_path / "out" / "embeddings" / "p3.png.pt"
    file.unlink()
    with pytest.raises(DataError, match=r"p3\.png\.pt: missing or changed"):
        load_identity(tmp_path / "out")


def test_a_missing_identity_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="prepare_face_embeddings"):
        load_identity(tmp_path / "absent")


COPIES = {
    "saved again": lambda image: Image.open(_saved(image, quality=30)).convert("RGB"),
    "twice as large": lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
    "0.7 as large": lambda image: image.resize((112, 112), Image.Resampling.LANCZOS),
    "cut": lambda image: image.crop((12, 8, 152, 148)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "turned": lambda image: image.rotate(2, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)),
    "mirrored": ImageOps.mirror,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
}


def _saved(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return buffer


@pytest.mark.fault("M9")
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_no_photo_of_its_own_however_it_was_made(tmp_path, photos, colour_encoder, name):
    # By colour alone a grey or brighter copy is another person: the pictures themselves are compared.
    COPIES[name](Image.open(photos / "p0.png")).save(photos / "copy.png")
    identity = prepare(photos, tmp_path / "out", colour_encoder, FaceSettings(detector="none", check_one_person=False))
    entries = torch.load(tmp_path / "out" / "metadata.pt", weights_only=True)["photos"]
    reasons = {entry["file"]: entry["reason"] for entry in entries if not entry["kept"]}
    (dropped,) = (file for file in ("p0.png", "copy.png") if file not in identity.photo_weights)
    assert "nearly the same picture as" in reasons[dropped] and ("(mirrored)" in reasons[dropped]) == (
        name == "mirrored"
    )


@pytest.mark.fault("M9")
def test_eight_copies_of_one_photo_are_one_photo(tmp_path, photos, tiny_clip):
    for index in range(1, 8):
        (photos / f"p{index}.png").unlink()
    for name, copy in COPIES.items():
        copy(Image.open(photos / "p0.png")).save(photos / f"{name}.png")
    with pytest.raises(DataError, match=r"1 of 9 photos are usable, 3 are needed .*nearly the same picture as"):
        prepare(photos, tmp_path / "out", tiny_clip)


def test_photos_before_one_wall_are_no_copies(tmp_path, photos, tiny_clip):
    wall = np.asarray(Image.open(photos / "p0.png"))
    for index in range(1, 8):
        picture = wall.copy()
        picture[40:120, 40:120] = np.asarray(Image.open(photos / f"p{index}.png"))[40:120, 40:120]
        Image.fromarray(picture).save(photos / f"p{index}.png")
    boxes = SimpleNamespace(detect=lambda image: [DetectedFace((40, 40, 120, 120), 1.0)])
    looked = [examine_photo(path, boxes, 0.0) for path in sorted(photos.iterdir())]
    assert all(are_copies(one.compared, (40, 40, 120, 120), two.compared) is None for one, two in pairwise(looked))


@pytest.mark.fault("M10")
@pytest.mark.parametrize("kind", ["blank", "two people"])
@pytest.mark.slow
def test_a_refused_set_has_its_report_and_leaves_the_identity_that_is_there(tmp_path, photos, colour_encoder, kind):
    out = tmp_path / "out"
    settings = FaceSettings(detector="haar" if kind == "blank" else "none")
    before = prepare(photos, out, colour_encoder, FaceSettings(detector="none"))
    for index in range(4):
        draw_photo(photos / f"q{index}.png", (40, 60 + 2 * index, 210), seed=100 + index)
    for _ in range(2):
        with pytest.raises(DataError, match=r"what became of it: .*out_refused\.html") as caught:
            prepare(photos, out, colour_encoder, settings)
    report = tmp_path / "out_refused.html"
    assert str(caught.value).endswith(str(report)) and report.stat().st_mode & 0o777 == 0o600
    text = report.read_text()
    assert text.count('<td class="name">') == 12 and "keep it private" in text and "refused" in text
    assert ("no face found" if kind == "blank" else "two different people") in text
    assert torch.equal(load_identity(out).embedding, before.embedding)


def test_an_identity_of_an_older_recipe_is_not_current(tmp_path, photos, tiny_clip):
    settings = FaceSettings(detector="none")
    prepare(photos, tmp_path / "out", tiny_clip)
    assert identity_is_current(tmp_path / "out", photos, tiny_clip, settings)
    metadata = torch.load(tmp_path / "out" / "metadata.pt", weights_only=True)
    torch.save({**metadata, "recipe": metadata["recipe"] - 1}, tmp_path / "out" / "metadata.pt")
    assert not identity_is_current(tmp_path / "out", photos, tiny_clip, settings)


def test_what_has_a_photos_name_and_is_no_file_is_named_and_in_the_report(tmp_path, photos, tiny_clip, caplog):
    (photos / "dangling.jpg").symlink_to(photos / "gone.jpg")
    os.mkfifo(photos / "pipe.png")
    (photos / "album.jpg").mkdir()
    prepare(photos, tmp_path / "out", tiny_clip, FaceSettings(detector="none"))
    said = "3 left out that are no files: album.jpg (a folder), dangling.jpg (a link to nothing), pipe.png (a pipe)"
    assert said in caplog.text
    report = (tmp_path / "out" / "report.html").read_text()
    assert "dangling.jpg" in report and "is no file: a link to nothing" in report and "is no file: a pipe" in report
    # They are no photos to a second run either, which finds nothing to do.
    assert identity_is_current(tmp_path / "out", photos, tiny_clip, FaceSettings(detector="none"))
