"""Nearer and mirrored views of a clip: what is in them, that left stays left, and whose they are."""

from __future__ import annotations

import json
import shutil
from collections import Counter, namedtuple

import numpy as np
import pytest
import torch

from faceid.data.body.keypoints import Keypoints
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.latents import clip_views as module
from faceid.data.latents.clip_views import (
    MOST_ENLARGED,
    NO_HEAD,
    NO_JOINTS,
    NO_NEARER,
    View,
    drawn_style,
    joints_in,
    mirrored,
    show,
    show_boxes,
    view_fit,
    view_key,
)
from faceid.data.latents.head_mask import head_mask
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_shards import latents_are_current, write_latent_shards
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError, DataError
from faceid.media.pixels.draw import Canvas
from faceid.media.pixels.fit import fit_sizes
from faceid.media.pixels.skeleton import draw_skeleton, draw_skeletons
from faceid.media.video import decode_video_bytes
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.toy.dance import dance_joints

SHARDS_HW, SIZE_HW = (960, 1664), (480, 832)


def heads(*places, side=60.0):
    return [[x, y, x + side, y + 1.2 * side] if x is not None else None for x, y in places]


@pytest.mark.parametrize("name", ["upper_body", "head"])
@pytest.mark.parametrize("places", [[(800, 100)], [(700, 100), (None, 0), (900, 180)], [(5, 3)], [(1600, 880)]])
def test_a_nearer_view_holds_the_head_wherever_it_goes(name, places):
    boxes = heads(*places)
    fit = view_fit(name, boxes, SHARDS_HW, SIZE_HW)
    left, top, width, height = fit.source
    assert left >= 0 and top >= 0 and left + width <= SHARDS_HW[1] and top + height <= SHARDS_HW[0]
    assert width / height == pytest.approx(SIZE_HW[1] / SIZE_HW[0], rel=0.01)
    assert SIZE_HW[0] / height <= MOST_ENLARGED + 0.01
    for box in boxes:
        if box:
            assert left <= box[0] and top <= box[1] and left + width >= box[2] and top + height >= box[3]


def test_the_nearer_the_view_the_larger_the_head():
    boxes = heads((800, 100))
    sizes = [view_fit(name, boxes, SHARDS_HW, SIZE_HW).box(boxes[0]) for name in ("full", "upper_body", "head")]
    heights = [box[3] - box[1] for box in sizes]
    # Half the shards' size in the whole view; in the others as near as the pixels allow.
    assert heights == pytest.approx([36, 106.7, 108], rel=0.03)


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        (None, NO_HEAD),
        ([None, None], NO_HEAD),
        # The dancer crosses the picture.
        (heads((10, 100), (1590, 100)), NO_NEARER),
        (heads((500, 100), side=500), NO_NEARER),
    ],
)
def test_where_there_is_no_nearer_view_it_is_said_why(boxes, why):
    assert view_fit("upper_body", boxes, SHARDS_HW, SIZE_HW) == why
    assert not isinstance(view_fit("full", boxes, SHARDS_HW, SIZE_HW), str)


@pytest.fixture
def dancer():
    return Keypoints(dance_joints("HO", 3, 9, (480, 640)), None, np.ones(9, int), None, (480, 640))


@pytest.mark.parametrize("style", ["vace", "toy"])
def test_a_mirrored_skeleton_has_the_mirrored_shape_and_its_left_is_left(dancer, style):
    drawn = draw_skeleton(dancer.body[4], dancer.size_hw, style)
    turned = draw_skeleton(mirrored(dancer).body[4], dancer.size_hw, style)
    shape, mirrored_shape = drawn[:, ::-1].max(-1) > 60, turned.max(-1) > 60
    assert (shape != mirrored_shape).mean() < 0.002 and shape.mean() > 0.003
    # The colour of the left wrist is where the right one was, seen in the mirror.
    left, right = 9, 10
    x, y = dancer.body[4, right].round().astype(int)
    before_x, before_y = dancer.body[4, left].round().astype(int)
    assert np.abs(turned[y, 639 - x].astype(int) - drawn[before_y, before_x]).max() < 40
    assert np.abs(drawn[y, x].astype(int) - drawn[before_y, before_x]).max() > 60


def test_twice_mirrored_is_as_before(dancer):
    again = mirrored(mirrored(dancer))
    assert np.allclose(again.body, dancer.body)


def test_hands_change_sides(dancer):
    hands = np.random.default_rng(0).uniform(0, 100, (9, 42, 2)).astype(np.float32)
    with_hands = Keypoints(dancer.body, hands, dancer.num_people, None, dancer.size_hw)
    turned = mirrored(with_hands).hands
    assert np.allclose(turned[:, :21, 0], 640 - hands[:, 21:, 0]) and np.allclose(turned[:, 21:, 1], hands[:, :21, 1])


def test_the_style_of_a_drawing_is_known_and_anothers_drawing_is_none(dancer):
    for style in ("vace", "toy"):
        pose = np.stack(list(draw_skeletons(dancer.body, dancer.size_hw, style)))
        assert drawn_style(pose, dancer) == style
    other = Keypoints(dancer.body[::-1] + 48, None, dancer.num_people, None, dancer.size_hw)
    assert drawn_style(pose, other) is None and drawn_style(pose, None) is None
    canvas = Canvas(np.zeros((480, 640, 3), np.uint8))
    assert drawn_style(np.stack([canvas.picture()] * 9), dancer) is None


def test_a_view_at_the_shards_own_size_is_still_the_nearer_one():
    frames = np.random.default_rng(0).integers(0, 255, (2, 480, 832, 3)).astype(np.uint8)
    fit = view_fit("head", heads((400, 100), side=80), (480, 832), (480, 832))
    nearer = show(View("head", False, fit), frames)
    assert nearer.shape == frames.shape and np.array_equal(nearer[1], fit.frame(frames[1]))
    assert not np.array_equal(nearer, frames)
    whole = view_fit("full", None, (480, 832), (480, 832))
    assert show(View("full", False, whole), frames) is frames
    assert np.array_equal(show(View("full", True, whole), frames), frames[:, :, ::-1])


def test_boxes_go_with_the_view():
    view = View("full", True, fit_sizes(SHARDS_HW, *SIZE_HW, "crop"))
    assert show_boxes(view, [[100, 20, 160, 100], None]) == [[752, 10, 782, 50], None]


def test_keys_stay_short_enough_and_apart():
    long, other = "a" * 80, "a" * 79 + "b"
    assert len(view_key(long, "-upper_body-flip")) <= 80 and view_key(long, "-flip") != view_key(other, "-flip")
    assert view_key("dance", "-head") == "dance-head"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encode_height": 480}, "only one of them is given"),
        ({"encode_height": 1920, "encode_width": 3328}, "larger than the shards'"),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ViewSettings(**settings).size_hw(SHARDS_HW)
    with pytest.raises(ConfigError, match="at least one"):
        ViewSettings(views=[])


@pytest.fixture(scope="module")
def large_shards(toy_inputs, tmp_path_factory):
    """The toy's clips at twice their size, with joints; one of them without."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(toy_inputs.dataset / "videos", folder / "videos")
    shutil.copytree(toy_inputs.dataset / "poses", folder / "poses")
    sorted((folder / "poses").glob("*.joints.json"))[0].unlink()
    settings = ClipSettings(num_frames=9, height=128, width=128, clips_per_shard=3)
    write_clip_shards(folder / "videos", folder / "poses", folder / "shards", settings)
    return folder / "shards"


VIEWS = ViewSettings(views=["full", "head"], flips=True, encode_height=64, encode_width=64)


@pytest.fixture(scope="module")
def encoded(large_shards, tmp_path_factory, toy_path):
    from faceid.models.base.wan import load_wan

    folder = tmp_path_factory.mktemp("views") / "latents"
    wan = load_wan(toy_path, ("vae", "text"), name="toy")
    with pytest.MonkeyPatch.context() as patch:
        # The toy's heads are a third of the picture: a nearer view is hardly one.
        patch.setattr(module, "LEAST_NEARER", 1.0)
        write_latent_shards(large_shards, folder, wan, "a person dancing", batch_size=2, views=VIEWS)
    return folder, wan


def test_views_are_entries_of_their_own_and_belong_to_their_clip(encoded, large_shards):
    folder, _ = encoded
    latents, clips = LatentSet.open(folder), ShardIndex.load(large_shards, "clips")
    each = Counter(latents.clips)
    # Without joints there is no mirrored view.
    assert set(each) == {sample.key for sample in clips.samples} and max(each.values()) == 4
    without, *others = [sample.key for sample in clips.samples]
    assert f"{without}-flip" not in latents.keys and all(f"{key}-flip" in latents.keys for key in others)
    dancer_of = {sample.key: sample.dancer for sample in clips.samples}
    assert [dancer_of[clip] for clip in latents.clips] == latents.dancers
    dropped = json.loads((folder / "index.json").read_text())["dropped"]
    assert {"key": f"{without}-flip", "reason": NO_JOINTS} in dropped
    assert len(dropped) + len(latents) == 4 * len(clips) and latents.index.header["settings"]["height"] == 64


def test_a_mirrored_entry_is_the_mirrored_clip_with_its_skeleton_drawn_anew(encoded, large_shards):
    folder, wan = encoded
    latents, clips = LatentSet.open(folder), ShardIndex.load(large_shards, "clips")
    key = clips.samples[1].key
    flipped = latents[latents.keys.index(f"{key}-flip")]
    video = decode_video_bytes(clips.read(key, "video.mp4")).frames
    fit = fit_sizes((128, 128), 64, 64, "crop")
    mirrored_video = np.stack([fit.frame(frame)[:, ::-1] for frame in video])
    expected = encode_pixels(wan.vae, to_pixels(mirrored_video))[0].to(torch.bfloat16)
    torch.testing.assert_close(flipped.video, expected)
    details = json.loads(latents.index.read(f"{key}-flip", "json"))
    mask = head_mask(details["head_boxes"], 9, 64, 64, wan.geometry)
    assert torch.equal(flipped.head_mask, mask)
    whole = latents[latents.keys.index(key)]
    assert float((whole.head_mask.flip(-1) != flipped.head_mask).float().mean()) < 0.05
    assert details["is_flipped"] and details["clip"] == key and details["view"] == "full"
    # Drawn anew: its colours are exchanged, not its picture mirrored.
    joints = joints_in(json.loads(clips.read(key, "json")))
    small = joints.moved(lambda points: points / 2, (64, 64))
    pose = np.stack(list(draw_skeletons(mirrored(small).body, (64, 64), "toy")))
    torch.testing.assert_close(flipped.pose, encode_pixels(wan.vae, to_pixels(pose))[0].to(torch.bfloat16))


def test_a_nearer_entry_shows_a_larger_head(encoded):
    latents = LatentSet.open(encoded[0])
    nearer = [number for number, key in enumerate(latents.keys) if key.endswith("-head")]
    assert nearer
    for number in nearer:
        whole = latents[latents.keys.index(latents.clips[number])]
        assert latents[number].head_mask.sum() > 1.1 * whole.head_mask.sum()
        assert latents[number].video.shape == whole.video.shape


@pytest.mark.slow
def test_the_whole_clip_is_as_it_is_without_views(toy_inputs, tmp_path, toy_wan):
    """And a folder of one choice is not taken for one of another."""
    write_latent_shards(toy_inputs.shards, tmp_path / "latents", toy_wan, LatentSet.open(toy_inputs.latents).caption)
    names = [path.name for path in toy_inputs.latents.glob("*.tar")]
    assert names and all(
        (tmp_path / "latents" / n).read_bytes() == (toy_inputs.latents / n).read_bytes() for n in names
    )
    flips = ViewSettings(flips=True)
    caption = LatentSet.open(toy_inputs.latents).caption
    made_of = (toy_inputs.shards, tmp_path / "latents", toy_wan.latents_fingerprint, caption)
    assert latents_are_current(*made_of) and not latents_are_current(*made_of, flips)
    with pytest.raises(DataError, match="holds latents of other views"):
        write_latent_shards(toy_inputs.shards, tmp_path / "latents", toy_wan, caption, views=flips)


def test_a_clip_named_as_anothers_view_is_refused(toy_inputs, tmp_path, toy_wan):
    videos, poses = tmp_path / "videos", tmp_path / "poses"
    videos.mkdir()
    poses.mkdir()
    clip = sorted((toy_inputs.dataset / "videos").glob("*.mp4"))[0]
    for name in ("dance", "dance-flip"):
        shutil.copy(clip, videos / f"{name}.mp4")
        shutil.copy(toy_inputs.dataset / "poses" / f"{clip.stem}_pose.mp4", poses / f"{name}_pose.mp4")
    write_clip_shards(videos, poses, tmp_path / "shards", ClipSettings(num_frames=9, height=64, width=64))
    with pytest.raises(DataError, match="dance-flip: a view of dance-flip, and one of dance"):
        write_latent_shards(tmp_path / "shards", tmp_path / "l", toy_wan, "x", views=ViewSettings(flips=True))
    # Heads are not known here, so there is no nearer view of any.
    with pytest.raises(DataError, match="no view of 2 clips could be made, head not known"):
        write_latent_shards(tmp_path / "shards", tmp_path / "l", toy_wan, "x", views=ViewSettings(views=["head"]))


def test_too_full_a_disk_is_refused_before_any_work(toy_inputs, tmp_path, toy_wan, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("faceid.data.disk_space.shutil.disk_usage", lambda path: usage(10, 9, 1000))
    with pytest.raises(DataError, match=r"the latents need about 1\d\d KiB, 1 KiB are free"):
        write_latent_shards(toy_inputs.shards, tmp_path / "latents", toy_wan, "a person dancing")
    assert not (tmp_path / "latents").exists()
    videos, poses = toy_inputs.dataset / "videos", toy_inputs.dataset / "poses"
    with pytest.raises(DataError, match="the shards need about"):
        write_clip_shards(videos, poses, tmp_path / "clips", ClipSettings(num_frames=9, height=64, width=64))


def test_the_estimate_is_near_what_was_written(encoded, large_shards):
    from faceid.data.latents.latent_shards import bytes_left

    folder, wan = encoded
    index = ShardIndex.load(large_shards, "clips")
    estimate = bytes_left(index, folder / "nowhere", wan.geometry, VIEWS)
    written = sum(path.stat().st_size for path in folder.glob("*.tar"))
    entries = len(LatentSet.open(folder))
    per_entry = estimate / (4 * len(index))
    assert 0.5 < written / entries / per_entry < 1.0 and module.LEAST_NEARER > 1
