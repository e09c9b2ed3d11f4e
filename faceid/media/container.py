"""Open video containers, choose the stream of pictures, and decode to the last frame within limits.

A header is never believed: frames are counted as they decode, and cover art is not a video. Opening, each read, the
whole decode, frames and pixels have limits, so no file blocks a run for long. The limits are checked between calls. Two
things therefore stay unbounded. One is a read that the system does not return from (a dead network disk). The other is
a call into a decoder that never ends. Only ending the process stops those.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import av

from faceid.errors import DataError
from faceid.media.cut_short import lacks_index, present_share
from faceid.media.listing import check_file
from faceid.media.pixels.colours import check_colours
from faceid.media.pixels.orientation import orientation_of

# A container without a rate may name its clock instead, such as 90000.
_HIGHEST_FPS = 1000
# What one file may cost. Each limit is far above a real film. This one: reading and decoding, an hour in all, which is
# the time an hour's film plays.
DECODE_LIMIT_S = 3600.0
# Seconds to open, or to read one packet. A disk may stall, and a download that broke off may end in zeros.
IO_LIMIT_S = 300.0
# An hour at 60 fps.
MAX_FRAMES = 216_000
# The number of frames that FFmpeg writes into an AVI's header when it could not go back to correct it.
_FRAMES_UNKNOWN = 1 << 30
# Twice 8K. Counted with square pixels, because a broken pixel aspect makes a wide picture of a small one.
MAX_PIXELS = 64_000_000
# A narrower strip is a broken pixel aspect too. It would make thumbnails larger than the film.
MAX_SIDES_RATIO = 50
# A bit of a stream's disposition in FFmpeg's avformat.h. Streams beside the film are not the film: cover art,
# thumbnails of a timeline, pictures that another track needs.
_DEFAULT_STREAM = 0x1
_BESIDE_THE_FILM = 0x400 | 0x800 | 0x80000
_SLOW_REMEDY = "copy it again from its source, to a disk that answers, or remove it"

Taken = TypeVar("Taken")


@contextmanager
def opened(source: Path | io.BytesIO, path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a container and choose its video stream. path: the name to use in messages.

    Raises: DataError when the source is no readable file, or holds no pictures that can be decoded.
    """
    if isinstance(source, Path):
        check_file(source)
    try:
        # The prefix keeps names such as `-x.mp4` or `pipe:0` file names. The list keeps playlists off the network.
        name = f"file:{source}" if isinstance(source, Path) else source
        container = av.open(
            name,
            metadata_errors="ignore",
            options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
            timeout=IO_LIMIT_S,
        )
    except av.error.ExitError as error:
        raise DataError(f"{path}: not open after {IO_LIMIT_S:g} s; {_SLOW_REMEDY}") from error
    except av.error.FFmpegError as error:
        if isinstance(source, Path) and lacks_index(source):
            raise DataError(f"{path}: cut short, its index (moov) is missing; copy it again from its source") from error
        raise DataError(f"{path}: not a readable video ({error.strerror}); re-encode or remove it") from error
    with container:
        streams = [s for s in container.streams.video if not int(s.disposition) & _BESIDE_THE_FILM]
        if not streams:
            kinds = sorted({"cover art" if s.type == "video" else s.type for s in container.streams})
            found = ", ".join(kinds) or "nothing"
            raise DataError(f"{path}: no video stream (only {found}); give a file with a picture track")
        streams = [s for s in streams if s.codec_context]
        if not streams:
            raise DataError(f"{path}: its pictures are in a format that is not known here; encode it again as H.264")
        # The default track is preferred, then the largest picture.
        stream = max(streams, key=lambda s: (int(s.disposition) & _DEFAULT_STREAM, s.width * s.height))
        _limit_size(stream, path)
        yield container, stream


def decode(container: Any, stream: Any, path: Path, stamps: list[int | None] | None = None) -> Iterator[av.VideoFrame]:
    """Yield every frame. At the end, judge whether the file was complete.

    stamps: a list that takes the result of `time_stamps`, in the same pass.
    Raises: DataError for damage, a limit, or colours that cannot be shown as they should be seen.
    """
    count, end = 0, None

    def frames_of(packet: Any) -> list[av.VideoFrame]:
        if stamps is not None:
            stamps.extend(_stamp(container, packet))
        return packet.decode()

    num_promised = promised_by(stream)
    promised = f" of {num_promised} promised" if num_promised else ""
    try:
        for frame in _within_time(container, stream, path, frames_of):
            if frame.is_corrupt:
                raise DataError(f"{path}: frame {count} is damaged; re-encode it from its source or remove it")
            if not count:
                check_colours(frame, path)
                orientation_of(frame, path)
            count += 1
            if count > MAX_FRAMES:
                raise DataError(f"{path}: more frames than the limit of {MAX_FRAMES}; cut it into shorter videos")
            if frame.pts is not None:
                end = frame.pts + (frame.duration or 0)
            yield frame
    except av.error.FFmpegError as error:
        if not 0 < stream.height * stream.width <= MAX_PIXELS:
            # A decoder that met the limit reports "invalid", and some decoders forget the size.
            raise DataError(
                f"{path}: a picture of unknown size, or above the limit of {MAX_PIXELS / 1e6:.1f} megapixels, "
                f"after {count} frames; scale it down or encode it again"
            ) from error
        raise DataError(
            f"{path}: damaged, {count}{promised} frames decode ({error.strerror}); copy or encode it again"
        ) from error
    if not count:
        raise DataError(f"{path}: 0{promised} frames decode; a header without pictures: remove it or encode it again")
    share = present_share(path)
    if share < 1:
        raise DataError(
            f"{path}: cut short, {count}{promised} frames decode of {share:.2%} of its bytes; copy or encode it again"
        )
    if num_promised and stream.duration and end is not None:
        # A cut file often ends without an error. Its end is compared with the track's own length, which respects edit
        # lists.
        missing = 1 - (end - (stream.start_time or 0)) / stream.duration
        # Up to two frames short is usual (priming, rounding of durations).
        if missing > max(0.02, 2.5 / num_promised):
            raise DataError(f"{path}: cut short, {count}{promised} frames decode; copy or encode it again")


def promised_by(stream: Any) -> int:
    """The number of frames that the header promises; 0 where it does not say."""
    return 0 if stream.frames == _FRAMES_UNKNOWN else max(int(stream.frames), 0)


def time_stamps(container: Any, stream: Any, path: Path) -> list[int | None]:
    """When each picture is shown, in the stream's time base and the file's order. Nothing is decoded.

    The stamps come from the packets, because decoders change them. None stands for a packet without a time.
    Raises: DataError when reading takes too long or breaks off.
    """
    try:
        return list(_within_time(container, stream, path, lambda packet: _stamp(container, packet)))
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: damaged ({error.strerror}); copy or encode it again") from error


def _stamp(container: Any, packet: Any) -> list[int | None]:
    # The last packet of a stream is empty. Packets that an edit list cuts off are marked.
    if not packet.size or packet.is_discard:
        return []
    # AVI says when pictures are decoded. FFmpeg guesses when they are shown, and makes no guess for the last one.
    return [packet.dts if container.format.name == "avi" else packet.pts]


def square_hw(frame: Any, stream: Any) -> tuple[int, int]:
    """Height and width with square pixels, as stored (not yet turned upright). frame: a frame, or the stream itself."""
    return frame.height, max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1)


def fps_of(stream: Any, path: Path) -> Fraction:
    """Frames per second by the header. Raises: DataError when the header names no possible rate."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _HIGHEST_FPS:
            return Fraction(rate)
    raise DataError(f"{path}: names no frame rate; encode it again with a constant one")


def _limit_size(stream: Any, path: Path) -> None:
    """Refuse a picture that is too large by its header. Let the decoder refuse sizes that the header does not tell."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    stream.codec_context.options = {"max_pixels": str(int(MAX_PIXELS / max(aspect, 1)))}
    if not stream.height * stream.width:
        return
    height, width = square_hw(stream, stream)
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


def _within_time(container: Any, stream: Any, path: Path, take: Callable[[Any], list[Taken]]) -> Iterator[Taken]:
    """Yield what `take` makes of the stream's packets. The clock runs while reading and taking, not for the caller.

    Packets of all tracks are read, so that the clock is checked during a long stretch without pictures too. The last
    packet of each track is empty. It makes the decoder give the frames that it still holds.
    """
    packets, spent_s = container.demux(), 0.0
    while True:
        start = monotonic()
        try:
            packet = next(packets, None)
            # Not every format reports a read that was given up. Some continue with what had come.
            is_late = monotonic() - start > IO_LIMIT_S
        except av.error.ExitError:
            is_late = True
        if is_late:
            raise DataError(f"{path}: one read took over {IO_LIMIT_S:g} s; {_SLOW_REMEDY}")
        # The packet's own stream is compared, because `packet.stream_index` of an empty packet is always 0.
        taken = take(packet) if packet is not None and packet.stream.index == stream.index else []
        spent_s += monotonic() - start
        if spent_s > DECODE_LIMIT_S:
            raise DataError(f"{path}: not decoded after {DECODE_LIMIT_S:g} s; cut it into shorter videos")
        if packet is None:
            return
        yield from taken
