"""Read video files to frames as a person sees them: upright, in true colours, every frame there is.

A frame is named by its index. Rotation, mirroring and pixel aspect are applied (`orientation`, `pictures`). HDR and
wide gamuts are brought to BT.709 (`colours`). The file is opened and decoded within limits (`container`). Another rate
is sampled by frame index, or by time stamps where a film's rate varies (`timeline`). `encoding` writes videos.
"""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from faceid.errors import DataError
from faceid.media.container import decode, fps_of, opened, promised_by, square_hw, time_stamps
from faceid.media.encoding import encode_video_bytes as encode_video_bytes
from faceid.media.encoding import video_writer as video_writer
from faceid.media.encoding import write_video as write_video  # also offered here: most callers read and write
from faceid.media.pictures import converter, stack, upright_hw
from faceid.media.pixels.fit import Fit
from faceid.media.pixels.fit import resize_frames as resize_frames
from faceid.media.pixels.motion import EnergyMeter
from faceid.media.timeline import Timeline, timeline_of
from faceid.media.timeline import frame_indices as frame_indices

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """Decoded frames. frames: uint8 RGB [T, H, W, 3], upright, square pixels. fps: frames per second."""

    frames: np.ndarray
    fps: float


@dataclass(frozen=True)
class Measured:
    """What a full decode found. frames: number decoded, not promised. timeline: its rate (wrong in many pose files)."""

    frames: int
    timeline: Timeline
    size_hw: tuple[int, int]
    """Height and width in pixels of an upright frame with square pixels."""
    energy: np.ndarray
    """Mean |difference| of each frame's thumbnail to the one before, in grey levels: float64 [T-1]; empty unless asked
    for."""

    @property
    def fps(self) -> Fraction:
        """Frames per second as the file states them; the mean where the rate varies."""
        return self.timeline.fps


def read_video(path: Path, fps: float | None = None, max_frames: int | None = None, start: int = 0) -> Video:
    """Decode a video, at its own rate or at `fps`: by frame index, or by time where its rate varies (`timeline`).

    start, max_frames: the window, counted in output frames. The file is decoded no further than the window's end.
    Raises: DataError when the file holds no video or no frame in the window, or is damaged within what was read.
    """
    timeline = read_timeline(path) if fps else None
    with opened(path, path) as (container, stream):
        indices = timeline.sampled(fps, start) if timeline else itertools.count(start)
        wanted = itertools.islice(indices, max_frames)
        frames = list(_pick(decode(container, stream, path), wanted, converter(stream)))
        if not frames:
            raise DataError(f"{path}: has no frame {start}{f' at {fps:g} fps' if fps else ''}; use a lower start")
        return Video(np.stack(frames), fps or float(fps_of(stream, path)))


def read_frames(path: Path, indices: Sequence[int], fit: Fit | None = None) -> np.ndarray:
    """Decode the frames of these source indices (ascending, repeats allowed): uint8 RGB [len(indices), H, W, 3].

    fit: applied to every frame as it comes, so that a large source is never held whole. On even pixels and smaller than
    the source, the fit makes conversion cost a third. The frames lie plane by plane in memory (`stack`).
    Raises: DataError when the file cannot be read that far.
    """
    return stack(stream_frames(path, indices, fit, by_planes=True))


def stream_frames(
    path: Path, indices: Iterable[int], fit: Fit | None = None, by_planes: bool = False
) -> Iterator[np.ndarray]:
    """Yield the frames of these source indices as they decode, one after the other: uint8 RGB [H, W, 3].

    indices: ascending, repeats allowed. fit: as in `read_frames`. by_planes: whether a frame lies plane by plane in
    memory.
    Raises: DataError when the file cannot be read that far.
    """
    count, wanted = 0, list(indices)
    with opened(path, path) as (container, stream):
        for picture in _pick(decode(container, stream, path), wanted, converter(stream, fit, by_planes)):
            count += 1
            yield picture
    if count < len(wanted):
        raise DataError(f"{path}: ends before frame {wanted[count]}, which was asked for")


def measure_video(
    path: Path, thumbnail_width: int | None = None, see: Callable[[np.ndarray], None] | None = None
) -> Measured:
    """Decode a whole file and count its frames; with a width in pixels, measure how much moves. No frame is kept.

    see: called with every frame's thumbnail, grey, as stored (not turned): uint8 [h, w].
    Raises: DataError as `read_video`, for damage anywhere in the file.
    """
    with opened(path, path) as (container, stream):
        count, size_hw, stored_hw = 0, (0, 0), (0, 0)
        stamps: list[int | None] = []
        meter = EnergyMeter()
        for frame in decode(container, stream, path, stamps):
            if not count:
                size_hw, stored_hw = upright_hw(frame, stream), square_hw(frame, stream)
            count += 1
            if thumbnail_width:
                height = max(round(thumbnail_width * stored_hw[0] / stored_hw[1]), 1)
                small = frame.to_ndarray(
                    format="gray", width=thumbnail_width, height=height, interpolation=Interpolation.AREA
                )
                meter.add(small)
                if see is not None:
                    see(small)
        timeline = timeline_of(stamps, stream.time_base, fps_of(stream, path))
        return Measured(count, timeline, size_hw, meter.energy)


def promised_frames(path: Path) -> int:
    """The number of frames that the header promises, read without decoding: a guess of the length; 0 if it has none."""
    try:
        with opened(path, path) as (_, stream):
            return promised_by(stream)
    except DataError:
        return 0


def decode_video_bytes(data: bytes) -> Video:
    """Decode a whole video file held in memory. Its frames lie there plane by plane (`stack`).

    Raises: DataError as in `read_video`.
    """
    name = Path("<video in memory>")
    with opened(io.BytesIO(data), name) as (container, stream):
        convert = converter(stream, by_planes=True)
        frames = stack(_pick(decode(container, stream, name), itertools.count(), convert))
        return Video(frames, float(fps_of(stream, name)))


def read_timeline(path: Path) -> Timeline:
    """A file's timeline from its packets, without decoding. A message reports a varying rate. Raises: DataError."""
    with opened(path, path) as (container, stream):
        fps = fps_of(stream, path)
        timeline = timeline_of(time_stamps(container, stream, path), stream.time_base, fps)
    if timeline.warning:
        log.warning("%s: %s", path, timeline.warning)
    return timeline


def _pick(
    frames: Iterable[av.VideoFrame], indices: Iterable[int], convert: Callable[[av.VideoFrame], np.ndarray]
) -> Iterator[np.ndarray]:
    """Convert the frames at these ascending indices.

    Other frames cost no conversion, and decoding stops after the last.
    """
    source = enumerate(frames)
    at, picture = -1, None
    for index in indices:
        if picture is None or index > at:
            found = next((pair for pair in source if pair[0] >= index), None)
            if found is None:
                return
            at, picture = found[0], convert(found[1])
        yield picture
