"""Write frames as H.264 in mp4 that a browser plays, with the same bytes for the same frames."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from faceid.errors import DataError
from faceid.files.outputs import staged_file
from faceid.media.pictures import EXACT
from faceid.media.pixels.colours import BT709
from faceid.media.timeline import exact_rate

# With more than one thread the bytes depend on the number of cores. Without cpu-independent they depend on the
# processor's instructions, and below 64 px on chance (1 encode in 10 of a 32x48 clip differed without it).
_DETERMINISTIC = {"threads": "1", "flags": "+bitexact", "x264-params": "cpu-independent=1"}

Add = Callable[[np.ndarray], None]


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float, crf: int = 12) -> None:
    """Write uint8 RGB frames [T, H, W, 3], or [H, W, 3] one by one, as H.264 mp4 for browsers: all or nothing.

    crf: 1 (best) to 51 (smallest). Raises: DataError for odd sizes, no frames, or another layout of frames.
    """
    with video_writer(path, fps, crf) as add:
        for frame in frames:
            add(frame)


@contextmanager
def video_writer(path: Path, fps: float, crf: int = 12) -> Iterator[Add]:
    """Yield a function that takes the frames of `write_video` one by one. The file appears when the block ends well.

    It can write several files at once. Each holds about 60 frames in memory while it is open.
    """
    with (
        staged_file(path) as temporary,
        # The index goes first, so that a browser starts before the whole file has arrived.
        _encoder(f"file:{temporary}", fps, crf, {"movflags": "+faststart"}) as add,
    ):
        yield add


def encode_video_bytes(frames: np.ndarray, fps: float, crf: int = 12) -> bytes:
    """Encode as `write_video` does, in memory."""
    buffer = io.BytesIO()
    with _encoder(buffer, fps, crf, {}) as add:
        for frame in frames:
            add(frame)
    return buffer.getvalue()


@contextmanager
def _encoder(target: Any, fps: float, crf: int, options: dict[str, str]) -> Iterator[Add]:
    with av.open(target, "w", format="mp4", options={**options, "fflags": "+bitexact"}) as container:
        streams: list[Any] = []

        def add(picture: np.ndarray) -> None:
            if not streams:
                streams.append(_add_stream(container, picture, fps, crf))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=EXACT,
            )
            container.mux(streams[0].encode(frame))

        yield add
        if not streams:
            raise DataError("frames: none; a video needs uint8 [T, H, W, 3] with T of at least 1")
        container.mux(streams[0].encode(None))


def _add_stream(container: Any, first: np.ndarray, fps: float, crf: int) -> Any:
    """Add a stream for pictures like the first one."""
    if first.ndim != 3 or first.shape[2] != 3 or first.dtype != np.uint8:
        found = f"of {list(first.shape)} {first.dtype}"
        raise DataError(f"frames: {found}; a video needs uint8 [T, H, W, 3] with T of at least 1")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise DataError(f"{width}x{height}: H.264 in 4:2:0 needs even sizes; use {width // 2 * 2}x{height // 2 * 2}")
    stream = container.add_stream("libx264", rate=exact_rate(fps), options={"crf": str(crf), **_DETERMINISTIC})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = ColorRange.MPEG
    return stream
