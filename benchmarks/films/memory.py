"""What a film costs in memory, however long it is: the commands that cut films and draw poses, each in its own process.

`python -m benchmarks.films.memory` takes small films, `--full` a minute of 1080x1920; `--record` writes
benchmarks/records/films_memory.json. Nothing else of the process counts but what the command itself holds at most.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured_memory import peak_bytes_of

from benchmarks import REPOSITORY
from benchmarks.films.as_seen import ffmpeg
from benchmarks.proofs.rows import Row, Seen, conclude_check, rows_of

FPS = 30
LARGEST_MB = 600
# A longer film may take this much more: what is kept of a frame is a number, not a picture.
LARGEST_GROWTH = 1.1
COMMANDS = {
    "split_clips": ("--crop", "none"),
    "render_poses": (),
}


def check(full: bool) -> list[Row]:
    """Measure and say each row; "not shown" where imageio-ffmpeg is not installed."""
    size_hw, lengths_s = ((1920, 1080), (12, 60)) if full else ((640, 360), (12, 24))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for command, flags in COMMANDS.items():
            began = time.perf_counter()
            try:
                seen = _measure(Path(name), command, flags, size_hw, lengths_s)
            except ImportError as error:
                rows.append(Row(f"memory of {command}", f"under {LARGEST_MB} MB", str(error), "not shown", 0.0))
                continue
            rows += rows_of([seen], time.perf_counter() - began)
    return rows


def _measure(
    folder: Path, command: str, flags: tuple[str, ...], size_hw: tuple[int, int], lengths_s: tuple[int, ...]
) -> Seen:
    peaks_mb = []
    for length_s in lengths_s:
        films = folder / f"films_{length_s}"
        if not films.exists():
            draw_film(films, size_hw, length_s)
        output = folder / f"{command}_{length_s}"
        words = ["--videos_dir", str(films), "--output_dir", str(output), *flags]
        peaks_mb.append(peak_mb([sys.executable, str(REPOSITORY / "tools" / f"{command}.py"), *words]))
    shown = ", ".join(f"{length} s: {peak:.0f} MB" for length, peak in zip(lengths_s, peaks_mb, strict=True))
    return (
        f"{command} of films of {size_hw[1]}x{size_hw[0]} at {FPS} fps",
        f"under {LARGEST_MB} MB, the longest at most {LARGEST_GROWTH:g} times the shortest",
        shown,
        max(peaks_mb) < LARGEST_MB and peaks_mb[-1] <= LARGEST_GROWTH * peaks_mb[0],
    )


def draw_film(folder: Path, size_hw: tuple[int, int], length_s: int) -> None:
    """A test film, and joints beside it that swing."""
    folder.mkdir()
    height, width = size_hw
    source = f"testsrc2=s={width}x{height}:r={FPS}:d={length_s}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
           folder / "film.mp4")  # fmt: skip
    # Head, shoulders, arms, hips and legs, in parts of the picture.
    body = np.array(
        "50 15 52 14 48 14 55 15 45 15 61 23 39 23 67 36 33 36 69 49 31 49 57 52 43 52 58 70 42 70 59 89 41 89".split(),
        float,
    ).reshape(17, 2)
    swing = np.arange(length_s * FPS)[:, None] / FPS
    joints = np.repeat(body[None], len(swing), 0)
    joints[..., 0] += 5 * np.sin(2 * swing + np.arange(17))
    joints = (joints * (width / 100, height / 100)).round(2)
    (folder / "film.joints.json").write_text(json.dumps({"joints": joints.tolist(), "size_hw": list(size_hw)}))


def peak_mb(command: list[str]) -> float:
    """Run a command; the most memory it held (its resident set), in MB. Raises: RuntimeError when it fails."""
    return peak_bytes_of(command, {**os.environ, "OMP_NUM_THREADS": "1"}) / 1e6


def main(argv: list[str]) -> int:
    """Check, print, and record where asked; 1 when a row falls short."""
    began = time.perf_counter()
    rows = check("--full" in argv)
    return conclude_check("films_memory", rows, argv, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
