"""Films as a person sees them, against an independent decoder: ffmpeg's own program, from the package imageio-ffmpeg.

A comparison returns what it measured, and whether that holds. full: the whole matrix. The films are drawn here: every
frame carries its number, and no two of the eight ways to turn and mirror it look alike.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from faceid.errors import DataError
from faceid.media.pixels.colours import Colours, tone_mapped
from faceid.media.video import measure_video, read_video

# What was measured, and whether it holds.
Comparison = tuple[str, bool]
SIZE_HW = (96, 160)
# Squares of 8 pixels that say a frame's number in binary, in the middle of the picture.
NUM_BITS, SQUARE = 9, 8
# Levels of 255 on the mean over a film: two decoders round differently, and fill in colours differently. A wrong
# orientation is over 20 apart, a wrong matrix or range over 5, an HDR film taken as it is over 30.
CODEC_ERROR = 2.0
ORIENTATIONS = [(degrees, mirror) for degrees in (0, 90, 180, 270) for mirror in (False, True)]
# When frame N of a varying film is shown, in seconds: half the rate from its middle on, and ever faster and slower.
VARYING = {
    "30, then 15": "if(lt(N,30),N/30,1+(N-30)/15)",
    "a swing about 24": "N/24+0.25*sin(N/7)",
}
CLIP_FPS = 16
# Light of BT.2020 and of Display P3 as BT.709's, from ITU-R BT.2087-0 and from CSS Color 4.
BT2020_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
P3_TO_709 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def orientations(folder: Path, containers: Sequence[str]) -> Comparison:
    """All eight display matrices, in three containers."""
    plain = write_film(folder / "plain.mp4", 6)
    worst, nearest_other, seen = 0.0, np.inf, set()
    for degrees, mirror in ORIENTATIONS:
        for ending in containers:
            film = folder / f"{degrees}_{mirror}.{ending}"
            ffmpeg("-display_rotation", degrees, *["-display_hflip"] * mirror, "-i", plain, "-c", "copy", film)
            ours = read_video(film).frames
            worst = max(worst, apart(ours, decode(film, ours.shape[1:3])))
            seen.add(ours[0].tobytes())
            others = [turned(ours, number) for number in range(1, 8)]
            nearest_other = min(nearest_other, *(apart(ours, o) for o in others if o.shape == ours.shape))
    return (
        f"at most {worst:.2f} levels apart; another orientation of the same film is {nearest_other:.0f} or more apart",
        worst <= CODEC_ERROR and len(seen) >= len(ORIENTATIONS) and nearest_other > 5 * CODEC_ERROR,
    )


def stream_orders(folder: Path) -> Comparison:
    """Pictures beside sound, cover art, subtitles, data and other pictures, wherever they stand."""
    film = write_film(folder / "film.mp4", 20, "-bf", 3)
    small = write_film(folder / "small.mp4", 12, "-vf", "scale=80:48,negate")
    sound = ("-f", "lavfi", "-i", "sine=d=1")
    art = ("-f", "lavfi", "-i", "color=red:s=256x256:d=0.04:r=25")
    (folder / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nwords\n")
    (folder / "chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n")
    copy = ("-c:v", "copy", "-c:a", "aac")
    orders = {
        "sound first": (*sound, "-i", film, "-map", "0:a", "-map", "1:v", *copy),
        "sound last": ("-i", film, *sound, "-map", "0:v", "-map", "1:a", *copy),
        "cover art first": (
            *(*art, "-i", film, "-map", "0:v", "-map", "1:v", "-c:v:0", "mjpeg", "-c:v:1", "copy"),
            *("-disposition:v:0", "attached_pic"),
        ),
        "a smaller film first": ("-i", small, "-i", film, "-map", "0:v", "-map", "1:v", "-c", "copy"),
        "subtitles and sound first": (
            *("-i", folder / "words.srt", *sound, "-i", film, "-map", "0:s", "-map", "1:a", "-map", "2:v"),
            *(*copy, "-c:s", "mov_text"),
        ),
        "chapters and three sounds first": (
            *("-i", folder / "chapters.txt", *sound, "-i", film, "-map_metadata", "0", "-map", "1:a", "-map", "1:a"),
            *("-map", "1:a", "-map", "2:v", *copy),
        ),
    }
    expected = decode(film, SIZE_HW)
    worst, missing = 0.0, 0
    for number, (name, words) in enumerate(orders.items()):
        copied = folder / f"{number}.{'mov' if 'cover' in name else 'mp4'}"
        ffmpeg(*words, *(("-disposition:v:1", "default") if "smaller" in name else ()), copied)
        ours = read_video(copied).frames
        missing += len(expected) - len(ours)
        worst = max(worst, apart(ours, expected[: len(ours)]))
    return (
        f"{missing} frames missing, at most {worst:.2f} levels apart",
        not missing and worst <= CODEC_ERROR,
    )


def matrices_and_ranges(folder: Path, full: bool) -> Comparison:
    """BT.601 and BT.709, limited and full range, tagged; and a file without tags."""
    worst, between = 0.0, np.inf
    tags = [("bt709", "tv"), ("bt709", "pc"), ("smpte170m", "tv"), ("smpte170m", "pc"), ("", "")]
    for matrix, extent in tags if full else tags[:4]:
        film = folder / f"{matrix}_{extent}.mp4"
        names = {"bt709": "bt709", "smpte170m": "bt601", "": "bt601"}
        convert = f"scale=out_color_matrix={names[matrix]}:out_range={extent or 'tv'},format=yuv444p"
        said = ("-colorspace", matrix, "-color_range", extent) if matrix else ()
        write_film(film, 6, "-vf", convert, *said, "-color_primaries", "bt709", "-color_trc", "bt709")
        ours = read_video(film).frames
        worst = max(worst, apart(ours, decode(film, SIZE_HW)), apart(ours, np.stack(list(draw_frames(6)))))
        wrong = decode(film, SIZE_HW, f"scale=in_color_matrix={'bt709' if names[matrix] == 'bt601' else 'bt601'}")
        between = min(between, apart(ours, wrong))
    return (
        f"at most {worst:.2f} levels apart; by the other matrix {between:.1f} or more",
        worst <= CODEC_ERROR and between > worst,
    )


# name: tags of the stream, the same in zscale's words, the colours
WIDE = {
    "HLG": (("bt2020", "arib-std-b67", "bt2020nc"), ("2020", "arib-std-b67", "2020_ncl"), Colours(9, 18)),
    "PQ": (("bt2020", "smpte2084", "bt2020nc"), ("2020", "smpte2084", "2020_ncl"), Colours(9, 16)),
    "BT.2020": (("bt2020", "bt2020-10", "bt2020nc"), ("2020", "2020_10", "2020_ncl"), Colours(9, 14)),
    "Display P3": (("smpte432", "iec61966-2-1", "bt709"), ("smpte432", "iec61966-2-1", "709"), Colours(12, 13)),
}


def wide_colour(folder: Path, name: str) -> tuple[float, float]:
    """Levels between our picture and the standards', and between taking the film as it is and the standards'."""
    (primaries, transfer, matrix), (z_primaries, z_transfer, z_matrix), colours = WIDE[name]
    film = folder / f"{transfer}_{primaries}.mkv"
    convert = (
        f"format=gbrp16le,setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc,zscale=p={z_primaries}"
        f":t={z_transfer}:m={z_matrix}:r=limited:npl=203,format=yuv444p10le"
    )
    said = ("-colorspace", matrix, "-color_trc", transfer, "-color_primaries", primaries)
    coded = f"lossless=1:log-level=error:colorprim={primaries}:transfer={transfer}:colormatrix={matrix}"
    write_film(film, 6, "-vf", convert, *said, codec="libx265", quality=("-x265-params", coded))
    ours = read_video(film).frames
    nits = 100.0
    light = decode_light(film, f"zscale=t=linear:p={z_primaries}:m=gbr:r=full:npl={nits:g}:agamma=0")
    if colours.is_hdr:
        light = tone_mapped(light * nits, colours.peak_nits) @ BT2020_TO_709.T
        expected = np.clip(light, 0, 1) ** (1 / 2.4)
    else:
        light = np.clip(light @ (P3_TO_709 if colours.primaries == 12 else BT2020_TO_709).T, 0, 1)
        srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        expected = srgb if colours.transfer == 13 else light ** (1 / 2.4)
    as_is = decode(film, SIZE_HW, "setparams=color_primaries=bt709:color_trc=bt709")
    return apart(ours, expected * 255), apart(as_is, expected * 255)


def frame_rates(folder: Path, rates: Sequence[str]) -> Comparison:
    """Sampled to 16 fps: the frame that is nearest in time, as ffmpeg's `fps` filter finds it."""
    wrong: list[str] = []
    worst, ties, compared = 0.0, 0, 0
    for rate in rates:
        film = write_film(folder / f"{rate.replace('/', '_')}.mp4", round(2.1 * float(Fraction(rate))), rate=rate)
        worst, ties, compared, wrong = _sampled(film, rate, worst, ties, compared, wrong)
    for number, (name, expression) in enumerate(VARYING.items()):
        film = folder / f"varying_{number}.{'mkv' if number else 'mp4'}"
        stamped = ("-vf", f"settb=1/90000,setpts='({expression})/TB'", "-fps_mode", "passthrough")
        write_film(film, 60, *stamped, "-enc_time_base", "1/90000", "-video_track_timescale", 90000)
        if not measure_video(film).timeline.varies:
            wrong.append(f"{name}: not seen to vary")
        worst, ties, compared, wrong = _sampled(film, None, worst, ties, compared, wrong)
    return (
        f"{len(wrong)} of {compared} frames are others ({ties} lie midway between two), {worst:.2f} levels apart"
        + (f"; {'; '.join(wrong[:3])}" if wrong else ""),
        not wrong and worst <= CODEC_ERROR,
    )


def _sampled(
    film: Path, rate: str | None, worst: float, ties: int, compared: int, wrong: list[str]
) -> tuple[float, int, int, list[str]]:
    times = time_stamps(film)
    usual_s = np.median(np.diff(times)) if rate is None else f"1/({rate})"
    ours = read_video(film, fps=CLIP_FPS).frames
    # Half a frame early, and up to the next tick: the nearest frame.
    nearest = f"settb=1/720000,setpts=PTS-STARTPTS-0.5*({usual_s})/TB,fps={CLIP_FPS}:round=up:start_time=0"
    theirs = decode(film, SIZE_HW, nearest)
    count = min(len(ours), len(theirs))
    if abs(len(ours) - len(theirs)) > 1 or count < 16:
        wrong = [*wrong, f"{film.name}: {len(ours)} frames, ffmpeg {len(theirs)}"]
    for k in range(count):
        mine, other = frame_number(ours[k]), frame_number(theirs[k])
        compared += 1
        if mine == other:
            worst = max(worst, apart(ours[k], theirs[k]))
        elif abs(abs(times[mine] - k / CLIP_FPS) - abs(times[other] - k / CLIP_FPS)) < 1e-4:
            ties += 1
        else:
            wrong = [*wrong, f"{film.name}: frame {k} is {mine}, ffmpeg's {other}"]
    return worst, ties, compared, wrong


def draw_frames(count: int) -> Iterator[np.ndarray]:
    """Soft colours, brighter to the right and greener downwards, with the frame's number in the middle."""
    height, width = SIZE_HW
    y, x = np.mgrid[:height, :width].astype(float)
    soft = np.stack([40 + 150 * x / width, 60 + 120 * y / height, 190 - 110 * (x / width) * (y / height)], -1)
    for number in range(count):
        frame = soft.astype(np.uint8)
        for bit in range(NUM_BITS):
            left, top = width // 2 + (bit % 3 - 1) * SQUARE, height // 2 + (bit // 3 - 1) * SQUARE
            frame[top : top + SQUARE, left : left + SQUARE] = 230 if number >> bit & 1 else 25
        yield frame


def frame_number(frame: np.ndarray) -> int:
    """The number that a frame of a film carries."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(NUM_BITS):
        left, top = width // 2 + (bit % 3 - 1) * SQUARE, height // 2 + (bit // 3 - 1) * SQUARE
        number |= int(frame[top + 2 : top + SQUARE - 2, left + 2 : left + SQUARE - 2].mean() > 127) << bit
    return number


def write_film(
    path: Path,
    count: int,
    *words: object,
    rate: str = "30",
    codec: str = "libx264",
    quality: Sequence[object] = ("-crf", 4),
) -> Path:
    """Encode `count` drawn frames with ffmpeg's program."""
    height, width = SIZE_HW
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-")
    filters = () if "-vf" in words else ("-vf", "scale=out_color_matrix=bt709,format=yuv420p", "-colorspace", "bt709")
    content = b"".join(frame.tobytes() for frame in draw_frames(count))
    ffmpeg(*raw, *filters, *words, "-c:v", codec, *quality, path, content=content)
    return path


def decode(path: Path, size_hw: Sequence[int], filters: str = "null") -> np.ndarray:
    """All frames by ffmpeg's program, turned as it turns them: uint8 [T, H, W, 3]."""
    exact = "flags=bilinear+full_chroma_int+accurate_rnd+bitexact"
    raw = ffmpeg("-i", path, "-map", "0:V", "-vf", f"{filters},scale={exact},format=rgb24", *_RAW, "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *size_hw, 3)


_RAW = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt")


def decode_light(path: Path, filters: str) -> np.ndarray:
    """All frames as ffmpeg's libzimg has their light: float64 [T, H, W, 3]."""
    raw = ffmpeg("-i", path, "-vf", f"{filters},format=gbrpf32le", *_RAW, "gbrpf32le", "-")
    planes = np.frombuffer(raw, np.float32).reshape(-1, 3, *SIZE_HW)
    return planes[:, (2, 0, 1)].transpose(0, 2, 3, 1).astype(np.float64)


def time_stamps(path: Path) -> list[float]:
    """When each frame is shown, in seconds since the first, by ffmpeg's program."""
    shown = ("-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc")
    lines = ffmpeg("-i", path, "-map", "0:V", *shown, "-").decode().splitlines()
    base = Fraction(next(line.split()[-1] for line in lines if line.startswith("#tb 0:")))
    stamps = [int(line.split(",")[2]) for line in lines if not line.startswith("#")]
    return [float((stamp - stamps[0]) * base) for stamp in stamps]


def turned(frames: np.ndarray, number: int) -> np.ndarray:
    """One of the eight ways to turn and mirror frames [T, H, W, 3]."""
    mirrored = frames[:, :, ::-1] if number >= 4 else frames
    return np.rot90(mirrored, number % 4, (1, 2))


def apart(frames: np.ndarray, others: np.ndarray) -> float:
    """Mean |difference| in levels of 255."""
    if frames.shape != others.shape:
        raise DataError(f"frames of {frames.shape}, the other decoder's are {others.shape}")
    return float(np.abs(frames.astype(np.float64) - others).mean())


def ffmpeg(*words: object, content: bytes = b"") -> bytes:
    """Run ffmpeg's program; its output. Raises: RuntimeError with its words when it fails."""
    command = [program(), "-loglevel", "error", "-y", *map(str, words)]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()}")
    return done.stdout


@functools.cache
def program() -> str:
    """The path of ffmpeg's program. Raises: ImportError when imageio-ffmpeg is not installed (the extra `dev`)."""
    find: Callable[[], str] = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe
    return find()
