"""Show, row by row, what rendering many videos promises: kills, makespan, encodes, caches, defaults, bad input.

`make prove-sampling` runs smaller sizes, `make prove-sampling FULL=1` the stated ones. Ends non-zero when a promise
falls short; writes benchmarks/records/prove_sampling[_full].json and sampling_table[_full].md. Needs to be root: it
mounts small disks. Its data lies in memory where there is /dev/shm.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from proof import RECORDS, Promise, Row, Seen, conclude, judge_tests, memory_folder, row_of_time, rows_of, run_tests
from sampling_caches import gate, repeat_input
from sampling_faults import Fault, meet_faults
from sampling_kills import kill_workers
from sampling_loop import NUM_POSES, PROMPTS, compare_ways
from sampling_makespan import Jobs, Measured, ideal_s, measure
from sampling_sizes import FULL, SMALL, Sizes
from sampling_table import (
    SHIPPED,
    TOY,
    WORTH_PX,
    WORTH_SIMILARITY,
    cells_of,
    compare,
    render_cells,
    say,
    write_table,
)

LONGEST_DEFAULT_S = 600
KILL_SEED = 5
SLOWNESS = 10.0
TESTED = (
    Promise(
        "the same video again from its .json (--like): the same bytes, or a word on what changed",
        "all checks pass",
        (
            "tests/sampling/one_video/test_sidecar.py",
            "tests/sampling/jobs/test_worker.py::test_a_video_of_a_batch_is_rendered_again_from_its_sidecar",
        ),
    ),
    Promise(
        "longer videos in windows, and a face that changes from frame to frame",
        "all checks pass",
        (
            "tests/models/rendering/test_pipeline.py::test_windows_of_a_long_pose_video_have_its_length",
            "tests/models/rendering/test_pipeline.py::test_a_face_may_change_from_frame_to_frame",
            "tests/models/rendering/test_pipeline.py::test_a_changing_face_goes_with_its_frames_into_windows_and_guidance",
            "tests/models/rendering/test_denoise.py",
        ),
    ),
    Promise(
        "the gallery in Chromium: filters hide and count, posters are on the page",
        "all checks pass",
        ("tests/sampling/test_batch_gallery.py::test_in_a_browser_filters_hide_and_count",),
    ),
)


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    sizes = FULL if is_full else SMALL
    torch.set_num_threads(1)
    began = time.perf_counter()
    details: dict[str, Any] = {"load_average_at_start": os.getloadavg(), "kill_seed": KILL_SEED}
    details["table"] = RECORDS / f"sampling_table{'_full' if is_full else ''}.md"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        # What is timed comes first; nothing of this proof runs beside it.
        for look in (_makespan, _one_slow, _loop, _kills, _repeated, _table, _faults):
            folder = Path(name) / look.__name__
            folder.mkdir()
            at = time.perf_counter()
            rows += rows_of(look(folder, sizes, details), time.perf_counter() - at)
    details["table"] = details["table"].name
    cases = run_tests([test for promise in TESTED for test in promise.tests], is_full)
    rows += [judge_tests(promise, cases) for promise in TESTED]
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    return conclude("sampling", rows, is_full, seconds, details)


def _makespan(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    jobs = Jobs.make(work / "poses", sizes.jobs, 0.6, sizes.mean_s)
    # They wait, and take no core from each other: one worker beside two, then four.
    with ThreadPoolExecutor(1) as beside:
        alone = beside.submit(measure, jobs, work / "one", 1)
        two, four = (measure(jobs, work / name, count) for name, count in (("two", 2), ("four", 4)))
        static = measure(jobs, work / "static", 4, is_static=True)
        one = alone.result()
    details["makespan"] = [asdict(found) for found in (one, two, four, static)]

    def said(found: Measured) -> str:
        return f"{found.workers}: {found.seconds:.1f} / {found.bound_s:.1f} s = {found.ratio:.3f}"

    ratios = [found.ratio for found in (one, two, four)]
    return [
        (
            f"makespan of {sizes.jobs} skewed jobs with 1, 2, 4 workers, by that of LPT without any overhead",
            "<= 1.05",
            f"{'; '.join(map(said, (one, two, four)))} (static split with 4: {static.seconds:.1f} s = "
            f"{static.ratio:.3f})",
            max(ratios) <= 1.05,
        )
    ]


def _one_slow(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    jobs = Jobs.make(work / "poses", sizes.slow_jobs, 0.3, sizes.slow_mean_s)
    found = measure(jobs, work / "slow", 8, slownesses=(SLOWNESS,))
    ideal = ideal_s(jobs.waits_s, [1 / SLOWNESS, *[1.0] * 7])
    details["one_slow"] = {**asdict(found), "ideal_s": ideal}
    return [
        (
            f"{sizes.slow_jobs} jobs, 8 workers, one ten times slower: makespan by total work / sum of speeds",
            "<= 1.2",
            f"{found.seconds:.1f} / {ideal:.1f} s = {found.seconds / ideal:.3f}; the longest job takes "
            f"{max(jobs.waits_s):.1f} s; {found.attempts - sizes.slow_jobs} begun twice",
            found.seconds <= 1.2 * ideal,
        )
    ]


def _loop(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    ways = compare_ways(work, sizes.loop_steps)
    details["loop"] = {name: {**asdict(way), "videos": len(way.videos)} for name, way in ways.items()}
    base, peer, face, calls = (ways[name] for name in ("batch_base", "diffusers", "batch_face", "calls"))
    count = NUM_POSES * len(PROMPTS)
    encodes = [(way.video_encodes, way.text_encodes) for way in (base, peer, face, calls)]
    return [
        (
            f"{count} jobs ({NUM_POSES} poses, {len(PROMPTS)} prompts) in a batch: encodes by VAE and by text encoder",
            f"<= 5 and <= 4; a plain WanVACEPipeline loop {2 * count} and {2 * count}",
            f"batch {encodes[0]}, with the face {encodes[2]}; WanVACEPipeline {encodes[1]}, our pipeline's call "
            f"{encodes[3]}",
            all(videos <= 5 and texts <= 4 for videos, texts in (encodes[0], encodes[2]))
            and encodes[1] == (2 * count, 2 * count),
        ),
        (
            "... its videos: at face_scale 0 WanVACEPipeline's, with the face those of one call each",
            "the same bytes",
            f"{_same(base.videos, peer.videos)} and {_same(face.videos, calls.videos)} of {count}; CPU s "
            f"{base.cpu_s:.1f} / {peer.cpu_s:.1f} and {face.cpu_s:.1f} / {calls.cpu_s:.1f}, peak MiB "
            f"{base.peak_mib:.0f} / {peer.peak_mib:.0f} and {face.peak_mib:.0f} / {calls.peak_mib:.0f}",
            base.videos == peer.videos and face.videos == calls.videos and len(base.videos) == count,
        ),
    ]


def _same(videos: dict[str, str], others: dict[str, str]) -> int:
    return sum(others.get(name) == sha256 for name, sha256 in videos.items())


def _kills(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    found = kill_workers(work, sizes.workers, sizes.kill_jobs, sizes.kills, sizes.kill_steps, sizes.lease_s, KILL_SEED)
    details["kills"] = {**asdict(found), "wasted": found.wasted}
    wrong = {
        "missing": found.missing,
        "of other bytes": found.other_bytes,
        "unexpected": found.unexpected,
        "left over": found.left_over,
    }
    hurt = found.kills == sizes.kills and found.stopped_in_a_job and found.stopped_s > found.lease_s
    return [
        (
            f"{sizes.workers} workers, {found.jobs} jobs, kill -9 at {sizes.kills} random moments, one stopped for "
            f"{found.stopped_s:.0f} s (lease {found.lease_s:g} s), one ten times slower: each video once",
            "the bytes of a quiet single process",
            f"{', '.join(f'{len(names)} {what}' for what, names in wrong.items())}; {found.kills_in_a_job} of "
            f"{found.kills} kills in a job; {found.attempts} tries, {found.wasted} wasted, {found.double_renders} "
            f"rendered twice to the end; {found.taken_over} taken over, {found.done_again} done besides; "
            f"{found.seconds:.0f} s (quiet: {found.quiet_s:.0f} s)",
            hurt and not any(wrong.values()) and not found.errors and not any(found.exit_codes),
        ),
        (
            "... files under a final name while that went on",
            "whole at every look",
            f"{len(found.seen_broken)} broken in {found.looks} looks",
            not found.seen_broken and found.looks > found.jobs / 2,
        ),
    ]


def _repeated(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    found = repeat_input()
    details["repeated_input"] = {name: asdict(one) for name, one in found.items()}
    ours = found["StepCache"]
    peers = "; ".join(
        f"{name} {one.relative_error:.2f}, {one.vace_calls}" for name, one in found.items() if one is not ours
    )
    return [
        (
            "step cache on a repeated input: relative error, calls of VACE blocks on a skip",
            "<= 1e-6, 0",
            f"{ours.relative_error:.1e}, {ours.vace_calls} (diffusers on the same model: {peers})",
            ours.relative_error <= 1e-6 and ours.vace_calls == ours.main_calls == 0,
        )
    ]


def _table(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    """The table and the cache's fidelity: renders all, made in one go."""
    cells = cells_of(sizes.changes)
    cached = [replace(SHIPPED, step_cache=threshold) for threshold in sizes.thresholds]
    found = render_cells([*cells, *cached], sizes.people, sizes.poses)
    compared = compare(cells, found[: len(cells)])
    videos = sizes.people * sizes.poses
    write_table(details["table"], compared, f"{videos} videos a row: {sizes.people} people, {sizes.poses} dances.")
    details["cells"] = [asdict(row) for row in compared]
    gated = gate(sizes.thresholds, found[cells.index(SHIPPED)], found[len(cells) :])
    details["step_cache"] = [asdict(row) for row in gated]
    better = [f"{r.name} ({r.likeness_gain:+.3f}, {-r.pose_gain_px:+.2f} px)" for r in compared if r.is_better]
    plain, shipped = compared[0], compared[-1]
    # A third of the passes for less than a fortieth of the pose: what was found harmless.
    harmless = [row for row in gated if row.psnr_db >= 30 and row.pose_error_ratio <= 1.025]
    shown = "; ".join(
        f"{row.threshold:g}: {row.skipped:.0%} skipped, {row.psnr_db:.1f} dB, pose {row.pose_error_ratio:.3f}"
        for row in gated
    )
    return [
        (
            f"the toy's way of sampling ({say(TOY)}) beside {len(cells) - 1} others",
            f"none gains {WORTH_SIMILARITY:g} in similarity or {WORTH_PX:g} px without losing in the other, beyond "
            "three standard errors",
            f"similarity {plain.similarity:.3f}, rank-1 {plain.rank1:.3f}, pose {plain.pose_px:.2f} px; better: "
            f"{', '.join(better) or 'none'}; what sample.py does when nothing is said, on the toy: "
            f"{shipped.likeness_gain:+.3f}, {-shipped.pose_gain_px:+.2f} px",
            not better,
        ),
        (
            "step cache at several thresholds: passes skipped, PSNR to no cache, pose error by that without",
            "some threshold skips passes at >= 30 dB and <= 1.025",
            shown,
            any(row.skipped > 0 for row in harmless),
        ),
    ]


def _faults(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    found = meet_faults(work)
    details["faults"] = asdict(found)

    def unclear(faults: list[Fault]) -> str:
        return ", ".join(f"{fault.name}: {fault.said or 'nothing said'}" for fault in faults if not fault.is_clear)

    clear = [sum(fault.is_clear for fault in faults) for faults in (found.of_jobs, found.of_commands)]
    return [
        (
            f"a job list with {', '.join(fault.name for fault in found.of_jobs)}, doubles and shell characters",
            "each told in one line that names it; the rest is rendered, each once",
            f"{clear[0]} of {len(found.of_jobs)} told; {found.rendered} of {found.wanted} others rendered; exit code "
            f"{found.exit_code}; {len(found.traces)} shell commands run {unclear(found.of_jobs)}".rstrip(),
            clear[0] == len(found.of_jobs)
            and found.rendered == found.wanted
            and found.exit_code == 1
            and found.rendered_once
            and not found.traces,
        ),
        (
            ", ".join(fault.name for fault in found.of_commands),
            "exit code 2 and one line each; with room again the same command does the rest",
            f"{clear[1]} of {len(found.of_commands)} told; {found.full_disk_left or 'the rest was done'} "
            f"{unclear(found.of_commands)}".rstrip(),
            clear[1] == len(found.of_commands) and not found.full_disk_left,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
