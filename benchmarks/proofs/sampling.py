"""What rendering many videos promises: kills, makespan.

Needs to be root: it mounts small disks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from benchmarks.faults.sampling_kills import kill_workers
from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Seen
from benchmarks.speed.sampling_makespan import Jobs, Measured, ideal_s, measure

KILL_SEED = 5
SLOWNESS = 10.0


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    lease_s: of claims, None for the shipped one. jobs, mean_s: of the batches whose makespan is measured; slow_jobs,
    slow_mean_s: of the one with a slow worker.
    """

    workers: int
    kill_jobs: int
    kills: int
    kill_steps: int
    lease_s: float | None
    jobs: int
    mean_s: float
    slow_jobs: int
    slow_mean_s: float


SMALL = Sizes(3, kill_jobs=60, kills=8, kill_steps=4, lease_s=6, jobs=32, mean_s=3, slow_jobs=100, slow_mean_s=1.8)
FULL = Sizes(8, kill_jobs=500, kills=100, kill_steps=6, lease_s=None, jobs=120, mean_s=4, slow_jobs=200, slow_mean_s=4)


def _makespan(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    jobs = Jobs.make(work.folder / "poses", sizes.jobs, 0.6, sizes.mean_s)
    # They wait, and take no core from each other: one worker beside two, then four.
    with ThreadPoolExecutor(1) as beside:
        alone = beside.submit(measure, jobs, work.folder / "one", 1)
        two, four = (measure(jobs, work.folder / name, count) for name, count in (("two", 2), ("four", 4)))
        static = measure(jobs, work.folder / "static", 4, is_static=True)
        one = alone.result()
    work.details["makespan"] = [asdict(found) for found in (one, two, four, static)]

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


def _one_slow(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    jobs = Jobs.make(work.folder / "poses", sizes.slow_jobs, 0.3, sizes.slow_mean_s)
    found = measure(jobs, work.folder / "slow", 8, slownesses=(SLOWNESS,))
    ideal = ideal_s(jobs.waits_s, [1 / SLOWNESS, *[1.0] * 7])
    work.details["one_slow"] = {**asdict(found), "ideal_s": ideal}
    return [
        (
            f"{sizes.slow_jobs} jobs, 8 workers, one ten times slower: makespan by total work / sum of speeds",
            "<= 1.2",
            f"{found.seconds:.1f} / {ideal:.1f} s = {found.seconds / ideal:.3f}; the longest job takes "
            f"{max(jobs.waits_s):.1f} s; {found.attempts - sizes.slow_jobs} begun twice",
            found.seconds <= 1.2 * ideal,
        )
    ]


def _kills(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    found = kill_workers(
        work.folder, sizes.workers, sizes.kill_jobs, sizes.kills, sizes.kill_steps, sizes.lease_s, KILL_SEED
    )
    work.details["kills"] = {**asdict(found), "wasted": found.wasted}
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


PROOF = Proof("sampling", (_makespan, _one_slow, _kills), details={"kill_seed": KILL_SEED})
