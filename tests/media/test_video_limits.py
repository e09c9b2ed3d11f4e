"""No video holds a run up: what a file may cost is limited, and the refusal names the limit."""

from __future__ import annotations

import itertools
import os
import socket
from fractions import Fraction

import av
import numpy as np
import pytest
from test_video import numbered_frames

from faceid.errors import DataError
from faceid.media import container
from faceid.media.video import decode_video_bytes, measure_video, read_video, stream_frames, write_video


@pytest.fixture
def numbered(tmp_path):
    """17 frames of 64x48."""
    path = tmp_path / "numbered.mp4"
    write_video(path, numbered_frames(), 24)
    return path


def write_matroska(path, frames, pixel_aspect=1, sound_packets=0):
    """Frames, then packets of sound alone."""
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.sample_aspect_ratio = "yuv420p", pixel_aspect
        sound = output.add_stream("pcm_s16le", rate=8000, layout="mono") if sound_packets else None
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
        for number in range(sound_packets):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            heard.sample_rate, heard.pts = 8000, 8000 + 800 * number
            output.mux(sound.encode(heard))


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_file_is_refused_unopened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        # By its short name: a socket's path holds a hundred bytes.
        socket.socket(socket.AF_UNIX).bind(path.name)
    # A pipe that is opened blocks for ever, and a device has no end.
    monkeypatch.setattr(av, "open", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"x\.mp4: (is a folder|a pipe or a device)"):
        measure_video(path)


def test_opening_has_a_limit(numbered, monkeypatch):
    monkeypatch.setattr(container, "IO_LIMIT_S", 0.0)
    with pytest.raises(DataError, match=r"numbered\.mp4: not open after 0 s; copy it again"):
        measure_video(numbered)


def test_a_read_without_end_has_a_limit(tmp_path, monkeypatch):
    """A download that broke off: its room on the disk was taken beforehand, and the rest is zeros."""
    path = tmp_path / "download.mkv"
    write_matroska(path, numbered_frames())
    with open(path, "r+b") as file:
        # Holes, that take no room here. Without the limit this takes half a minute, and a real one hours.
        file.truncate(1 << 32)
    monkeypatch.setattr(container, "IO_LIMIT_S", 0.1)
    # Not even our own clock: the read itself is ended.
    monkeypatch.setattr(container, "monotonic", lambda: 0.0)
    with pytest.raises(DataError, match=r"download\.mkv: one read took over 0\.1 s; copy it again"):
        measure_video(path)


def ticking(monkeypatch, step_s):
    """The limits' clock, ahead by `step_s` each time it is looked at."""
    monkeypatch.setattr(container, "monotonic", itertools.count(0, step_s).__next__)


def test_a_read_that_ends_late_is_not_taken_for_the_end(numbered, monkeypatch):
    ticking(monkeypatch, container.IO_LIMIT_S + 1)
    with pytest.raises(DataError, match="one read took over 300 s"):
        measure_video(numbered)


@pytest.mark.parametrize("read", [read_video, measure_video, lambda path: decode_video_bytes(path.read_bytes())])
def test_decoding_has_a_limit_in_all(numbered, monkeypatch, read):
    # Two ticks for each of 17 frames, none of them long.
    ticking(monkeypatch, 200)
    with pytest.raises(DataError, match="not decoded after 3600 s; cut it into shorter videos"):
        read(numbered)


def test_a_stretch_without_pictures_counts(tmp_path, monkeypatch):
    write_matroska(tmp_path / "x.mkv", numbered_frames(2), sound_packets=60)
    assert measure_video(tmp_path / "x.mkv").frames == 2
    ticking(monkeypatch, 50)
    with pytest.raises(DataError, match="not decoded after 3600 s"):
        measure_video(tmp_path / "x.mkv")


def test_what_the_caller_does_between_frames_does_not_count(numbered, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(container, "monotonic", lambda: now[0])
    for _ in stream_frames(numbered, range(17)):
        now[0] += 10 * container.DECODE_LIMIT_S


def test_the_number_of_frames_has_a_limit(numbered, monkeypatch):
    monkeypatch.setattr(container, "MAX_FRAMES", 17)
    assert measure_video(numbered).frames == 17
    monkeypatch.setattr(container, "MAX_FRAMES", 16)
    with pytest.raises(DataError, match=r"numbered\.mp4: more frames than the limit of 16; cut it"):
        measure_video(numbered)


def test_large_pictures_are_refused_by_their_header(tmp_path, numbered, monkeypatch):
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64)
    assert measure_video(numbered).frames == 17
    # The limit is on what comes out: square pixels.
    write_matroska(tmp_path / "wide.mkv", numbered_frames(), pixel_aspect=2)
    with pytest.raises(DataError, match=r"wide\.mkv: 128x48 = 0\.0 megapixels, above the limit of 0\.0; scale it down"):
        measure_video(tmp_path / "wide.mkv")


def test_pictures_that_grow_midway_are_refused(tmp_path, monkeypatch):
    parts = []
    for number, size in enumerate(((48, 64), (96, 128))):
        part = tmp_path / f"{number}.h264"
        with av.open(str(part), "w", format="h264") as output:
            stream = output.add_stream("libx264", rate=24)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for frame in numbered_frames(17, *size):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            output.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path = tmp_path / "growing.mp4"
    path.write_bytes(b"".join(parts))
    assert measure_video(path).frames == 34
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64)
    with pytest.raises(DataError, match=r"above the limit of 0\.0 megapixels, after \d+ frames"):
        measure_video(path)


@pytest.mark.parametrize("pixel_aspect, size", [(Fraction(60), "7680x128"), (Fraction(1, 60), "2x128")])
def test_a_broken_pixel_aspect_is_refused(tmp_path, pixel_aspect, size):
    write_matroska(tmp_path / "x.mkv", numbered_frames(2, 128, 128), pixel_aspect)
    with pytest.raises(DataError, match=f"{size} by its pixel aspect of .*, one side over 50 times the other"):
        measure_video(tmp_path / "x.mkv")


def test_pictures_that_no_decoder_knows_are_refused(tmp_path, numbered):
    path = tmp_path / "x.mp4"
    path.write_bytes(numbered.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(DataError, match=r"x\.mp4: its pictures are in a format that is not known here"):
        measure_video(path)
