"""Writing and reading videos made here: what is written comes back, and what is damaged is said."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from faceid.errors import DataError
from faceid.media.pixels.fit import Fit, fit_sizes, resize_frames
from faceid.media.video import (
    decode_video_bytes,
    encode_video_bytes,
    frame_indices,
    measure_video,
    read_frames,
    read_video,
    write_video,
)


def numbered_frames(count: int = 17, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame k is grey 40 + 10 k with a moving white bar, so a frame says its own index."""
    frames = np.empty((count, height, width, 3), np.uint8)
    for k in range(count):
        frames[k] = 40 + 10 * k
        frames[k, :8, (3 * k) % width : (3 * k) % width + 6] = 255
    return frames


def index_of(frame: np.ndarray) -> int:
    return round((float(frame[20:40].mean()) - 40) / 10)


@pytest.fixture
def numbered(tmp_path):
    path = tmp_path / "numbered.mp4"
    write_video(path, numbered_frames(), 24)
    return path


def test_written_frames_come_back(numbered):
    video = read_video(numbered)
    assert video.frames.shape == (17, 48, 64, 3) and video.fps == 24
    assert np.abs(video.frames.astype(int) - numbered_frames()).mean() < 2


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 64, 200), (255, 255, 255), (0, 0, 0)])
def test_colours_survive_the_round_trip(colour):
    frames = np.full((3, 32, 32, 3), colour, np.uint8)
    assert np.abs(decode_video_bytes(encode_video_bytes(frames, 16)).frames.astype(int) - frames).max() <= 3


def test_same_frames_give_same_bytes(tmp_path):
    hashes = set()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, numbered_frames(), 23.976)
        hashes.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(hashes) == 1
    assert encode_video_bytes(numbered_frames(), 16) == encode_video_bytes(numbered_frames(), 16)


def test_a_browser_can_play_it(numbered):
    with av.open(str(numbered)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
    data = numbered.read_bytes()
    # The index before the pictures, so that playing starts before the whole file has come.
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("source_fps, fps", [(24, 16), (60, 16), (12, 16), (30, 30), (29.97, 16)])
def test_rate_is_changed_by_frame_index(tmp_path, source_fps, fps):
    path = tmp_path / "x.mp4"
    write_video(path, numbered_frames(), source_fps)
    video = read_video(path, fps=fps)
    expected = [i for i in (int(k * source_fps / fps + 0.5) for k in range(40)) if i < 17]
    assert [index_of(frame) for frame in video.frames] == expected
    assert frame_indices(source_fps, fps, len(expected)) == expected


def test_a_window_is_what_the_whole_would_give(numbered):
    whole = read_video(numbered, fps=16)
    window = read_video(numbered, fps=16, start=3, max_frames=5)
    assert np.array_equal(window.frames, whole.frames[3:8])


def test_frames_by_index_may_repeat(numbered):
    frames = read_frames(numbered, [0, 0, 4, 5, 5, 16])
    assert [index_of(frame) for frame in frames] == [0, 0, 4, 5, 5, 16]
    with pytest.raises(DataError, match="ends before frame 17"):
        read_frames(numbered, [3, 17])


@pytest.mark.parametrize("height, width", [(47, 64), (48, 63)])
def test_odd_sizes_are_refused_with_the_nearest_even_one(tmp_path, height, width):
    with pytest.raises(DataError, match="even sizes; use"):
        write_video(tmp_path / "x.mp4", np.zeros((3, height, width, 3), np.uint8), 16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape, dtype", [((0, 48, 64, 3), np.uint8), ((3, 48, 64), np.uint8), ((3, 48, 64, 3), float)])
def test_other_layouts_are_refused(shape, dtype):
    with pytest.raises(DataError, match="needs uint8"):
        encode_video_bytes(np.zeros(shape, dtype), 16)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_says_how_many_frames_decode(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, noise, 16)
    data = whole.read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"\d+ of 20 promised frames decode"):
        measure_video(cut)


def test_a_cut_behind_a_whole_picture_is_noticed(tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8), 24)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    # The last tenth: no decoder has anything to say.
    cut.write_bytes(whole.read_bytes()[: packets[36].pos])
    with pytest.raises(DataError, match=r"cut\.mp4: cut short, 3\d of 40 promised frames decode; copy"):
        measure_video(cut)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_film_that_broke_off_before_its_index_is_said_to_be_cut_short(tmp_path, ending, share):
    """As a camera writes: the pictures first, and at the end where they lie."""
    file = tmp_path / f"film.{ending}"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=24, width=64, height=64)
        for picture in np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    whole = file.read_bytes()
    assert whole.index(b"moov") > whole.index(b"mdat")
    file.write_bytes(whole[: round(share * whole.index(b"moov"))])
    with pytest.raises(DataError, match=rf"film\.{ending}: cut short, its index \(moov\) is missing; copy it again"):
        measure_video(file)


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"\0\0\0\x18ftyp", b"\0" * 64, b"\0\0\0\x08free" * 20_000])
def test_what_never_was_a_film_is_refused_in_a_moment(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4: (not a readable video|cut short)"):
        measure_video(tmp_path / "a.mp4")


def test_a_missing_file_and_a_text_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_video(tmp_path / "nothing.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DataError, match="not a readable video"):
        read_video(tmp_path / "text.mp4")


@pytest.mark.parametrize("name", ["-x.mp4", "pipe:0.mp4", "a:b.mp4"])
def test_a_name_is_a_file_whatever_it_looks_like(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), numbered_frames(), 16)
    assert [file.name for file in tmp_path.iterdir() if file.name != ".faceid"] == [name]
    assert measure_video(Path(name)).frames == 17


def write_with_cover_art(path, frames, with_video=True):
    """A track of frames, and a larger picture marked as cover art."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=8)] if with_video else []
        streams.append(container.add_stream("mjpeg", rate=8))
        sizes = [(64, 48), (256, 256)][-len(streams) :]
        for stream, (stream.width, stream.height) in zip(streams, sizes, strict=True):
            stream.pix_fmt = "yuvj420p" if stream is streams[-1] else "yuv420p"
        streams[-1].disposition = Disposition.attached_pic
        for stream in streams:
            pictures = [np.zeros((256, 256, 3), np.uint8)] if stream is streams[-1] else frames
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))


def test_cover_art_is_not_the_video_however_large(tmp_path):
    write_with_cover_art(tmp_path / "a.mp4", numbered_frames())
    assert read_video(tmp_path / "a.mp4").frames.shape == (17, 48, 64, 3)


def test_a_file_with_nothing_but_cover_art_is_refused(tmp_path):
    write_with_cover_art(tmp_path / "a.mp4", [], with_video=False)
    with pytest.raises(DataError, match=r"no video stream \(only cover art\)"):
        read_video(tmp_path / "a.mp4")


def test_a_start_beyond_the_end_is_refused(numbered):
    with pytest.raises(DataError, match="has no frame 17"):
        read_video(numbered, start=17)


@pytest.fixture(scope="module")
def textured(tmp_path_factory):
    """Six frames of 320x240 with detail and colour everywhere."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (6, 30, 40, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("textured") / "clip.mp4"
    write_video(path, resize_frames(coarse, 240, 320, "stretch"), 30, crf=4)
    return path


def fitted_slowly(path, fit):
    """Through whole frames in RGB."""
    return np.stack([fit.frame(frame) for frame in read_video(path).frames])


@pytest.mark.parametrize("how", ["crop", "stretch", "pad"])
def test_frames_are_cut_and_shrunk_as_they_are_stored_to_the_same_pictures(textured, how):
    fit = fit_sizes((240, 320), 96, 160, how).on_even_pixels()
    fast, slow = read_frames(textured, range(6), fit), fitted_slowly(textured, fit)
    assert fast.shape == slow.shape == (6, 96, 160, 3)
    error = fast.astype(float) - slow
    # As near as two ways of averaging are, and no colour or place is shifted: a pixel aside is twice as far.
    assert np.sqrt((error**2).mean()) < 8 and np.abs(error.mean((0, 1, 2))).max() < 0.3
    aside = fast[:, :, 1:].astype(float) - slow[:, :, :-1]
    assert np.sqrt((aside**2).mean()) > 2 * np.sqrt((error**2).mean())


@pytest.mark.parametrize(
    "fit",
    [
        # On odd pixels colours cannot be cut; made larger, nothing is gained.
        Fit((3, 0, 201, 240), (0, 0, 80, 96), (96, 80)),
        Fit((0, 0, 80, 60), (0, 0, 160, 120), (120, 160)),
        Fit((0, 0, 320, 240), (0, 0, 320, 240), (240, 320)),
    ],
)
def test_what_cannot_be_cut_as_stored_goes_through_whole_frames(textured, fit):
    assert np.array_equal(read_frames(textured, range(6), fit), fitted_slowly(textured, fit))


def test_even_pixels_are_a_pixel_away_at_most_and_only_where_it_shrinks():
    odd = Fit((3, 5, 201, 121), (0, 0, 80, 48), (48, 80))
    assert odd.on_even_pixels() == Fit((2, 4, 200, 120), (0, 0, 80, 48), (48, 80))
    same = Fit((3, 5, 80, 48), (0, 0, 80, 48), (48, 80))
    assert same.on_even_pixels() is same
