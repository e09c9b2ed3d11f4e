"""Keypoints from the files people have, into one form, frame by frame."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from faceid.data.body.keypoints import find_keypoints, read_keypoints
from faceid.data.body.sidecars import write_joints
from faceid.errors import DataError

STEM = "gBR_sBM_c02_d04_mBR0_ch01"


def person(x: float = 100.0, size: float = 100.0, num_joints: int = 17, confidence: float = 0.9) -> np.ndarray:
    """Joints on a diagonal, [J, 3]."""
    along = np.arange(num_joints) / num_joints * size
    return np.stack([x + along, 50 + along, np.full(num_joints, confidence)], -1)


def write_aist(path, points, **more):
    path.write_bytes(pickle.dumps({"keypoints2d": points, "det_scores": np.ones(points.shape[:2]), **more}))


def test_an_aist_pickle_gives_the_camera_the_film_s_name_says(tmp_path):
    points = np.random.default_rng(0).uniform(10, 900, (9, 5, 17, 3))
    points[..., 2] = 0.8
    points[1, 2] = np.nan
    points[1, 3, 9, 2] = 0.1
    write_aist(tmp_path / "gBR_sBM_cAll_d04_mBR0_ch01.pkl", points)
    path = find_keypoints(tmp_path, f"{STEM}_clip_001")
    assert path is not None and path.name == "gBR_sBM_cAll_d04_mBR0_ch01.pkl"
    read = read_keypoints(path, camera=1)
    np.testing.assert_allclose(read.body[0], points[1, 0, :, :2], rtol=1e-6)
    assert np.isnan(read.body[2]).all() and read.num_people.tolist() == [1, 1, 0, 1, 1]
    # Less certain than 0.3: not known.
    assert np.isnan(read.body[3, 9]).all() and np.isfinite(read.body[3, 8]).all()
    assert (read.fps, read.size_hw, read.hands) == (60, (1080, 1920), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"keypoints3d": np.ones((5, 17, 3))}, "keypoints2d None; AIST\\+\\+'s are"),
        ({"keypoints2d": np.ones((5, 17, 3))}, "\\[cameras, frames, 17, 3\\]"),
        ({"keypoints2d": np.ones((9, 5, 18, 3))}, "\\(9, 5, 18, 3\\)"),
        ({"keypoints2d": np.full((9, 5, 17, 3), "a")}, "as numbers"),
        ([1, 2], "keypoints2d None"),
        ({"keypoints2d": np.ones((1, 5, 17, 3))}, "holds 1 cameras, not c02"),
    ],
)
def test_another_pickle_is_refused_by_what_it_holds(tmp_path, content, message):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        read_keypoints(tmp_path / "x.pkl", camera=1)


def test_films_at_another_rate_are_matched_by_time_and_others_by_frame(tmp_path):
    # 600 annotated frames are ten seconds at 60 fps: 599.4 frames of a film at 59.94.
    points = np.full((9, 600, 17, 3), 0.9)
    points[..., 0] = np.arange(600)[:, None]
    write_aist(tmp_path / "x.pkl", points)
    keypoints = read_keypoints(tmp_path / "x.pkl", camera=0)
    at_30 = keypoints.of_film(300, Fraction(30))
    assert at_30.body[:, 0, 0].tolist() == list(range(0, 600, 2))
    same = keypoints.of_film(600, Fraction(60000, 1001))
    assert same.body[:, 0, 0].tolist() == list(range(600))
    longer = keypoints.of_film(603, Fraction(60))
    assert np.isnan(longer.body[600:]).all() and np.isfinite(longer.body[:600]).all()


def coco(kind, frames):
    """Frames of people as a file of one of the layouts. frames: a list of lists of [J, 3]."""
    if kind == "results":
        return [
            {"image_id": f"{n + 1:06d}.jpg", "category_id": 1, "keypoints": p.ravel().tolist(), "score": 1.0}
            for n, people in enumerate(frames)
            for p in people
        ]
    if kind == "annotations":
        images = [{"id": 70 + n, "file_name": f"{n:06d}.jpg", "height": 480, "width": 640} for n in range(len(frames))]
        rows = [
            {"image_id": 70 + n, "keypoints": p.ravel().tolist()} for n, people in enumerate(frames) for p in people
        ]
        return {"images": images[::-1], "annotations": rows[::-1]}
    return {
        "meta_info": {},
        "instance_info": [
            {
                "frame_id": n + 1,
                "instances": [{"keypoints": p[:, :2].tolist(), "keypoint_scores": p[:, 2].tolist()} for p in people],
            }
            for n, people in enumerate(frames)
        ],
    }


@pytest.mark.parametrize("kind", ["results", "annotations", "mmpose"])
def test_the_layouts_of_coco_give_the_same(tmp_path, kind):
    frames = [[person(100)], [person(102)], [], [person(104, confidence=0.2)], [person(106)]]
    (tmp_path / "film.json").write_text(json.dumps(coco(kind, frames)))
    path = find_keypoints(tmp_path, "film")
    read = read_keypoints(path)
    assert read.body.shape == (5, 17, 2) and read.num_people.tolist() == [1, 1, 0, 0, 1]
    assert read.body[[0, 1, 4], 0, 0].tolist() == [100, 102, 106] and np.isnan(read.body[2:4]).all()


def test_one_of_several_people_is_followed(tmp_path):
    # The larger one first; then the one that is nearest, though the other grows.
    frames = [[person(300, 50), person(100, 80)], [person(101, 60), person(300, 200)], [person(102, 60)]]
    (tmp_path / "film.json").write_text(json.dumps(coco("results", frames)))
    read = read_keypoints(tmp_path / "film.json")
    assert read.body[:, 0, 0].tolist() == [100, 101, 102] and read.num_people.tolist() == [2, 2, 1]


def test_whole_bodies_bring_hands_and_never_a_face(tmp_path):
    whole = person(num_joints=133)
    whole[23:91] = 777
    (tmp_path / "a.json").write_text(json.dumps(coco("results", [[whole]])))
    read = read_keypoints(tmp_path / "a.json")
    np.testing.assert_allclose(read.hands[0], whole[91:, :2], rtol=1e-6)
    assert not (read.body == 777).any() and not (read.hands == 777).any()
    apart = {"image_id": 0, "keypoints": whole[:17].ravel().tolist(), "face_kpts": [777.0] * 204}
    apart |= {"lefthand_kpts": whole[91:112].ravel().tolist(), "righthand_kpts": whole[112:].ravel().tolist()}
    (tmp_path / "b.json").write_text(json.dumps([apart]))
    again = read_keypoints(tmp_path / "b.json")
    np.testing.assert_array_equal(again.hands, read.hands)


def test_what_is_written_beside_a_clip_reads_back(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps(coco("results", [[person(num_joints=133)], [], [person(5, num_joints=133)]]))
    )
    first = read_keypoints(tmp_path / "a.json")
    write_joints(tmp_path / "clip.mp4", replace(first, size_hw=(480, 640)))
    second = read_keypoints(find_keypoints(tmp_path, "clip"))
    np.testing.assert_allclose(second.body, first.body, atol=0.006)
    np.testing.assert_allclose(second.hands, first.hands, atol=0.006)
    assert second.size_hw == (480, 640) and second.num_people.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[1]", '{"joints": [[1]]}', '[{"image_id": 1, "keypoints": [1, 2, 3]}]', '{"annotations": 3}'],
)
def test_json_of_something_else_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        read_keypoints(tmp_path / "x.json")
