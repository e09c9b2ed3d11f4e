"""What a film costs in memory, however long it is: commands that cut films and draw poses, each in its own process."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from ffmpeg_films import ffmpeg
from launching import REPOSITORY, SIZES
from measured_memory import peak_bytes_of

pytest.importorskip("imageio_ffmpeg")

FPS, LARGEST_MB = 30, 600
# A longer film may take this much more: what is kept of a frame is a number, not a picture.
LARGEST_GROWTH = 1.1
SIZE_HW, LENGTHS_S = ((1920, 1080), (12, 60)) if SIZES == "full" else ((640, 360), (12, 24))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of one test film for each length, joints beside it that swing."""
    return {length_s: draw_film(tmp_path_factory.mktemp("films"), length_s) for length_s in LENGTHS_S}


def draw_film(folder, length_s):
    height, width = SIZE_HW
    source = f"testsrc2=s={width}x{height}:r={FPS}:d={length_s}"
    coded = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p".split()
    ffmpeg("-f", "lavfi", "-i", source, *coded, folder / "film.mp4")
    # Head, shoulders, arms, hips and legs, in parts of the picture.
    body = np.array(
        "50 15 52 14 48 14 55 15 45 15 61 23 39 23 67 36 33 36 69 49 31 49 57 52 43 52 58 70 42 70 59 89 41 89".split(),
        float,
    ).reshape(17, 2)
    swing = np.arange(length_s * FPS)[:, None] / FPS
    joints = np.repeat(body[None], len(swing), 0)
    joints[..., 0] += 5 * np.sin(2 * swing + np.arange(17))
    joints = (joints * (width / 100, height / 100)).round(2)
    (folder / "film.joints.json").write_text(json.dumps({"joints": joints.tolist(), "size_hw": list(SIZE_HW)}))
    return folder


def memory_promise(command):
    text = f"{command} of films of {SIZE_HW[1]}x{SIZE_HW[0]} at {FPS} fps"
    bar = f"under {LARGEST_MB} MB, the longest at most {LARGEST_GROWTH:g} times the shortest"
    return pytest.mark.promise(text, bar=bar, proof="nothing_lost")


@pytest.mark.starts_process
@pytest.mark.proof_only("half a minute of films", proof="nothing_lost")
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        pytest.param("split_clips", ["--crop", "none"], marks=memory_promise("split_clips")),
        pytest.param("render_poses", [], marks=memory_promise("render_poses")),
    ],
)
def test_a_longer_film_costs_no_more_memory(films, tmp_path, command, flags, record_property):
    peaks_mb = []
    for length_s, folder in films.items():
        words = ["--videos_dir", str(folder), "--output_dir", str(tmp_path / str(length_s)), *flags]
        script = str(REPOSITORY / "tools" / f"{command}.py")
        peaks_mb.append(peak_bytes_of([sys.executable, script, *words], {**os.environ, "OMP_NUM_THREADS": "1"}) / 1e6)
    assert max(peaks_mb) < LARGEST_MB and peaks_mb[-1] <= LARGEST_GROWTH * peaks_mb[0]
    shown = zip(films, peaks_mb, strict=True)
    record_property("measured", ", ".join(f"{length_s} s: {peak:.0f} MB" for length_s, peak in shown))
