"""Films as a person sees them: pixels and frame indices equal those of ffmpeg's own program (package imageio-ffmpeg).

`make prove-nothing-lost FULL=1` runs the whole matrix.
"""

from __future__ import annotations

import av
import ffmpeg_films
import numpy as np
import pytest
from ffmpeg_films import CLIP_FPS, CODEC_ERROR, VARYING, WIDE
from launching import SIZES

from faceid.errors import DataError
from faceid.media.container import opened, time_stamps
from faceid.media.pixels.colours import colours_of
from faceid.media.pixels.fit import fit_sizes
from faceid.media.video import measure_video, read_frames, read_timeline, read_video

pytestmark = pytest.mark.starts_process

pytest.importorskip("imageio_ffmpeg")


CONTAINERS = ("mp4", "mov", "mkv") if SIZES == "full" else ("mp4",)
RATES = ("16", "24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60", "120")
RATES = RATES if SIZES == "full" else ("24000/1001", "30", "60")


def as_ffmpeg(text: str, bar: str):
    """A promise about films, with the levels that two decoders may be apart."""
    return pytest.mark.promise(text, bar=bar.replace("LEVELS", f"{CODEC_ERROR:g} levels"), proof="nothing_lost")


def holds(comparison, record_property):
    measured, is_kept = comparison
    assert is_kept, measured
    record_property("measured", measured)


@as_ffmpeg(
    f"{8 * len(CONTAINERS)} films: eight orientations of the display matrix in {', '.join(CONTAINERS)}",
    "each within LEVELS of ffmpeg's, all eight different",
)
@pytest.mark.fault("M2")
def test_all_eight_orientations_stand_upright(tmp_path, record_property):
    holds(ffmpeg_films.orientations(tmp_path, CONTAINERS), record_property)


@pytest.mark.fault("M2")
@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_a_front_cameras_mirror_is_undone_in_other_containers(tmp_path, ending):
    plain, film = ffmpeg_films.write_film(tmp_path / "plain.mp4", 2), tmp_path / f"mirrored.{ending}"
    ffmpeg_films.ffmpeg("-display_rotation", 90, "-display_hflip", "-i", plain, "-c", "copy", film)
    assert measure_video(film).size_hw == (160, 96)
    ours = read_video(film).frames
    assert ffmpeg_films.apart(ours, ffmpeg_films.decode(film, (160, 96))) < ffmpeg_films.CODEC_ERROR


@pytest.mark.fault("M2")
def test_a_fitted_film_is_turned_too(tmp_path):
    plain, film = ffmpeg_films.write_film(tmp_path / "plain.mp4", 2), tmp_path / "mirrored.mp4"
    ffmpeg_films.ffmpeg("-display_hflip", "-i", plain, "-c", "copy", film)
    fit = fit_sizes(ffmpeg_films.SIZE_HW, 48, 80).on_even_pixels()
    whole = np.stack([fit.frame(frame) for frame in read_video(film).frames])
    assert ffmpeg_films.apart(read_frames(film, range(2), fit), whole) < ffmpeg_films.CODEC_ERROR


@pytest.mark.fault("M2")
def test_a_skewed_display_matrix_is_refused(tmp_path):
    plain, film = ffmpeg_films.write_film(tmp_path / "plain.mp4", 2), tmp_path / "askew.mp4"
    ffmpeg_films.ffmpeg("-display_rotation", 30, "-i", plain, "-c", "copy", film)
    for read in (measure_video, read_video):
        with pytest.raises(DataError, match=r"askew\.mp4: its display matrix is no quarter turn"):
            read(film)


@as_ffmpeg(
    "6 stream orders: sound first, sound last, cover art first, a smaller film first, subtitles and sound first, "
    "chapters and three sounds first",
    "every frame, within LEVELS of ffmpeg's",
)
@pytest.mark.fault("M1")
def test_every_frame_comes_whatever_stands_beside_the_pictures(tmp_path, record_property):
    holds(ffmpeg_films.stream_orders(tmp_path), record_property)


@as_ffmpeg(
    f"{5 if SIZES == 'full' else 4} films: BT.601 and BT.709, limited and full range",
    "each within LEVELS of ffmpeg's, and of what was drawn",
)
def test_matrix_and_range_are_taken_as_tagged(tmp_path, record_property):
    holds(ffmpeg_films.matrices_and_ranges(tmp_path, full=SIZES == "full"), record_property)


@as_ffmpeg(
    f"{len(WIDE)} kinds of HDR and wide gamut: {', '.join(WIDE)}",
    "each within LEVELS of the standards' light, as libzimg has it",
)
@pytest.mark.fault("M3")
@pytest.mark.parametrize("name", WIDE)
def test_hdr_and_wide_gamut_are_brought_to_bt709(tmp_path, name, record_property):
    ours, as_is = ffmpeg_films.wide_colour(tmp_path, name)
    assert ours <= CODEC_ERROR < as_is / 2
    record_property("measured", f"{name} {ours:.2f} levels apart (taken as it is: {as_is:.0f})")


@pytest.mark.fault("M3")
def test_hdr_is_brought_to_bt709_before_it_is_fitted(tmp_path):
    ffmpeg_films.wide_colour(tmp_path, "HLG")
    (film,) = tmp_path.iterdir()
    fit = fit_sizes(ffmpeg_films.SIZE_HW, 48, 80).on_even_pixels()
    whole = np.stack([fit.frame(frame) for frame in read_video(film).frames])
    assert ffmpeg_films.apart(read_frames(film, range(6), fit), whole) < ffmpeg_films.CODEC_ERROR


@pytest.mark.fault("M3")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ("colorspace=ictcp:color_trc=smpte2084:color_primaries=bt2020", "coded in ICtCp"),
        ("colorspace=bt709:color_trc=log100:color_primaries=bt709", "transfer function is number 9"),
        ("colorspace=bt709:color_trc=bt709:color_primaries=smpte428", "primaries are number 10"),
    ],
)
def test_colours_that_are_not_known_are_left_out_with_the_reason(tmp_path, tags, reason):
    film = ffmpeg_films.write_film(tmp_path / "odd.mp4", 2, "-vf", f"format=yuv420p,setparams={tags}")
    for read in (measure_video, read_video):
        with pytest.raises(DataError, match=rf"odd\.mp4: its .*{reason}.*export it as H\.264 in SDR"):
            read(film)


@as_ffmpeg(
    f"{len(RATES)} constant frame rates and {len(VARYING)} varying ones, sampled to {CLIP_FPS} fps",
    "the frames of ffmpeg's fps filter, within LEVELS",
)
def test_another_rate_gives_the_frames_of_ffmpegs_filter(tmp_path, caplog, record_property):
    holds(ffmpeg_films.frame_rates(tmp_path, RATES), record_property)
    # A varying rate is said, a constant one is not.
    assert {"varying_0.mp4", "varying_1.mkv"} == {
        record.args[0].name for record in caplog.records if "by their time stamps" in record.getMessage()
    }


@pytest.fixture
def phone(tmp_path):
    """A film of 60 frames, a second at 30 fps and two at 15."""
    stamped = ("-vf", "settb=1/90000,setpts='(if(lt(N,30),N/30,1+(N-30)/15))/TB'", "-fps_mode", "passthrough")
    ticks = ("-enc_time_base", "1/90000", "-video_track_timescale", 90000)
    return ffmpeg_films.write_film(tmp_path / "phone.mp4", 60, *stamped, *ticks)


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("doubled.mkv", ("-bsf:v", "setts=ts='if(eq(N,20),PREV_INPTS,PTS)'")),
        # Before the file's beginning: Matroska cannot say when.
        ("negative.mkv", ("-output_ts_offset", -0.1, "-avoid_negative_ts", "disabled")),
    ],
)
def test_one_odd_time_stamp_does_not_make_a_film_constant(phone, tmp_path, name, words):
    plain, odd = tmp_path / "plain.mp4", tmp_path / name
    ffmpeg_films.ffmpeg("-i", phone, "-c:v", "libx264", "-bf", 0, "-fps_mode", "passthrough", plain)
    ffmpeg_films.ffmpeg("-i", plain, "-c", "copy", *words, odd)
    expected, timeline = read_timeline(plain), read_timeline(odd)
    assert "were missing or doubled" in timeline.varies and timeline == measure_video(odd).timeline
    assert np.abs(np.subtract(timeline.indices(16, 48), expected.indices(16, 48))).max() <= 1


@pytest.mark.fault("A3")
@pytest.mark.parametrize("ending", ["avi", "mkv", "ts", "flv", "mov"])
def test_a_films_timeline_is_one_whoever_reads_it(phone, tmp_path, ending):
    film = tmp_path / f"copy.{ending}"
    ffmpeg_films.ffmpeg("-i", phone, "-c", "copy", film)
    timeline = read_timeline(film)
    assert timeline.varies and timeline == measure_video(film).timeline
    assert np.abs(np.subtract(timeline.indices(16, 46), read_timeline(phone).indices(16, 46))).max() <= 1
    assert timeline.time_s(59) - timeline.time_s(58) == pytest.approx(1 / 15, abs=0.002)


def test_what_an_edit_list_cuts_off_has_no_time(tmp_path):
    plain, film = tmp_path / "plain.mp4", tmp_path / "edited.mp4"
    ffmpeg_films.write_film(plain, 40, "-g", 40, "-bf", 0)
    ffmpeg_films.ffmpeg("-ss", 0.5, "-i", plain, "-c", "copy", film)
    with av.open(str(film)) as container:
        assert sum(packet.is_discard for packet in container.demux(video=0)) == 15
    with opened(film, film) as (container, stream):
        assert len(time_stamps(container, stream, film)) == measure_video(film).frames == 25


def test_the_default_track_is_the_film(tmp_path):
    film = tmp_path / "two.mkv"
    large = ("-f", "lavfi", "-i", "testsrc2=s=192x128:r=30:d=0.2")
    small = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=0.2")
    which = ("-map", 0, "-map", 1, "-disposition:0", 0, "-disposition:1", "default")
    ffmpeg_films.ffmpeg(*large, *small, *which, "-pix_fmt", "yuv420p", "-c:v", "libx264", film)
    assert measure_video(film).size_hw == (64, 96)


def test_pq_is_brought_down_from_the_peak_it_was_mastered_at(tmp_path):
    brightness = []
    for nits in (1000, 4000):
        film = tmp_path / f"{nits}.mkv"
        mastered = f"G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L({nits}0000,50)"
        coded = f"log-level=error:colorprim=9:transfer=16:colormatrix=9:master-display={mastered}"
        pq = ("-vf", "format=yuv420p10le,setparams=colorspace=bt2020nc:color_trc=smpte2084:color_primaries=bt2020")
        ffmpeg_films.write_film(film, 2, *pq, codec="libx265", quality=("-x265-params", coded))
        with av.open(str(film)) as container:
            assert colours_of(next(container.decode(video=0))).peak_nits == nits
        brightness.append(read_video(film).frames.mean())
    assert brightness[1] < brightness[0] - 2


@pytest.mark.fault("A4")
@pytest.mark.parametrize(("ending", "codec"), [("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mjpeg")])
def test_a_film_that_lost_its_end_is_refused_where_its_header_knows(tmp_path, ending, codec):
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    ffmpeg_films.write_film(whole, 30, codec=codec, quality=("-b:v", "500k"))
    assert measure_video(whole).frames == 30
    # Behind a whole picture: no decoder has anything to say.
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    cut.write_bytes(whole.read_bytes()[: packets[18].pos])
    for read in (measure_video, read_video):
        with pytest.raises(
            DataError, match=rf"cut\.{ending}: cut short, 1\d.* frames decode of \d\d\.\d+% of its bytes; copy"
        ):
            read(cut)
    # What was asked for is there.
    assert len(read_frames(cut, range(10))) == 10


@pytest.mark.fault("A4")
@pytest.mark.parametrize("ending", ["matroska", "webm", "avi"])
def test_a_film_without_a_length_is_whole(tmp_path, ending):
    codec = {"matroska": "libx264", "webm": "libvpx-vp9", "avi": "mjpeg"}[ending]
    whole = ffmpeg_films.write_film(tmp_path / "whole.mkv", 10, codec=codec, quality=("-b:v", "500k"))
    sent = tmp_path / f"sent.{ending}"
    # As it was made, into a pipe: nothing could be written at its beginning afterwards.
    sent.write_bytes(ffmpeg_films.ffmpeg("-i", whole, "-c", "copy", "-f", ending, "-"))
    assert measure_video(sent).frames == 10


@pytest.mark.fault("A4")
def test_a_longer_sound_is_no_missing_picture(tmp_path):
    whole, film = ffmpeg_films.write_film(tmp_path / "whole.mkv", 10), tmp_path / "sound.mkv"
    ffmpeg_films.ffmpeg("-i", whole, "-f", "lavfi", "-i", "sine=d=3", "-c:v", "copy", film)
    assert measure_video(film).frames == 10
