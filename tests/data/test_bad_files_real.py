"""Every real bad or odd file has its stated outcome: used as it should be seen, or left out with the reason.

One row for each file of video_bad, video_odd and image_bad. That none of them can hold a run up is shown beside the
limits themselves, in tests/media/test_video_limits.py and test_images.py.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drawn_clips import add_clip, draw_pair

from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.films.split_clips import split_films
from faceid.data.films.split_settings import SplitSettings
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError
from faceid.media.images import list_photos, read_photo
from faceid.media.video import decode_video_bytes, measure_video, read_video, write_video

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.promise(
        "every file of video_bad, video_odd and image_bad gets its stated outcome", bar="all files", proof="data"
    ),
]

# What is said of a clip that is used. The poses here are drawn: they have the clip's frames, and move otherwise.
OTHER_POSE, TOO_SHORT, SLOW, SMALL = "moves differently", "cannot tell whether", "frames are repeated", "is enlarged"


@dataclass(frozen=True)
class Used:
    """A video that becomes a clip. frames: that decode. size_hw: upright, square pixels. said: of each warning, a part.

    The list is whole: no other warning comes.
    """

    frames: int
    size_hw: tuple[int, int]
    said: tuple[str, ...] = (OTHER_POSE,)


@dataclass(frozen=True)
class Seen:
    """A photo that is read. size_hw: upright. rgb: its mean colour."""

    size_hw: tuple[int, int]
    rgb: tuple[int, int, int]


VARIES = "its time stamps leave a constant rate"

# A string is what the refusal says.
VIDEOS = {
    # The name is no flag.
    "video_bad/-video-with-dash-.mp4": Used(5, (1, 1), (TOO_SHORT, SLOW, SMALL)),
    # 640 wide with pixels of 2:3.
    "video_bad/autoeditor_SAR-2by3.mp4": Used(60, (360, 427)),
    # The second video stream is cover art.
    "video_bad/autoeditor_h264-attached-mjpeg.mp4": Used(60, (360, 640)),
    "video_bad/decord_corrupted.mp4": "damaged, 28 of 50 promised frames decode",
    "video_bad/decord_rot_0.mov": Used(3, (320, 568), (TOO_SHORT,)),
    # Stored as 568x320.
    "video_bad/decord_rot_90.mov": Used(3, (568, 320), (TOO_SHORT,)),
    "video_bad/imageio_realshort.mp4": Used(36, (240, 320)),
    "video_bad/moviepy_no_duration.webm": Used(74, (720, 1280), (OTHER_POSE, SLOW)),
    "video_bad/moviepy_zero_bytes.webm": "not a readable video",
    "video_bad/mp4parse_cenc_init_only.mp4": "0 frames decode; a header without pictures",
    "video_bad/mp4parse_chunk_out_of_range.mp4": "not a readable video",
    "video_bad/mp4parse_invalid_userdata.mp4": "0 of 5544 promised frames decode",
    # 176 wide with pixels of 16:11.
    "video_bad/mp4parse_one_frame.mp4": Used(1, (144, 256), (TOO_SHORT,)),
    "video_bad/mp4parser_audio_only.mp4": r"no video stream \(only audio\)",
    "video_bad/mp4parser_count-video.mp4": Used(245, (480, 640), (OTHER_POSE, SLOW, VARIES)),
    "video_bad/torchcodec_av1_video.mkv": Used(125, (360, 640)),
    "video_bad/torchcodec_h264_10bits.mp4": Used(30, (200, 200)),
    # Nobody looks for people in a clip: of these four only the pairing says something, or keypoints (further down).
    "video_odd/autoeditor_man-on-green-screen.mp4": Used(732, (720, 1280)),
    "video_odd/mmaction_demo_skeleton.mp4": Used(72, (1080, 1920), (OTHER_POSE, VARIES)),
    # The header promises 142.
    "video_odd/moore_talkinghead_3.mp4": Used(141, (578, 578)),
    "video_odd/vace_test2.mp4": Used(25, (768, 512)),
}
PHOTOS = {
    "exif_portrait_1.jpg": Seen((600, 450), (115, 117, 100)),
    # The same picture in a space of its own, gamma 1.8, which its profile says.
    "exif_portrait_6.jpg": Seen((600, 450), (115, 118, 96)),
    "exif_portrait_8.jpg": Seen((600, 450), (115, 118, 96)),
    "face_32bit_rgba.png": Seen((1200, 626), (89, 65, 70)),
    # By pillow-heif, which the extra `dev` installs.
    "libheif_example.heic": Seen((854, 1280), (123, 127, 121)),
    "pillow_apng_syntax_num_frames_zero.png": "cannot be decoded",
    "pillow_broken.png": "cannot be decoded .not a picture in a known format",
    "pillow_broken_data_stream.png": "cannot be decoded .unrecognized data stream",
    "pillow_decompression_bomb.gif": "too large to be a photo",
    # Sixteen bits clipped to eight are all white.
    "pillow_hopper_16bit.pgm": Seen((128, 128), (84, 84, 84)),
    "pillow_hopper_orientation_6.jpg": Seen((128, 128), (90, 80, 95)),
    # The first of 42 frames.
    "pillow_iss634.webp": Seen((245, 245), (135, 137, 90)),
    # Red letters on black; read without care for its inverted inks, cyan ones on white.
    "pillow_pil_sample_cmyk.jpg": Seen((100, 100), (30, 5, 7)),
    "pillow_png_decompression_dos.png": "cannot be decoded .Decompressed data too large",
    "pillow_tiff_16bit_RGB.tiff": Seen((40, 100), (42, 29, 22)),
    "pillow_truncated_end_chunk.png": "cannot be decoded .Truncated File Read",
    "pillow_truncated_jpeg.jpg": "truncated",
    # Grey discs, half transparent, on white.
    "pillow_uncompressed_la.png": Seen((128, 128), (241, 241, 241)),
    "pillow_zero_width.gif": "cannot be decoded",
    "vips_17000x17000.avif": "cannot be decoded",
}
USED = {name.partition("/")[2] for name, outcome in VIDEOS.items() if isinstance(outcome, Used)}
REFUSED = {name.partition("/")[2] for name in VIDEOS} - USED

SIDE = 96
# One frame is a legal length, 4n+1, so that no good file is left out for being short.
SETTINGS = ClipSettings(num_frames=1, height=SIDE, width=SIDE, fps=16, clips_per_shard=64)


def test_every_file_has_its_row_and_every_row_its_file(real_data):
    folders = ("video_bad", "video_odd", "image_bad")
    files = {f"{folder}/{file.name}" for folder in folders for file in (real_data / folder).iterdir()}
    assert files == set(VIDEOS) | {f"image_bad/{name}" for name in PHOTOS}


@pytest.fixture(scope="module")
def shards(real_data, tmp_path_factory):
    """All videos and a drawn clip through `write_clip_shards`: the index, and what was said."""
    root = tmp_path_factory.mktemp("bad")
    videos, poses = root / "videos", root / "poses"
    videos.mkdir()
    poses.mkdir()
    add_clip(videos, poses, "good", seed=1, video_fps=16)
    for name, outcome in VIDEOS.items():
        copy = shutil.copy(real_data / name, videos)
        frames, (height, width) = (outcome.frames, outcome.size_hw) if isinstance(outcome, Used) else (24, (64, 96))
        pose = draw_pair(2, frames, width=round(32 * width / height) * 2)[1]
        write_video(poses / f"{Path(copy).stem}_pose.mp4", pose, 16)
    said = []
    heard = logging.Handler(logging.WARNING)
    heard.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("faceid.data.clips.clip_shards")
    logger.addHandler(heard)
    with pytest.MonkeyPatch.context() as patch:
        # So that the name with the dash is all there is of its path.
        patch.chdir(videos)
        index = write_clip_shards(Path("."), poses, root / "shards", SETTINGS)
    logger.removeHandler(heard)
    return SimpleNamespace(index=index, read=ShardIndex.load(root / "shards").read, said=said)


def test_nothing_is_trained_on_silently(shards):
    sources = [json.loads(shards.read(s["key"], "json"))["source"]["video"] for s in shards.index["samples"]]
    assert sorted(sources) == sorted([*USED, "good.mp4"])
    assert sorted(drop["video"] for drop in shards.index["dropped"]) == sorted(REFUSED)
    # And each loss is said on the screen.
    assert {line.split(": ")[0] for line in shards.said if "left out" in line} == REFUSED


@pytest.mark.parametrize("name", [name for name, outcome in VIDEOS.items() if isinstance(outcome, str)])
def test_a_bad_video_is_refused_with_its_name_and_the_reason(real_data, shards, name):
    reason, path = VIDEOS[name], real_data / name
    (drop,) = (drop for drop in shards.index["dropped"] if drop["video"] == path.name)
    with pytest.raises(DataError, match=reason) as caught:
        measure_video(path)
    assert str(caught.value) == f"{path}: {drop['reason']}" and "\n" not in drop["reason"]


def other_decoder(path: Path, size_hw: tuple[int, int]) -> np.ndarray:
    """The first frame by OpenCV, which turns pictures but knows no pixel aspect: RGB [H, W, 3]."""
    is_read, picture = cv2.VideoCapture(str(path)).read()
    if not is_read and path.name == "torchcodec_av1_video.mkv":
        # Not every OpenCV has AV1. The same test card is in another file.
        return other_decoder(path.with_name("autoeditor_h264-attached-mjpeg.mp4"), size_hw)
    return cv2.resize(picture[..., ::-1], size_hw[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("name", [name for name, outcome in VIDEOS.items() if isinstance(outcome, Used)])
def test_an_odd_video_is_used_as_it_should_be_seen(real_data, shards, name):
    outcome, path = VIDEOS[name], real_data / name
    details = {s["key"]: json.loads(shards.read(s["key"], "json")) for s in shards.index["samples"]}
    (key,) = (key for key, about in details.items() if about["source"]["video"] == path.name)
    assert details[key]["source"]["frames"] == outcome.frames
    picture = read_video(path, max_frames=1).frames[0]
    expected = other_decoder(path, outcome.size_hw)
    assert picture.shape == expected.shape
    # Decoders round colours 0 to 3 levels apart; the wrong picture, turn or aspect is over 30 apart.
    assert np.abs(picture.astype(int) - expected).mean() < 5
    side = min(outcome.size_hw)
    top, left = ((length - side) // 2 for length in outcome.size_hw)
    middle = cv2.resize(expected[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    # A clip has colours at half its size: in test cards that costs up to 11 levels.
    assert np.abs(decode_video_bytes(shards.read(key, "video.mp4")).frames[0].astype(int) - middle).mean() < 15
    said = [line for line in shards.said if line.startswith(f"{path.name}: ")]
    assert len(said) == len(outcome.said) and all(any(word in line for line in said) for word in outcome.said), said


def joints_of(people: int, known: int = 17) -> list:
    """MMPose's instances: people beside each other. known: how many joints are, from the nose down."""
    points = [[100 + 10 * joint, 50 + 12 * joint] for joint in range(17)]
    scores = [0.9] * known + [0.1] * (17 - known)
    return [
        {"keypoints": [[x + 300 * person, y] for x, y in points], "keypoint_scores": scores} for person in range(people)
    ]


@pytest.mark.slow
def test_keypoints_keep_odd_films_out(real_data, tmp_path):
    """Keypoints as an estimator that sees what is there would give them; without any, people cannot be known."""
    films, keypoints, clips = (tmp_path / name for name in ("films", "keypoints", "clips"))
    for folder in (films, keypoints):
        folder.mkdir()
    everywhere = {
        "mmaction_demo_skeleton": joints_of(2),
        "moore_talkinghead_3": joints_of(1, known=7),
        "vace_test2": [],
    }
    for stem, instances in {"autoeditor_man-on-green-screen": joints_of(1), **everywhere}.items():
        (films / f"{stem}.mp4").symlink_to(real_data / "video_odd" / f"{stem}.mp4")
        # The man on green comes into the picture at frame 12.
        start = 0 if stem in everywhere else 12
        frames = VIDEOS[f"video_odd/{stem}.mp4"].frames
        seen = [{"frame_id": k + 1, "instances": instances if k >= start else []} for k in range(frames)]
        (keypoints / f"{stem}.json").write_text(json.dumps({"instance_info": seen}))
    settings = SplitSettings(num_frames=9, fps=16, stride_s=10, crop="none", height=SIDE, width=SIDE)
    split_films(films, clips, settings, keypoints)
    records = [json.loads(file.read_text()) for file in sorted((clips / "films").iterdir())]
    skipped = {record["film"]: [entry["reason"] for entry in record["skipped"]] for record in records}
    assert skipped == {
        "autoeditor_man-on-green-screen.mp4": ["no person in 7 of 9 frames"],
        "mmaction_demo_skeleton.mp4": ["several people in 9 of 9 frames"],
        "moore_talkinghead_3.mp4": ["83% of the joints are not known"],
        "vace_test2.mp4": [f"{keypoints}/vace_test2.json: nobody in it"],
    }
    assert [clip["start_s"] for record in records for clip in record["clips"]] == [10.0, 20.0]


def test_every_photo_is_listed(real_data):
    assert {path.name for path in list_photos(real_data / "image_bad")} == set(PHOTOS)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_read_as_it_should_be_seen_or_refused_with_the_reason(real_data, name):
    outcome, path = PHOTOS[name], real_data / "image_bad" / name
    if isinstance(outcome, Seen):
        pixels = read_photo(path)
        assert pixels.shape == (*outcome.size_hw, 3) and pixels.dtype == np.uint8
        assert np.abs(pixels.mean((0, 1)) - outcome.rgb).max() < 2 and pixels.std() > 10
    else:
        with pytest.raises(DataError, match=outcome) as caught:
            read_photo(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
