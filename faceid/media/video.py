"""Video files to frames and back, through PyAV: the only place that opens a container.

A header is never believed: frames are counted as they decode, rotation and pixel aspect are applied, cover art is
not a video. Time is a frame index, never a timestamp (pose files carry wrong rates). Written files are H.264 in
mp4, the same bytes for the same frames.

No file holds a run up: opening, each read, the whole decode, frames and pixels have limits. They are looked at between
calls, so two things stay unbounded: a read that the system does not return from (a dead network disk), and one call
into a decoder that never ends. Only ending the process ends those.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from faceid.errors import DataError
from faceid.media.fit import Fit
from faceid.media.fit import resize_frames as resize_frames  # offered here too: most callers read, then resize
from faceid.outputs import staged_file

# libswscale's BILINEAR, FULL_CHR_H_INT, ACCURATE_RND and BITEXACT: exact rounding and full chroma give the same pixels
# on every processor, for a few per cent of the decoding time. As numbers: PyAV names the last three only since 18.
_EXACT = 0x2 | 0x2000 | 0x40000 | 0x80000
# Averages what falls on a pixel, so that shrinking does not alias.
_EXACT_AREA = _EXACT & ~0x2 | 0x20
# One thread, or the bytes depend on the number of cores; cpu-independent, or on the processor's instructions and,
# below 64 px, on chance (1 encode in 10 of a 32x48 clip differed without it).
_DETERMINISTIC = {"threads": "1", "flags": "+bitexact", "x264-params": "cpu-independent=1"}
# A container that knows no rate may name its clock instead, such as 90000.
_HIGHEST_FPS = 1000
# BT.709 in ISO/IEC 23091-2, for primaries, transfer and matrix alike.
_BT709 = 1
# What one file may cost, each far above a real film. Reading and decoding in all: an hour, at the speed it plays.
DECODE_LIMIT_S = 3600.0
# Opening, or reading one packet: a disk that stalls, or the zeros at the end of a download that broke off.
IO_LIMIT_S = 300.0
# An hour at 60 fps.
MAX_FRAMES = 216_000
# Twice 8K. With square pixels: a broken pixel aspect makes a wide picture of a small one.
MAX_PIXELS = 64_000_000
# A narrower strip is a broken pixel aspect too: it would make thumbnails larger than the film.
MAX_SIDES_RATIO = 50
# Bits of a stream's disposition in FFmpeg's avformat.h.
_DEFAULT_STREAM, _ATTACHED_PICTURE = 0x1, 0x400
_SLOW_REMEDY = "copy it again from its source, to a disk that answers, or remove it"


@dataclass(frozen=True)
class Video:
    """Decoded frames. frames: uint8 RGB [T, H, W, 3], upright, square pixels. fps: frames per second."""

    frames: np.ndarray
    fps: float


@dataclass(frozen=True)
class Measured:
    """What a full decode found. frames: decoded, not promised. fps: as tagged (wrong in many pose files)."""

    frames: int
    fps: Fraction
    size_hw: tuple[int, int]
    """Height and width in pixels of an upright frame with square pixels."""
    thumbnails: np.ndarray | None = None
    """Every frame small and grey, as stored (not turned): uint8 [T, h, w]."""


def read_video(path: Path, fps: float | None = None, max_frames: int | None = None, start: int = 0) -> Video:
    """Decode a video, at its own rate or at `fps` by frame index: output k is frame round(k * source_fps / fps).

    start, max_frames: the window, counted in output frames; the file is decoded no further than the window's end.
    Raises: DataError when the file holds no video or no frame in the window, or is damaged within what was read.
    """
    with _opened(path, path) as (container, stream):
        indices = _indices(_fps(stream, path) if fps else Fraction(1), fps, start, max_frames)
        frames = list(_pick(_decode(container, stream, path), indices, _converter(stream)))
        if not frames:
            raise DataError(f"{path}: has no frame {start}{f' at {fps:g} fps' if fps else ''}; use a lower start")
        return Video(np.stack(frames), fps or float(_fps(stream, path)))


def read_frames(path: Path, indices: Sequence[int], fit: Fit | None = None) -> np.ndarray:
    """Decode the frames of these source indices (ascending, repeats allowed): uint8 RGB [len(indices), H, W, 3].

    fit: what every frame is brought to as it comes, so that a large source is never held whole. On even pixels and
    smaller than the source it costs a third of the conversion. The frames lie plane by plane in memory (`_stack`).
    Raises: DataError when the file cannot be read that far.
    """
    return _stack(stream_frames(path, indices, fit, by_planes=True))


def stream_frames(
    path: Path, indices: Sequence[int], fit: Fit | None = None, by_planes: bool = False
) -> Iterator[np.ndarray]:
    """Yield the frames of these source indices as they decode, one after the other: uint8 RGB [H, W, 3].

    indices: ascending, repeats allowed. fit: as in `read_frames`. by_planes: as they lie in memory.
    Raises: DataError when the file cannot be read that far.
    """
    count = 0
    with _opened(path, path) as (container, stream):
        for picture in _pick(_decode(container, stream, path), indices, _converter(stream, fit, by_planes)):
            count += 1
            yield picture
    if count < len(indices):
        raise DataError(f"{path}: ends before frame {indices[count]}, which was asked for")


def measure_video(path: Path, thumbnail_width: int | None = None) -> Measured:
    """Decode a whole file and count; with a width in pixels, keep a thumbnail of every frame.

    Raises: DataError as `read_video`, for damage anywhere in the file.
    """
    with _opened(path, path) as (container, stream):
        count, size_hw = 0, (0, 0)
        thumbnails: list[np.ndarray] = []
        for frame in _decode(container, stream, path):
            size_hw = size_hw if count else _upright_hw(frame, stream)
            count += 1
            if thumbnail_width:
                if not thumbnails:
                    height, width = _square_hw(frame, stream)
                    small = {"width": thumbnail_width, "height": max(round(height * thumbnail_width / width), 1)}
                thumbnails.append(frame.to_ndarray(format="gray", interpolation=Interpolation.AREA, **small))
        return Measured(count, _fps(stream, path), size_hw, np.stack(thumbnails) if thumbnails else None)


def promised_frames(path: Path) -> int:
    """How many frames the header promises, without decoding: a guess of the length, 0 where there is none."""
    try:
        with _opened(path, path) as (_, stream):
            return max(int(stream.frames), 0)
    except DataError:
        return 0


def frame_indices(source_fps: float | Fraction, fps: float, count: int) -> list[int]:
    """Source indices of the first `count` output frames at `fps`: k -> round(k * source_fps / fps)."""
    return list(_indices(Fraction(source_fps), fps, 0, count))


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float, crf: int = 12) -> None:
    """Write uint8 RGB frames [T, H, W, 3], or [H, W, 3] one by one, as H.264 mp4 that a browser plays: all or nothing.

    crf: 1 (best) to 51 (smallest). Raises: DataError for odd sizes, no frames, or another layout.
    """
    with staged_file(path) as temporary:
        # The index goes first, so that a browser starts before the whole file has come.
        _encode(f"file:{temporary}", frames, fps, crf, {"movflags": "+faststart"})


def encode_video_bytes(frames: np.ndarray, fps: float, crf: int = 12) -> bytes:
    """Encode as `write_video` does, in memory."""
    buffer = io.BytesIO()
    _encode(buffer, frames, fps, crf, {})
    return buffer.getvalue()


def decode_video_bytes(data: bytes) -> Video:
    """Decode a whole video file held in memory; its frames lie there plane by plane (`_stack`).

    Raises: DataError as `read_video`.
    """
    name = Path("<video in memory>")
    with _opened(io.BytesIO(data), name) as (container, stream):
        convert = _converter(stream, by_planes=True)
        frames = _stack(_pick(_decode(container, stream, name), itertools.count(), convert))
        return Video(frames, float(_fps(stream, name)))


@contextmanager
def _opened(source: Path | io.BytesIO, path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a container and choose its video stream. path: the name to use in messages."""
    if isinstance(source, Path) and not source.is_file():
        # A pipe or device is never opened: it may block, or have no end.
        kind = "a folder, pipe or device, not a video file" if source.exists() else "no such video file"
        raise DataError(f"{path}: {kind}; name a file")
    try:
        # The prefix keeps names such as `-x.mp4` or `pipe:0` file names; the list keeps playlists off the network.
        opened = f"file:{source}" if isinstance(source, Path) else source
        container = av.open(
            opened,
            metadata_errors="ignore",
            options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
            timeout=IO_LIMIT_S,
        )
    except av.error.ExitError as error:
        raise DataError(f"{path}: not open after {IO_LIMIT_S:g} s; {_SLOW_REMEDY}") from error
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: not a readable video ({error.strerror}); re-encode or remove it") from error
    with container:
        streams = [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]
        if not streams:
            kinds = sorted({"cover art" if s.type == "video" else s.type for s in container.streams})
            found = ", ".join(kinds) or "nothing"
            raise DataError(f"{path}: no video stream (only {found}); give a file with a picture track")
        streams = [s for s in streams if s.codec_context]
        if not streams:
            raise DataError(f"{path}: its pictures are in a format that is not known here; encode it again as H.264")
        # The default track first, then the largest picture.
        stream = max(streams, key=lambda s: (int(s.disposition) & _DEFAULT_STREAM, s.width * s.height))
        _limit_size(stream, path)
        yield container, stream


def _limit_size(stream: Any, path: Path) -> None:
    """Refuse a picture that is too large by its header, and have the decoder refuse what the header does not say."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    stream.codec_context.options = {"max_pixels": str(int(MAX_PIXELS / max(aspect, 1)))}
    if not stream.height * stream.width:
        return
    height, width = _square_hw(stream, stream)
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{path}: {width}x{height} = {width * height / 1e6:.1f} megapixels, above the limit of "
            f"{MAX_PIXELS / 1e6:.1f}; scale it down"
        )
    if max(height / width, width / height) > MAX_SIDES_RATIO:
        raise DataError(
            f"{path}: {width}x{height} by its pixel aspect of {aspect}, one side over {MAX_SIDES_RATIO} times the "
            "other; encode it again, with square pixels"
        )


def _decode(container: Any, stream: Any, path: Path) -> Iterator[av.VideoFrame]:
    """Yield every frame; at the end, judge whether it was all."""
    count, end = 0, None
    promised = f" of {stream.frames} promised" if stream.frames else ""
    try:
        for frame in _within_time(container, stream, path):
            if frame.is_corrupt:
                raise DataError(f"{path}: frame {count} is damaged; re-encode it from its source or remove it")
            count += 1
            if count > MAX_FRAMES:
                raise DataError(f"{path}: more frames than the limit of {MAX_FRAMES}; cut it into shorter videos")
            if frame.pts is not None:
                end = frame.pts + (frame.duration or 0)
            yield frame
    except av.error.FFmpegError as error:
        if not 0 < stream.height * stream.width <= MAX_PIXELS:
            # A decoder that met the limit says "invalid", and some forget the size.
            raise DataError(
                f"{path}: a picture of unknown size, or above the limit of {MAX_PIXELS / 1e6:.1f} megapixels, "
                f"after {count} frames; scale it down or encode it again"
            ) from error
        raise DataError(
            f"{path}: damaged, {count}{promised} frames decode ({error.strerror}); copy or encode it again"
        ) from error
    if not count:
        raise DataError(f"{path}: 0{promised} frames decode; a header without pictures: remove it or encode it again")
    if stream.frames and stream.duration and end is not None:
        # A cut file often ends without an error: compare with the track's own length, which knows edit lists.
        missing = 1 - (end - (stream.start_time or 0)) / stream.duration
        # Up to two frames short is usual (priming, rounding of durations).
        if missing > max(0.02, 2.5 / stream.frames):
            raise DataError(f"{path}: cut short, {count}{promised} frames decode; copy or encode it again")


def _within_time(container: Any, stream: Any, path: Path) -> Iterator[av.VideoFrame]:
    """Yield frames as `container.decode` does, with a clock that runs while reading and decoding, not for the caller.

    Packets of all tracks are taken, so that the clock is looked at during a long stretch without pictures too.
    """
    packets, spent_s = container.demux(), 0.0
    while True:
        start = monotonic()
        try:
            packet = next(packets, None)
            # Not every format reports a read that was given up: some go on with what had come.
            is_late = monotonic() - start > IO_LIMIT_S
        except av.error.ExitError:
            is_late = True
        if is_late:
            raise DataError(f"{path}: one read took over {IO_LIMIT_S:g} s; {_SLOW_REMEDY}")
        frames = packet.decode() if packet is not None and packet.stream_index == stream.index else []
        spent_s += monotonic() - start
        if spent_s > DECODE_LIMIT_S:
            raise DataError(f"{path}: not decoded after {DECODE_LIMIT_S:g} s; cut it into shorter videos")
        if packet is None:
            return
        yield from frames


def _stack(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Pictures [H, W, 3] to uint8 [T, H, W, 3] whose memory is [T, 3, H, W], as a tensor of them is."""
    return np.stack([picture.transpose(2, 0, 1) for picture in pictures]).transpose(0, 2, 3, 1)


def _converter(stream: Any, fit: Fit | None = None, by_planes: bool = False) -> Callable[[av.VideoFrame], np.ndarray]:
    """Make the function from a decoded frame to upright square-pixel RGB [H, W, 3], fitted."""
    to_rgb = _to_planes if by_planes else _to_pixels
    size_hw: list[int] = []

    def convert(frame: av.VideoFrame) -> np.ndarray:
        if not size_hw:
            # A file whose size changes midway is brought back to its first frame's.
            size_hw.extend(_square_hw(frame, stream))
        if fit is not None and _can_be_cut(frame, fit, size_hw):
            return fit.place(to_rgb(_cut(frame, fit), fit.target[3], fit.target[2], _EXACT_AREA))
        turns = _quarter_turns(frame)
        picture = to_rgb(frame, size_hw[0], size_hw[1], _EXACT)
        upright = np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
        return fit.frame(upright) if fit is not None else upright

    return convert


def _to_pixels(frame: av.VideoFrame, height: int, width: int, how: int) -> np.ndarray:
    """RGB [H, W, 3], pixel after pixel."""
    return frame.to_ndarray(format="rgb24", height=height, width=width, interpolation=how)


def _to_planes(frame: av.VideoFrame, height: int, width: int, how: int) -> np.ndarray:
    """The same numbers, plane after plane in memory: FFmpeg makes those in two thirds of the time."""
    green_blue_red = frame.reformat(format="gbrp", height=height, width=width, interpolation=how)
    planes = np.empty((3, height, width), np.uint8)
    for plane, place in zip(green_blue_red.planes, (1, 2, 0), strict=True):
        planes[place] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, :width]
    return planes.transpose(1, 2, 0)


def _can_be_cut(frame: av.VideoFrame, fit: Fit, size_hw: list[int]) -> bool:
    """Whether a fit can be done on the frame as it is stored, before its colours are converted."""
    is_plain = frame.format.name == "yuv420p" and not _quarter_turns(frame) and [frame.height, frame.width] == size_hw
    return is_plain and fit.shrinks and not any(edge % 2 for edge in fit.source)


def _cut(frame: av.VideoFrame, fit: Fit) -> av.VideoFrame:
    """The part of a fit, to be converted and shrunk in one go: of a 1080p film that is 4 ms a frame in place of 22."""
    left, top, width, height = fit.source
    part = av.VideoFrame(width, height, frame.format.name)
    # Colour planes have half the pixels each way.
    for plane, to_plane, scale in zip(frame.planes, part.planes, (1, 2, 2), strict=True):
        stored, cut = (np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in (plane, to_plane))
        rows, columns = (slice(a // scale, (a + b) // scale) for a, b in ((top, height), (left, width)))
        cut[:, : width // scale] = stored[rows, columns]
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    return part


def _square_hw(frame: Any, stream: Any) -> tuple[int, int]:
    """Height and width with square pixels, as stored (not yet turned upright). frame: or the stream, by its header."""
    return frame.height, max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1)


def _upright_hw(frame: av.VideoFrame, stream: Any) -> tuple[int, int]:
    height, width = _square_hw(frame, stream)
    return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def _quarter_turns(frame: av.VideoFrame) -> int:
    # The display matrix counts counter-clockwise, as rot90 does.
    return round(frame.rotation / 90) % 4


def _pick(
    frames: Iterable[av.VideoFrame], indices: Iterable[int], convert: Callable[[av.VideoFrame], np.ndarray]
) -> Iterator[np.ndarray]:
    """Convert the frames at these ascending indices; the others cost no conversion, and none after the last."""
    source = enumerate(frames)
    at, picture = -1, None
    for index in indices:
        if picture is None or index > at:
            found = next((pair for pair in source if pair[0] >= index), None)
            if found is None:
                return
            at, picture = found[0], convert(found[1])
        yield picture


def _indices(source_fps: Fraction, fps: float | None, start: int, count: int | None) -> Iterator[int]:
    ratio = source_fps / _rate(fps) if fps else Fraction(1)
    outputs = itertools.count(start) if count is None else range(start, start + count)
    return (round(k * ratio) for k in outputs)


def _fps(stream: Any, path: Path) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _HIGHEST_FPS:
            return Fraction(rate)
    raise DataError(f"{path}: names no frame rate; encode it again with a constant one")


def _rate(fps: float) -> Fraction:
    # 1001 keeps 24000/1001 and its kin exact.
    return Fraction(fps).limit_denominator(1001)


def _encode(target: Any, frames: Iterable[np.ndarray], fps: float, crf: int, options: dict[str, str]) -> None:
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None or first.ndim != 3 or first.shape[2] != 3 or first.dtype != np.uint8:
        found = "none" if first is None else f"of {list(first.shape)} {first.dtype}"
        raise DataError(f"frames: {found}; a video needs uint8 [T, H, W, 3] with T of at least 1")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise DataError(f"{width}x{height}: H.264 in 4:2:0 needs even sizes; use {width // 2 * 2}x{height // 2 * 2}")
    with av.open(target, "w", format="mp4", options={**options, "fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=_rate(fps), options={"crf": str(crf), **_DETERMINISTIC})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = ColorRange.MPEG
        for picture in itertools.chain((first,), pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_EXACT,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
