"""Which photos count: one face each, no duplicates, one person, no outliers, and never too few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from faceid.errors import DataError
from faceid.faces.photos import photo_selection
from faceid.faces.photos.detect import DetectedFace
from faceid.faces.photos.photo_faces import Candidate, Photo


def towards(*parts):
    return torch.nn.functional.normalize(torch.tensor(parts, dtype=torch.float32), dim=0)


def candidate(embedding, seed=0, sharpness=200.0, size=120.0, score=1.0):
    """One face; a seed is a picture."""
    crop = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    face = DetectedFace((0, 0, int(size), int(size)), score)
    return Candidate(face, crop, sharpness, size, embedding)


def photo(name, *candidates):
    return Photo(Path("photos") / name, candidates=list(candidates))


def person(count, around=(1.0, 0.0, 0.0, 0.0), first=0, **measured):
    """Photos of one person: embeddings around one direction, each photo another picture."""
    generator = torch.Generator().manual_seed(first)
    made = []
    for index in range(first, first + count):
        noise = 0.1 * torch.randn(len(around), generator=generator)
        made.append(photo(f"p{index:02d}.jpg", candidate(towards(*(torch.tensor(around) + noise)), index, **measured)))
    return made


def select(photos):
    """The whole selection, as identity.py runs it."""
    photo_selection.choose_faces(photos)
    photo_selection.score_quality(photos)
    photo_selection.drop_duplicates(photos)
    photo_selection.refuse_two_people(photos)
    photo_selection.drop_poor(photos)
    photo_selection.set_weights(photos, alike=False)
    return photos


def dropped(photos):
    return {p.name: p.dropped for p in photos if p.dropped is not None}


def test_like_photos_of_one_person_all_count_and_weights_sum_to_one():
    photos = select(person(8))
    assert dropped(photos) == {}
    assert sum(p.weight for p in photos) == pytest.approx(1)


def test_a_stranger_is_dropped_with_the_reason():
    stranger = photo("stranger.jpg", candidate(towards(0.0, 1.0, 0.0, 0.0), seed=99))
    photos = select([*person(7), stranger])
    assert list(dropped(photos)) == ["stranger.jpg"]
    assert "does not look like" in stranger.dropped and stranger.weight == 0


def test_two_sharp_strangers_do_not_outweigh_eight_dull_photos():
    # Of a soft face the detector is less sure as well: weighed by both, two strangers counted more than all eight.
    strangers = person(2, around=(0.0, 1.0, 0.0, 0.0), first=20, sharpness=800.0)
    photos = select([*person(8, sharpness=60.0, score=0.75), *strangers])
    assert sorted(dropped(photos)) == [p.name for p in strangers]


def test_never_more_than_forty_percent_are_rejected_and_the_rest_says_so():
    photos = select([*person(5), *person(5, first=5, sharpness=2.0)])
    assert len(dropped(photos)) == 4
    assert next(p.notes for p in photos if p.notes)[0].startswith("kept, to keep enough photos, although: blurred")


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (4, 3), (5, 3)])
def test_at_least_three_photos_are_kept(count, kept):
    photos = select(person(count, size=12.0))
    assert count - len(dropped(photos)) == kept


@pytest.mark.parametrize(
    ("fault", "reason"),
    [({"size": 15.0}, "15 px"), ({"sharpness": 4.0}, "blurred"), ({"score": 0.55}, "hardly a face")],
)
def test_a_poor_face_is_dropped_with_the_reason(fault, reason):
    photos = select([*person(6), *person(1, first=6, **fault)])
    assert list(dropped(photos)) == ["p06.jpg"] and reason in photos[6].dropped


def test_of_two_copies_the_better_one_stays():
    small = photo("small.jpg", candidate(towards(1.0, 0.1, 0.0, 0.0), seed=50, size=40.0))
    large = photo("large.jpg", candidate(towards(1.0, 0.1, 0.0, 0.0), seed=50, size=200.0))
    photos = select([small, large, *person(4)])
    assert list(dropped(photos)) == ["small.jpg"] and "large.jpg" in small.dropped


def test_like_embeddings_of_different_pictures_are_no_duplicates():
    same = towards(1.0, 0.1, 0.0, 0.0)
    photos = select([photo(f"{seed}.jpg", candidate(same, seed)) for seed in range(4)])
    assert dropped(photos) == {}


def test_two_people_are_refused_with_both_lists():
    photos = [*person(4), *person(3, around=(0.0, 1.0, 0.0, 0.0), first=4)]
    with pytest.raises(DataError, match=r"One group: p00.jpg, .*p03.jpg. The other: p04.jpg, p05.jpg, p06.jpg"):
        select(photos)


def test_two_kinds_of_photo_of_one_person_are_no_two_people():
    # Two tight groups (say, with and without glasses), but close to each other.
    photos = [*person(4, around=(8.0, 0.0, 0.0, 0.0)), *person(4, around=(8.0, 2.0, 0.0, 0.0), first=4)]
    select(photos)


def test_of_several_faces_the_one_that_agrees_is_taken_and_said():
    other = candidate(towards(0.0, 1.0, 0.0, 0.0), seed=70, size=300.0)
    wanted = candidate(towards(1.0, 0.0, 0.0, 0.0), seed=71, size=100.0)
    group = photo("group.jpg", other, wanted)
    select([*person(4), group])
    assert group.chosen is wanted and "not the largest" in group.notes[0]


def test_without_photos_of_one_face_the_largest_is_taken_and_said():
    photos = [
        photo(f"g{n}.jpg", candidate(towards(1.0, 0.1 * n), n, size=200.0), candidate(towards(0.0, 1.0), 9 + n))
        for n in range(3)
    ]
    select(photos)
    assert all(p.chosen is p.candidates[0] and "took the largest" in p.notes[0] for p in photos)


def test_sharper_and_larger_faces_weigh_more():
    photos = person(6)
    photos[0].candidates[0].sharpness = 600.0
    photos[1].candidates[0].size_px = 40.0
    select(photos)
    middle = photos[3].weight
    assert photos[0].weight > middle > photos[1].weight


@pytest.mark.fault("M8")
def test_a_large_box_that_is_hardly_a_face_does_not_win_over_sure_faces():
    shirts = [candidate(towards(0.3, 1.0, n), 40 + n, size=300.0, score=0.78) for n in range(3)]
    faces = [candidate(towards(1.0, 0.1 * n, 0.0), n, size=90.0) for n in range(3)]
    others = [candidate(towards(0.0, 0.2 * n, 1.0), 20 + n, size=60.0) for n in range(3)]
    photos = [photo(f"g{n}.jpg", shirts[n], faces[n], others[n]) for n in range(3)]
    photo_selection.choose_faces(photos)
    assert [p.chosen for p in photos] == faces
    assert all("3 faces; took the largest sure one (not the largest box)" in p.notes[0] for p in photos)
