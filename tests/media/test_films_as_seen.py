"""Films as a person sees them: pixels and frame indices equal those of ffmpeg's own program (package imageio-ffmpeg).

A part of benchmarks/films_as_seen.py, which runs the whole matrix.
"""

from __future__ import annotations

import numpy as np
import pytest
from launching import REPOSITORY

from faceid.errors import DataError
from faceid.media.fit import fit_sizes
from faceid.media.video import measure_video, read_frames, read_video

pytest.importorskip("imageio_ffmpeg")


@pytest.fixture
def seen(monkeypatch):
    """The benchmark as a module; benchmarks/ is no package."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import films_as_seen

    return films_as_seen


def holds(row):
    promise, bar, measured, is_kept = row
    assert is_kept, f"{promise}: {measured} [bar: {bar}]"


@pytest.mark.fault("M2")
def test_all_eight_orientations_stand_upright(seen, tmp_path):
    holds(seen.orientations(tmp_path, full=False))


@pytest.mark.fault("M2")
@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_a_front_cameras_mirror_is_undone_in_other_containers(seen, tmp_path, ending):
    plain, film = seen.write_film(tmp_path / "plain.mp4", 2), tmp_path / f"mirrored.{ending}"
    seen.ffmpeg("-display_rotation", 90, "-display_hflip", "-i", plain, "-c", "copy", film)
    assert measure_video(film).size_hw == (160, 96)
    ours = read_video(film).frames
    assert seen.apart(ours, seen.decode(film, (160, 96))) < seen.CODEC_ERROR


@pytest.mark.fault("M2")
def test_a_fitted_film_is_turned_too(seen, tmp_path):
    plain, film = seen.write_film(tmp_path / "plain.mp4", 2), tmp_path / "mirrored.mp4"
    seen.ffmpeg("-display_hflip", "-i", plain, "-c", "copy", film)
    fit = fit_sizes(seen.SIZE_HW, 48, 80).on_even_pixels()
    whole = np.stack([fit.frame(frame) for frame in read_video(film).frames])
    assert seen.apart(read_frames(film, range(2), fit), whole) < seen.CODEC_ERROR


@pytest.mark.fault("M2")
def test_a_skewed_display_matrix_is_refused(seen, tmp_path):
    plain, film = seen.write_film(tmp_path / "plain.mp4", 2), tmp_path / "askew.mp4"
    seen.ffmpeg("-display_rotation", 30, "-i", plain, "-c", "copy", film)
    for read in (measure_video, read_video):
        with pytest.raises(DataError, match=r"askew\.mp4: its display matrix is no quarter turn"):
            read(film)


@pytest.mark.fault("M1")
def test_every_frame_comes_whatever_stands_beside_the_pictures(seen, tmp_path):
    holds(seen.stream_orders(tmp_path, full=False))


def test_matrix_and_range_are_taken_as_tagged(seen, tmp_path):
    holds(seen.matrices_and_ranges(tmp_path, full=False))


@pytest.mark.fault("M3")
@pytest.mark.parametrize("name", ["HLG", "PQ", "BT.2020", "Display P3"])
def test_hdr_and_wide_gamut_are_brought_to_bt709(seen, tmp_path, name):
    ours, as_is = seen.wide_colour(tmp_path, name)
    assert ours <= seen.CODEC_ERROR < as_is / 2


@pytest.mark.fault("M3")
def test_hdr_is_brought_to_bt709_before_it_is_fitted(seen, tmp_path):
    seen.wide_colour(tmp_path, "HLG")
    (film,) = tmp_path.iterdir()
    fit = fit_sizes(seen.SIZE_HW, 48, 80).on_even_pixels()
    whole = np.stack([fit.frame(frame) for frame in read_video(film).frames])
    assert seen.apart(read_frames(film, range(6), fit), whole) < seen.CODEC_ERROR


@pytest.mark.fault("M3")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ("colorspace=ictcp:color_trc=smpte2084:color_primaries=bt2020", "coded in ICtCp"),
        ("colorspace=bt709:color_trc=log100:color_primaries=bt709", "transfer function is number 9"),
        ("colorspace=bt709:color_trc=bt709:color_primaries=smpte428", "primaries are number 10"),
    ],
)
def test_colours_that_are_not_known_are_left_out_with_the_reason(seen, tmp_path, tags, reason):
    film = seen.write_film(tmp_path / "odd.mp4", 2, "-vf", f"format=yuv420p,setparams={tags}")
    for read in (measure_video, read_video):
        with pytest.raises(DataError, match=rf"odd\.mp4: its .*{reason}.*export it as H\.264 in SDR"):
            read(film)


def test_another_rate_gives_the_frames_of_ffmpegs_filter(seen, tmp_path, caplog):
    holds(seen.frame_rates(tmp_path, full=False))
    # A varying rate is said, a constant one is not.
    assert {"varying_0.mp4", "varying_1.mkv"} == {
        record.args[0].name for record in caplog.records if "by their time stamps" in record.getMessage()
    }
