"""Pose videos to rendered frames: their tempo, their length, their size, and what is said of them."""

import json
import logging
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from render_flags import changed, sections_of

from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import make_clip
from faceid.data.clips.pairs import find_pairs
from faceid.errors import DataError
from faceid.geometry import Geometry
from faceid.media.video import decode_video_bytes, read_video, resize_frames, write_video
from faceid.models.rendering.denoise import ALL_AT_ONCE, LatentWindows
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.sampling.like import words_like
from faceid.sampling.one_video.poses import VideoShape, read_pose
from faceid.sampling.one_video.render_setup import RenderSetup
from faceid.sampling.one_video.renderer import Renderer
from faceid.sampling.one_video.video_settings import PoseSettings
from faceid.sampling.sampling_run import run_sampling
from faceid.sampling.who.rendered_identities import Face

WAN = Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
SETTINGS = sections_of(model_path="toy", pose_video="p.mp4", output="o.mp4", num_inference_steps=1, cfg_scale=1.0)
SHAPE = VideoShape(num_frames=9, height=32, width=48, fps=16.0)
ALL = replace(SHAPE, num_frames=0)


def setup_of(shape, windows=ALL_AT_ONCE):
    return RenderSetup(SETTINGS.sampling, SETTINGS.content, PoseSettings(), shape, windows)


def write_pose(path, count, fps, height=32, width=48):
    """Frame k is grey of level 7 k: a frame tells its own number."""
    write_video(path, (np.full((height, width, 3), 7 * number, np.uint8) for number in range(count)), fps)
    return path


def numbers(frames):
    return np.round(frames.mean(axis=(1, 2, 3)) / 7).astype(int).tolist()


@pytest.mark.fault("M4")
def test_a_pose_of_another_rate_keeps_its_tempo_and_training_takes_the_same_frames(tmp_path):
    pose = write_pose(tmp_path / "a_pose.mp4", 33, fps=30)
    write_pose(tmp_path / "a.mp4", 33, fps=30)
    found = read_pose(pose, replace(SHAPE, num_frames=17), WAN, PoseSettings())
    (pair,) = find_pairs(tmp_path, tmp_path).pairs
    trained = make_clip(pair, ClipSettings(num_frames=17, height=32, width=48, fps=16.0)).members["pose.mp4"]
    assert numbers(found.frames) == list(found.taken) == numbers(decode_video_bytes(trained).frames)
    # 17 frames at 16 fps are a second, and so are 31 frames at 30 fps.
    assert found.taken[:5] == (0, 2, 4, 6, 8) and found.taken[-1] == 30


@pytest.mark.fault("M4")
@pytest.mark.parametrize(
    ("tagged", "timing", "taken"),
    [
        (60, "frames", range(9)),
        (16, "tempo", range(9)),
        # Tagged as the render is, but drawn from a film of twice the rate; and the other way round.
        (16, 32.0, range(0, 18, 2)),
        (60, 16.0, range(9)),
        (8, "tempo", [0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (30000 / 1001, "tempo", [0, 2, 4, 6, 7, 9, 11, 13, 15]),
    ],
)
def test_frames_are_taken_by_the_files_rate_by_another_or_one_by_one(tmp_path, tagged, timing, taken):
    pose = write_pose(tmp_path / "pose.mp4", 24, tagged)
    found = read_pose(pose, SHAPE, WAN, PoseSettings(timing))
    assert list(found.taken) == list(taken) == numbers(found.frames)


@pytest.mark.fault("M4")
def test_a_pose_of_varying_rate_goes_by_its_time_stamps(tmp_path):
    # Ten frames of an eighth of a second, then ten of a thirty-second.
    with av.open(str(tmp_path / "pose.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=32, options={"crf": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 32)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 7 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 4 * min(number, 10) + max(number - 10, 0), Fraction(1, 32)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read_pose(tmp_path / "pose.mkv", ALL, WAN, PoseSettings())
    assert list(found.taken) == numbers(found.frames)[: len(found.taken)]
    # At 16 fps: each of the slow ones twice, every second one of the fast ones; the last has no known end.
    counts = [found.taken.count(number) for number in range(20)]
    assert sum(counts[:10]) in (19, 20) and 4 <= sum(counts[10:]) <= 7 and max(counts[10:-1]) == 1


@pytest.mark.fault("M4")
def test_a_pose_of_the_rate_rendered_at_is_the_same_pixels_however_it_is_timed(tmp_path):
    random = np.random.default_rng(0)
    write_video(tmp_path / "pose.mp4", random.integers(0, 255, (9, 64, 40, 3), np.uint8), fps=16)
    expected = resize_frames(read_video(tmp_path / "pose.mp4").frames, 32, 48, "crop")
    for how in (PoseSettings(), PoseSettings("frames")):
        assert np.array_equal(read_pose(tmp_path / "pose.mp4", SHAPE, WAN, how).frames, expected)


@pytest.mark.fault("M5")
@pytest.mark.parametrize(
    ("count", "fps", "shown"),
    [
        (12, 16, 12),
        (13, 16, 13),
        (1, 16, 1),
        (33, 30, 18),
        (1, 30, 1),
        (5, 8, 10),
        (8, 8, 16),
        (12, 12, 16),
        (24, 24, 16),
    ],
)
def test_all_is_every_frame_of_the_pose_and_its_last_one_fills_up(tmp_path, count, fps, shown):
    found = read_pose(write_pose(tmp_path / "pose.mp4", count, fps), ALL, WAN, PoseSettings())
    assert len(found.taken) == shown and (len(found.frames) - 1) % 4 == 0 and len(found.frames) - shown < 4
    assert numbers(found.frames) == [*found.taken, *[found.taken[-1]] * (len(found.frames) - shown)]


@pytest.mark.fault("M5")
@pytest.mark.parametrize("window", [(), (2, 1)])
def test_as_many_frames_are_written_as_the_pose_has_in_windows_too(toy_wan, tmp_path, window):
    write_pose(tmp_path / "pose.mp4", 12, fps=16)
    renderer = Renderer(FaceIdentityPipeline(toy_wan), setup_of(ALL, LatentWindows(*window)))
    control = renderer.prepare(tmp_path / "pose.mp4")
    latents = renderer.denoise(control, Face(), 42)
    renderer.write(latents, tmp_path / "out.mp4", control.num_frames)
    assert latents.shape[2] == 4 and len(read_video(tmp_path / "out.mp4").frames) == 12


@pytest.mark.fault("A2")
def test_a_length_that_all_gives_may_be_typed_too(tmp_path):
    # Five frames at 16 fps last as long as 9.4 at 30; the fifth begins midway between the pose's eighth and a ninth.
    pose = write_pose(tmp_path / "pose.mp4", 8, 30)
    found = [read_pose(pose, replace(SHAPE, num_frames=count), WAN, PoseSettings()).taken for count in (0, 5)]
    assert found[0] == found[1] == (0, 2, 4, 6, 7)


def test_a_pose_of_another_aspect_is_fitted_as_asked(tmp_path):
    write_video(tmp_path / "pose.mp4", np.full((9, 64, 32, 3), 200, np.uint8), fps=16)
    cropped = read_pose(tmp_path / "pose.mp4", SHAPE, WAN, PoseSettings()).frames
    padded = read_pose(tmp_path / "pose.mp4", SHAPE, WAN, PoseSettings(fit="pad")).frames
    assert cropped.shape == padded.shape == (9, 32, 48, 3)
    assert cropped[:, :, 0].mean() > 190 and padded[:, :, 0].max() == 0


@pytest.mark.parametrize(
    ("count", "fps", "said"),
    [
        (8, 16, "8 frames, 9 wanted; use --num_frames 5, or all"),
        (1, 16, "1 frames, 9 wanted; use --num_frames 1, or all"),
        (
            14,
            32,
            "14 frames at 32 fps, which are 7 at 16, 9 wanted; use --num_frames 5, or all, or --pose_timing frames",
        ),
    ],
)
def test_a_short_pose_video_names_the_longest_it_has_frames_for(tmp_path, count, fps, said):
    with pytest.raises(DataError, match=f"pose.mp4: {said}$"):
        read_pose(write_pose(tmp_path / "pose.mp4", count, fps), SHAPE, WAN, PoseSettings())


def test_a_damaged_pose_video_is_not_called_short(tmp_path):
    pose = write_pose(tmp_path / "pose.mp4", 20, 16)
    pose.write_bytes(pose.read_bytes()[:-900])
    with pytest.raises(DataError) as refusal:
        read_pose(pose, replace(SHAPE, num_frames=17), WAN, PoseSettings())
    assert "wanted" not in str(refusal.value)


def test_the_base_alone_renders_with_the_size_length_and_rate_asked_for(toy_wan, tmp_path, caplog):
    caplog.set_level(logging.INFO, "faceid")
    write_pose(tmp_path / "pose.mp4", 12, 30, 64, 64)
    steps = []
    renderer = Renderer(FaceIdentityPipeline(toy_wan), setup_of(VideoShape(5, 32, 48, 12.0)))
    control = renderer.prepare(tmp_path / "pose.mp4")
    assert "pose.mp4: 30 fps, rendered at 12: 5 of its frames are taken, which keeps its tempo" in caplog.text
    latents = renderer.denoise(control, Face(), 42, lambda done, of: steps.append((done, of)))
    renderer.write(latents, tmp_path / "out.mp4", control.num_frames)
    video = read_video(tmp_path / "out.mp4")
    assert video.frames.shape == (5, 32, 48, 3) and video.fps == 12 and steps == [(1, 1)]


@pytest.fixture
def batch(tmp_path):
    """One pose of 24 frames at 32 fps, to be rendered by the base alone."""
    write_pose(tmp_path / "poses" / "x_pose.mp4", 24, 32)
    folders = {"pose_videos_dir": str(tmp_path / "poses"), "output_dir": str(tmp_path / "out"), "gallery": False}
    shape = {"height": 32, "width": 48, "num_frames": "all", "fps": 16.0, "device": "cpu"}
    return changed(SETTINGS, batch=True, pose_video=None, output=None, **folders, **shape)


@pytest.mark.fault("M4")
@pytest.mark.slow
def test_a_batch_says_which_frames_it_followed_and_another_timing_is_another_job(batch, tmp_path, caplog):
    caplog.set_level(logging.INFO, "faceid")
    assert run_sampling(batch) == 0
    (row,) = (json.loads(line) for line in (tmp_path / "out/jobs.jsonl").read_text().splitlines())
    assert row["pose_frames"] == list(range(0, 24, 2))
    assert json.loads((tmp_path / "out/x_pose.json").read_text())["video"]["pose_frames"] == row["pose_frames"]
    assert len(read_video(tmp_path / "out" / row["output"]).frames) == 12
    assert caplog.text.count("which keeps its tempo") == 1
    assert run_sampling(changed(batch, pose_timing="frames")) == 0
    (other,) = (json.loads(line) for line in (tmp_path / "out/jobs.jsonl").read_text().splitlines())
    assert other["id"] != row["id"] and "pose_frames" not in other
    assert len(read_video(tmp_path / "out" / other["output"]).frames) == 24


@pytest.mark.fault("M4")
def test_like_keeps_the_timing_and_of_an_older_video_it_was_frame_by_frame(batch, tmp_path):
    assert run_sampling(changed(batch, pose_timing=24.0)) == 0
    sidecar = tmp_path / "out/x_pose.json"
    assert "--pose_timing=24.0" in words_like(["--like", str(sidecar)])
    content = json.loads(sidecar.read_text())
    del content["settings"]["pose_timing"]
    sidecar.write_text(json.dumps(content))
    assert "--pose_timing=frames" in words_like(["--like", str(sidecar)])
    given = words_like(["--like", str(sidecar), "--pose_timing", "tempo"])
    assert "--pose_timing=frames" not in given


@pytest.mark.fault("M4")
def test_a_kept_control_says_which_frames_it_is_of(batch, tmp_path):
    kept = changed(batch, cache_dir=str(tmp_path / "cache"))
    for folder in ("one", "two"):
        assert run_sampling(changed(kept, output_dir=str(tmp_path / folder))) == 0
    assert (tmp_path / "one/x_pose.mp4").read_bytes() == (tmp_path / "two/x_pose.mp4").read_bytes()
    assert "pose_frames" in (tmp_path / "two/jobs.jsonl").read_text()
