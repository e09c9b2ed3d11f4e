"""Portraits are found by a real face detector, clips agree with their poses, and a face tells who it is."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from faceid.faces.photos.detect import load_detector
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import draw_nuisance, draw_person
from faceid.toy.render import drawn_head_boxes, render_bad_photo, render_clip, render_photo, render_pose

SIZE = (64, 64)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """60 portraits of 20 people."""
    return [render_photo(draw_person(i // 3), 7000 + i) for i in range(60)]


def test_opencvs_default_cascade_finds_nine_of_ten_portraits(photos):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    greys = [cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) for photo in photos]
    found = sum(len(cascade.detectMultiScale(grey, 1.1, 4, minSize=(48, 48))) > 0 for grey in greys)
    assert found >= 54


@pytest.mark.slow
def test_the_products_own_detector_finds_nine_of_ten_portraits_and_no_second_face(photos):
    detector = load_detector("haar")
    counts = [len(detector.detect(photo)) for photo in photos]
    assert counts.count(1) >= 54
    assert max(counts) <= 1


def test_a_photo_is_the_same_for_the_same_seed_and_changes_with_it():
    person = draw_person(3)
    assert np.array_equal(render_photo(person, 5), render_photo(person, 5))
    assert np.abs(render_photo(person, 5).astype(int) - render_photo(person, 6)).mean() > 5
    assert render_photo(person, 5, size=128).shape == (128, 128, 3)


def test_a_clip_and_its_pose_video_move_together():
    # The product's own check of a pair warns under 0.5.
    for seed, genre in enumerate(GENRES):
        joints = dance_joints(genre, seed, 17, SIZE)
        clip = render_clip(draw_person(seed), joints, draw_nuisance(seed), SIZE)
        pose = render_pose(joints, SIZE)
        assert clip.shape == pose.shape == (17, 64, 64, 3) and clip.dtype == pose.dtype == np.uint8
        energy = [np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3)) for frames in (clip, pose)]
        assert np.corrcoef(*energy)[0, 1] > 0.5, genre


def test_the_head_is_large_enough_and_its_box_holds_it():
    joints = dance_joints("MH", 1, 9, SIZE)
    person, place = draw_person(2), draw_nuisance(2)
    clip = render_clip(person, joints, place, SIZE)
    other = render_clip(
        dataclasses.replace(person, hair_colour=(person.hair_colour + 0.5) % 1, face_width=1.0, mouth_width=1.0),
        joints,
        place,
        SIZE,
    )
    for box, before, after in zip(drawn_head_boxes(joints, SIZE), clip, other, strict=True):
        x0, y0, x1, y1 = box
        assert 20 <= x1 - x0 <= 30 and 18 <= y1 - y0 <= 30
        rows, columns = np.nonzero(np.abs(before.astype(int) - after).max(-1) > 8)
        assert len(rows) > 20
        assert rows.min() >= y0 - 1 and rows.max() <= y1 + 1 and columns.min() >= x0 - 1 and columns.max() <= x1 + 1


def test_a_head_outside_the_picture_has_no_box():
    joints = dance_joints("MH", 1, 2, SIZE)
    joints[1] += 200
    assert drawn_head_boxes(joints, SIZE)[0] is not None
    assert drawn_head_boxes(joints, SIZE)[1] is None


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("skin", 0.1, 0.9),
        ("headwear", "short", "long"),
        ("headwear", "cap", "beanie"),
        ("hair_colour", 0.1, 0.8),
        ("eye_colour", 0.0, 0.75),
        ("eye_spacing", 0.0, 1.0),
        ("eye_size", 0.0, 1.0),
        ("face_width", 0.0, 1.0),
        ("mouth_width", 0.0, 1.0),
        ("brow", 0.0, 1.0),
        ("glasses", "none", "round"),
        ("glasses", "round", "square"),
    ],
)
def test_every_identity_parameter_shows_at_64_pixels(name, one, other):
    joints, place = dance_joints("PO", 0, 1, SIZE), draw_nuisance(1)
    person = dataclasses.replace(draw_person(11), headwear="short", glasses="none", skin=0.4)
    clips = [render_clip(dataclasses.replace(person, **{name: v}), joints, place, SIZE) for v in (one, other)]
    difference = np.abs(clips[0].astype(int) - clips[1])
    assert difference.max() >= 25 and (difference.max(-1) > 10).sum() >= 4


def test_people_are_told_apart_by_their_heads_at_64_pixels_in_other_light():
    joints = dance_joints("HO", 5, 1, SIZE)
    ((x0, y0, x1, y1),) = drawn_head_boxes(joints, SIZE)
    heads = []
    for place in (draw_nuisance(1), draw_nuisance(2)):
        clips = [render_clip(draw_person(i), joints, place, SIZE)[0].astype(float) for i in range(16)]
        heads.append(np.stack([clip[int(y0) + 4 : int(y1), int(x0) + 4 : int(x1) - 4].ravel() for clip in clips]))
    distance = ((heads[0][:, None] - heads[1][None]) ** 2).mean(-1)
    # Light differs by a factor between the two places; people must differ by more.
    assert (distance.argmin(1) == np.arange(16)).mean() >= 0.9


@pytest.mark.slow
def test_bad_photos_are_bad_in_their_own_way():
    detector = load_detector("haar")
    person = draw_person(0)
    detail = lambda photo: cv2.Laplacian(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()  # noqa: E731
    seeds = range(12)
    blurred, two, none = (
        [render_bad_photo(person, kind, seed) for seed in seeds] for kind in ("blurred", "second_person", "no_face")
    )
    assert max(map(detail, blurred)) < 0.2 * min(detail(render_photo(person, seed)) for seed in seeds)
    assert [len(detector.detect(photo)) for photo in none] == [0] * len(seeds)
    assert np.mean([len(detector.detect(photo)) == 2 for photo in two]) >= 0.6
    assert not np.array_equal(render_bad_photo(person, "wrong_person", 3), render_photo(person, 3))
