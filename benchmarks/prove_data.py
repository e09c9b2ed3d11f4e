"""Show, row by row, what preparing data promises: bytes, damage, scale and speed, each beside its naive control.

`make prove-data` runs smaller sizes, `make prove-data FULL=1` the stated ones. Ends non-zero when a promise falls
short; writes benchmarks/records/prove_data[_full].json. Its data lies in memory where there is /dev/shm.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from data_faults import flip_bits, kill_workers
from data_scale import SIZES, measure_sizes, slope
from data_speed import Loaders, MissingError, compare_loaders, import_imageio
from data_writing import compare_writing
from proof import REPOSITORY, Promise, Row, Seen, conclude, judge_tests, memory_folder, row_of_time, rows_of, run_tests

OUT = REPOSITORY / "outputs" / "prove_data"
TESTED = (
    Promise(
        "every real AIST name of every list parses",
        "all",
        ("tests/data/test_aist.py::test_every_real_name_of_every_real_list_parses",),
    ),
    Promise(
        "every file of video_bad, video_odd and image_bad gets its stated outcome",
        "all files",
        ("tests/data/test_bad_files_real.py",),
    ),
    Promise(
        "several processes, killed ones too, make what one makes; a finished folder is not read",
        "all checks pass",
        ("tests/data/test_shared_work.py",),
    ),
    Promise(
        "a run over clips of several sizes and single frames, in one process and in two",
        "the same samples, the same losses",
        ("tests/data/stream/test_buckets.py::test_a_run_mixes_sizes_and_single_frames_whatever_the_world",),
    ),
)
LONGEST_DEFAULT_S = 600


@dataclass(frozen=True)
class Sizes:
    """How much is run. rounds: of every comparison, two measurements of each way a round."""

    kills: int
    flips: int
    rounds: int


SMALL, FULL = Sizes(kills=6, flips=300, rounds=2), Sizes(kills=50, flips=2_000, rounds=5)


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    sizes = FULL if is_full else SMALL
    torch.set_num_threads(1)
    began = time.perf_counter()
    details: dict[str, Any] = {"load_average_at_start": os.getloadavg()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        work = Path(name)
        # What is timed comes first; nothing of this proof runs beside it.
        for look in (_speed, _writing, _scale, _flips, _kills):
            rows += _timed(look, work, sizes, details)
    cases = run_tests([test for promise in TESTED for test in promise.tests], is_full)
    rows += [judge_tests(promise, cases) for promise in TESTED]
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    return conclude("data", rows, is_full, seconds, details)


def _speed(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    loaders = Loaders(work / "speed", import_imageio(OUT / "imageio"))
    figures = details["speed"] = compare_loaders(loaders, sizes.rounds)
    seconds = {name: found["median"] for name, found in figures["cpu_s"].items()}

    def row(what: str, naive: str, ours: str, least: float, beside: str) -> Seen:
        ratio = seconds[naive] / seconds[ours]
        measured = f"{seconds[naive]:.3f} / {seconds[ours]:.4f} CPU s: {ratio:.1f} times ({beside})"
        return f"{what}: CPU seconds a clip, naive loader / ours", f"at least {least:g} times", measured, ratio >= least

    one_pass = seconds["film_in_one_pass"] / seconds["film_by_ours"]
    film = (
        f"{figures['film_mbit_per_s']} Mbit/s, {figures['film_s']:g} s long; {one_pass:.1f} times without counting "
        f"frames; PSNR {figures['film_psnr_db']} dB, {figures['film_psnr_db_one_frame_off']} dB one frame off"
    )
    clip = f"PSNR {figures['clip_psnr_db']} dB"
    latents = f"video and pose; once in a run, the checksum takes {seconds['verify_latents']:.4f} s a clip"
    return [
        row("from a 1080p60 film", "film_naively", "film_by_ours", 6, film),
        row("from a ready 480x832 clip", "clip_naively", "clip_by_ours", 2, clip),
        row("from latents, naive from the ready clip", "clip_naively", "latents_by_ours", 20, latents),
    ]


def _writing(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    figures = details["writing"] = compare_writing(work / "writing", OUT / "writing", sizes.rounds)
    ratios = {
        f"{kind} in {place}": figures[place][kind]["tar_writer"]["median"] / figures[place][kind]["ours"]["median"]
        for place in ("memory", "disk")
        for kind in ("cpu_s", "wall_s")
    }
    shown = ", ".join(f"{name.replace('_s', '')} {ratio:.2f}" for name, ratio in ratios.items())
    measured = f"{shown} (times of a shard of {figures['shard_mb']:g} MB; on disk only ours waits for it)"
    holds = ratios["cpu_s in memory"] >= 1 and ratios["wall_s in memory"] >= 1
    return [("writing shards: time of webdataset.TarWriter with checksums / ours", "at least 1", measured, holds)]


def _scale(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    found = measure_sizes(work / "scale", sizes.rounds)
    details["scale"] = {str(size): figures for size, figures in found.items()}
    most = found[SIZES[-1]]

    def by_size(name: str, form: str) -> str:
        return " / ".join(format(found[size][name], form) for size in SIZES)

    opened, memory = by_size("open_s", ".3f"), by_size("peak_mb", ".0f")
    later, growth = by_size("later_sample_ms", ".2f"), slope(found, "later_sample_ms", *SIZES[1:])
    ready = {size: figures["training_set_s"] + figures["first_batch_s"] for size, figures in found.items()}
    first = " / ".join(f"{ready[size]:.3f}" for size in SIZES)
    what = f"{' / '.join(f'{size:,}' for size in SIZES)} clips"
    return [
        (f"{what}: seconds to open", "100,000 under 2 s", f"{opened} s", most["open_s"] < 2),
        (
            f"{what}: memory at most while opening",
            "100,000 under 300 MB",
            f"{memory} MB, of an index of {by_size('index_mb', '.1f')} MB",
            most["peak_mb"] < 300,
        ),
        (
            f"{what}: a sample takes as long, however many there are",
            "slope of log time from 1,000 to 100,000 at most 0.1",
            f"{growth:.2f}: {later} ms; from open to the first batch {first} s",
            growth <= 0.1,
        ),
    ]


def _flips(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    figures = details["flips"] = flip_bits(work / "flips", sizes.flips, seed=0)
    beside = ", ".join(f"{count} {what}" for what, count in figures["webdataset"].items())
    measured = f"{figures['noticed']} of {figures['flips']} (webdataset's reader, strictest handler: {beside})"
    whole = figures["webdataset_reads_the_whole_shard"]
    return [
        ("single-bit flips in a shard are noticed", "all", measured, figures["noticed"] == figures["flips"]),
        (
            "the undamaged shard, read by webdataset's own reader",
            "all keys, members equal",
            f"{figures['samples']} clips, {'equal' if whole else 'not equal'}",
            whole,
        ),
    ]


def _kills(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    figures = details["kills"] = kill_workers(work / "kills", sizes.kills, seed=0)
    seen = []
    for name, found in figures.items():
        measured = (
            f"{found['kills']} kills ({found['kills_of_claim_holders']} of a process that held a claim) in "
            f"{found['runs']} runs: {found['runs_with_other_bytes']} with other bytes, {found['clips_lost']} clips "
            f"lost, {found['clips_doubled']} doubled, {found['workers_that_failed']} workers failed, "
            f"{found['temporary_files_left']} temporary files left"
        )
        wrong = ("runs_with_other_bytes", "clips_lost", "clips_doubled", "workers_that_failed")
        bar = "the bytes of a single run, no clip lost or doubled"
        seen.append((f"{name} by 4 processes under kill -9", bar, measured, not any(found[key] for key in wrong)))
    return seen


def _timed(
    look: Callable[[Path, Sizes, dict[str, Any]], list[Seen]], work: Path, sizes: Sizes, details: dict[str, Any]
) -> list[Row]:
    """Rows that were measured together; the first carries the seconds."""
    began = time.perf_counter()
    try:
        return rows_of(look(work, sizes, details), time.perf_counter() - began)
    except MissingError as error:
        what = "CPU seconds a clip, against a naive loader"
        return [Row(what, "6, 2 and 20 times fewer", str(error), "not shown", round(time.perf_counter() - began, 1))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
