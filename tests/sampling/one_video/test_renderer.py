"""What is loaded once for a video: its size and length, its windows, and what is refused on the way."""

import logging
from dataclasses import replace

import pytest

from faceid.errors import ConfigError, DataError
from faceid.geometry import Geometry
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.models.rendering.denoise import LatentWindows
from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.one_video.poses import VideoShape
from faceid.sampling.one_video.render_setup import RenderSetup, choose_shape, choose_windows
from faceid.sampling.one_video.renderer import Renderer, check_video_place
from faceid.sampling.one_video.video_settings import ContentSettings, FrameSettings, PoseSettings, WindowSettings

WAN = Geometry(spatial_factor=8, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))
SHAPE = VideoShape(num_frames=9, height=32, width=48, fps=16.0)
CONTENT, POSE = ContentSettings(), PoseSettings()


@pytest.fixture
def metadata(small_adapter_settings):
    return AdapterMetadata(
        base_name="toy",
        base_fingerprint="b" * 64,
        face_embedding_dim=4,
        encoder="clip",
        encoder_fingerprint="e" * 64,
        settings=small_adapter_settings,
        height=480,
        width=832,
        num_frames=65,
        fps=16.0,
    )


def test_size_and_length_are_those_the_adapter_was_trained_at(metadata):
    assert choose_shape(FrameSettings(), True, metadata, WAN) == VideoShape(65, 480, 832, 16.0)


def test_flags_win_over_the_adapter_and_another_size_is_warned_of(metadata, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    shape = choose_shape(FrameSettings(height=720, width=1280, fps=24.0), True, metadata, WAN)
    assert shape == VideoShape(65, 720, 1280, 24.0)
    assert "height=720: the adapter was trained at 480" in caplog.text and "fps" not in caplog.text


def test_the_base_alone_needs_every_size_from_flags():
    with pytest.raises(ConfigError, match=r"width: missing; .* give --width"):
        choose_shape(FrameSettings(height=480, num_frames=81, fps=16.0), True, None, WAN)


@pytest.mark.parametrize("name, value, near", [("num_frames", 66, "65 or 69"), ("height", 470, "464 or 480")])
def test_a_size_the_model_cannot_take_names_the_nearest(metadata, name, value, near):
    with pytest.raises(ConfigError, match=f"{name}={value}.* use {near}"):
        choose_shape(FrameSettings(**{name: value}), True, metadata, WAN)


def test_an_outputs_folder_is_made_and_the_pose_never_overwritten(tmp_path):
    check_video_place(tmp_path / "pose.mp4", tmp_path / "new" / "folder" / "out.mp4")
    assert (tmp_path / "new" / "folder").is_dir()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(DataError, match="overwritten"):
        check_video_place(tmp_path / "new" / "pose.mp4", tmp_path / "link" / "pose.mp4")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be made"):
        check_video_place(tmp_path / "pose.mp4", tmp_path / "file" / "out.mp4")


def test_a_longer_video_is_denoised_in_windows_of_the_trained_length_and_not_warned_of(metadata, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    longer = FrameSettings(num_frames=257)
    # 65 frames are 17 latent ones; a quarter of 65 is 16, and 16 frames are 4.
    assert choose_windows(WindowSettings(), metadata, WAN) == LatentWindows(17, 4)
    choose_shape(longer, True, metadata, WAN)
    assert not caplog.text
    none = WindowSettings(window_frames=0)
    assert choose_windows(none, metadata, WAN) == LatentWindows() == choose_windows(WindowSettings(), None, WAN)
    choose_shape(longer, False, metadata, WAN)
    assert "num_frames=257: the adapter was trained at 65" in caplog.text
    assert choose_windows(WindowSettings(33, 5), None, WAN) == LatentWindows(9, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window_frames": 34}, "window_frames=34: must be 4n\\+1 for this model; use 33 or 37"),
        ({"window_frames": 9, "window_overlap": 9}, "window_overlap=9: must leave of a window's 9 frames 4 at least"),
    ],
)
def test_windows_that_cannot_be_are_refused(metadata, options, said):
    with pytest.raises(ConfigError, match=said):
        choose_windows(WindowSettings(**options), metadata, WAN)


def test_a_kept_control_is_of_one_pose_size_and_fit():
    def made_of(content=CONTENT, how=POSE, shape=SHAPE, pose="p"):
        return Renderer(None, RenderSetup(Sampling(), content, how, shape)).made_of(pose)

    assert made_of() == made_of(ContentSettings(prompt="another"))
    # Frame by frame, the rate is written into the file alone.
    one_by_one = PoseSettings("frames")
    assert made_of(how=one_by_one) == made_of(how=one_by_one, shape=replace(SHAPE, fps=30.0))
    others = [
        made_of(shape=replace(SHAPE, fps=30.0)),
        *(made_of(how=PoseSettings(timing)) for timing in ("frames", 24.0)),
        *(made_of(shape=replace(SHAPE, **{name: 64})) for name in ("num_frames", "height", "width")),
        made_of(how=PoseSettings(fit="pad")),
        made_of(pose="q"),
    ]
    assert all(other != made_of() for other in others)
