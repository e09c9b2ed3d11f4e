"""Show, row by row, what is promised of Slurm: on a real cluster of three nodes that is made here and taken away again.

`make prove-slurm` runs smaller sizes, `make prove-slurm FULL=1` the stated ones. Needs root and Slurm (`make
slurm-packages`). Ends non-zero when a promise falls short or cannot be shown; writes
benchmarks/records/prove_slurm[_full].json.
"""

from __future__ import annotations

import sys
import time

from proof import Promise, conclude, judge_tests, row_of_time, run_tests

LONGEST_DEFAULT_S = 600
FAULTS, TRAPS = "tests/slurm/test_slurm_faults.py", "tests/slurm/test_slurm_traps.py"
SIGNALS, LAUNCHERS = "tests/slurm/test_slurm_signals.py", "tests/slurm/test_slurm_launchers.py"
PROMISES = (
    Promise(
        "the chain on 3 nodes, films to videos, a node lost while rendering, beside one machine",
        "adapter <= 1e-6, videos the same bytes",
        ("tests/slurm/test_slurm_pipeline.py",),
    ),
    Promise(
        "preempted by another job again and again, requeued each time",
        "0 steps lost, adapter the same bits",
        (f"{FAULTS}::test_preempted_again_and_again_it_ends_with_the_same_adapter",),
    ),
    Promise(
        "a signal to one task alone; and once requeued, slurmctld killed and restarted in mid-run",
        "all stop at the same step, the restart makes no other attempt, adapter the same bits",
        (f"{FAULTS}::test_a_signal_to_one_task_stops_all_and_a_controller_that_restarts_none",),
    ),
    Promise(
        "a node loses power in training",
        "requeued, steps since the last checkpoint, adapter the same bits",
        (f"{FAULTS}::test_a_node_that_loses_power_costs_the_steps_since_the_last_checkpoint",),
    ),
    Promise(
        "an attempt that Slurm takes for dead goes on beside the one that replaces it",
        "it writes nothing more",
        (f"{FAULTS}::test_a_cut_off_attempt_cannot_write_once_its_job_runs_elsewhere",),
    ),
    Promise(
        "the time limit",
        "saved and requeued before it, 0 steps lost",
        (f"{FAULTS}::test_before_the_time_limit_it_is_saved_and_requeued",),
    ),
    Promise(
        "the signal matrix of docs/slurm.md: who hears what",
        "every line as written",
        (f"{SIGNALS}::test_who_hears_what", f"{SIGNALS}::test_the_documentation_has_this_table"),
    ),
    Promise(
        "LAUNCHER=accelerate: told to stop, requeued",
        "one world, 0 steps lost, adapter the same bits",
        (f"{LAUNCHERS}::test_accelerate_launch_on_each_node_stops_and_goes_on",),
    ),
    Promise("a crash loop", "ends, and says why", (f"{FAULTS}::test_a_crash_loop_ends_and_says_why",)),
    Promise("traps of batch scripts, each tried", "all checks pass", (TRAPS,)),
    Promise(
        "scripts: under 80 lines, shellcheck, names with spaces and quotes",
        "all checks pass",
        ("tests/slurm/test_slurm_scripts.py",),
    ),
)
# The matrix takes a quarter of an hour.
FULL_ONLY = (
    Promise(
        "launch/two_nodes.sh on two machines, without Slurm",
        "one world, adapter the same bits as by Slurm",
        (f"{LAUNCHERS}::test_two_machines_without_slurm",),
    ),
    Promise(
        "the file STOP",
        "saved, not requeued, goes on when submitted again, adapter the same bits",
        (f"{FAULTS}::test_a_stop_file_ends_the_job_until_it_is_submitted_again",),
    ),
    Promise(
        "the signal matrix of docs/slurm.md: what training makes of it",
        "every line as written",
        (f"{SIGNALS}::test_what_training_makes_of_it",),
    ),
)
# One for each group of tests/slurm, with a cluster of its own; one of them mostly waits.
PROCESSES = 3


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    began = time.perf_counter()
    promises = [*PROMISES, *(FULL_ONLY if is_full else ())]
    files = sorted({test.split("::")[0] for promise in promises for test in promise.tests})
    cases = run_tests(files, is_full, PROCESSES)
    rows = [judge_tests(promise, cases) for promise in promises]
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    details = {"processes": PROCESSES}
    return conclude("slurm", rows, is_full, seconds, details) or int(any(row.verdict == "not shown" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
