"""Show, row by row, what training promises: kills, crashes, worlds, operations and speed, each beside its control.

`make prove-training` runs smaller sizes, `make prove-training FULL=1` the stated ones. Ends non-zero when a promise
falls short; writes benchmarks/records/prove_training[_full].json. Its data lies in memory where there is /dev/shm.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from checkpoint_crashes import sweep_accelerate, sweep_ours
from proof import RECORDS, Promise, Row, Seen, conclude, judge_tests, memory_folder, row_of_time, rows_of, run_tests
from training_faults import Inputs, change_processes, kill_and_resume
from training_speed import compare_checkpointing, compare_vace_graph

LONGEST_DEFAULT_S = 600
TESTED = (
    Promise(
        "a single process, DDP, ZeRO-2 and ZeRO-3: the same losses and the same adapter",
        "losses within 1e-5, weights within a tenth of a step",
        ("tests/training/test_worlds.py",),
    ),
    Promise(
        "operations of a step by the analytic least, at the true 1.3B, with FULL=1 at 14B, too",
        "<= 1.02",
        ("tests/models/costs/test_flops.py::test_a_step_computes_what_it_must_and_at_most_two_percent_more",),
    ),
    Promise(
        "trained parameters at the true sizes",
        "as designed",
        ("tests/models/costs/test_flops.py::test_trainable_parameters_at_the_real_sizes",),
    ),
    Promise(
        "activations a block holds for the backward pass, at the true 1.3B",
        "1 full, 2 attention",
        ("tests/models/costs/test_flops.py::test_bytes_held_for_the_backward_pass_by_block",),
    ),
)
KILL_SEED = 20


@dataclass(frozen=True)
class Sizes:
    """How much is run. crash_points: of the sweep; None for all."""

    kills: int
    kill_epochs: int
    crash_points: int | None
    processes: tuple[int, ...]
    elastic_epochs: int
    rounds: int


SMALL = Sizes(kills=3, kill_epochs=6, crash_points=60, processes=(2, 1), elastic_epochs=2, rounds=2)
FULL = Sizes(kills=30, kill_epochs=60, crash_points=None, processes=(4, 2, 1, 4), elastic_epochs=8, rounds=3)

# Three minutes.
TESTED_WHEN_FULL = (
    Promise(
        "a step that is not finite teaches nothing, in ZeRO-2, too; an adapter to begin with is taken exactly in bf16",
        "all checks pass",
        (
            "tests/training/world/test_agreement.py::test_a_step_that_is_not_finite_teaches_nothing_and_the_run_goes_on",
            "tests/training/test_init_adapter.py::test_a_pth_under_zero_in_bfloat16_begins_as_exactly",
        ),
    ),
    Promise(
        "a validation in ZeRO-2 and ZeRO-3 processes beside one process's",
        "the same measurements",
        ("tests/training/test_validation.py::test_every_world_measures_the_same_as_one_process",),
    ),
)


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    sizes = FULL if is_full else SMALL
    torch.set_num_threads(1)
    began = time.perf_counter()
    details: dict[str, Any] = {"load_average_at_start": os.getloadavg(), "kill_seed": KILL_SEED}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        work = Path(name)
        # What is timed comes first; nothing of this proof runs beside it.
        for look in (_speed, _crashes, _kills, _elastic):
            rows += _timed(look, work, sizes, details)
    promises = [*TESTED, *(TESTED_WHEN_FULL if is_full else ())]
    cases = run_tests([test for promise in promises for test in promise.tests], is_full)
    rows += [judge_tests(promise, cases) for promise in promises]
    rows += rows_of([_toy_proof()], 0)
    seconds = time.perf_counter() - began
    if not is_full:
        rows += row_of_time(LONGEST_DEFAULT_S, seconds)
    return conclude("training", rows, is_full, seconds, details)


def _speed(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    kept, same_kept, said_kept = compare_checkpointing(sizes.rounds)
    vace = compare_vace_graph(sizes.rounds)
    return [
        (
            "checkpointing full / attention: CPU seconds a step, gradients equal to the bit",
            ">= 1.10",
            said_kept + ("" if same_kept else "; gradients differ"),
            kept >= 1.10 and same_kept,
        ),
        (
            "VACE branch with a graph (LoRA on both branches) / without: CPU seconds; a graph alone changes no bit",
            ">= 1.3",
            vace.words + ("" if vace.same_gradients else "; gradients differ"),
            vace.lora_on_both >= 1.3 and vace.same_gradients,
        ),
    ]


def _crashes(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    points, good, failures = sweep_ours(work, sizes.crash_points)
    theirs, loaded = sweep_accelerate(work, sizes.crash_points)
    details["crash_failures"] = failures
    control = f"Accelerate's save_state with total_limit: {loaded} of {theirs} load"
    return [
        (
            "SIGKILL before each system call of a save: a valid checkpoint is found, and the next save is clean",
            "all points; the control fails at most of its own",
            f"{good} of {points} ({control})",
            good == points and loaded < theirs / 2,
        )
    ]


def _kills(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    inputs = Inputs.make(work)
    killed = kill_and_resume(inputs, work, sizes.kills, sizes.kill_epochs, KILL_SEED)
    details["killed"] = asdict(killed)
    where = (
        f"{killed.kills} kills in {killed.steps} steps, {killed.kills_before_a_step} of them while starting; "
        f"{killed.steps_lost} steps done again"
    )
    return [
        (
            "kill -9 at random moments (2 processes, ZeRO-2): weights, moments and averages at the end",
            f"bit-identical after {sizes.kills} kills",
            f"{where}; {len(killed.differing)} tensors differ" + ("" if killed.same_losses else "; losses differ"),
            not killed.differing and killed.kills == sizes.kills and killed.same_losses,
        ),
        (
            "... and the samples it took",
            "none missing, none twice",
            f"{killed.missing} missing, {killed.repeated} twice",
            killed.missing == killed.repeated == 0,
        ),
    ]


def _elastic(work: Path, sizes: Sizes, details: dict[str, Any]) -> list[Seen]:
    changed = change_processes(Inputs.made(work), work, list(sizes.processes), sizes.elastic_epochs)
    details["elastic"] = asdict(changed)
    return [
        (
            f"{' -> '.join(map(str, sizes.processes))} processes in one run: losses beside one process",
            "1e-6 relative, the same samples in each step",
            f"{changed.largest_difference:.1e} over {changed.steps} steps; samples "
            + ("the same" if changed.same_samples else "differ"),
            changed.largest_difference <= 1e-6 and changed.same_samples,
        )
    ]


def _toy_proof() -> Seen:
    """prove-identity runs the whole recipe with two processes; here its newest record is read, full or small."""
    records = {file: json.loads(file.read_text(encoding="utf-8")) for file in RECORDS.glob("prove_identity*.json")}
    file, record = max(records.items(), key=lambda entry: entry[1]["time"])
    short = [row["promise"] for row in record["rows"] if row["verdict"] != "holds"]
    measured = (
        f"{len(record['rows']) - len(short)} of {len(record['rows'])} rows of {file.name}, commit {record['commit']}"
    )
    return "the toy proof, with the whole recipe and two processes", "all rows", measured, not short


def _timed(
    look: Callable[[Path, Sizes, dict[str, Any]], list[Seen]], work: Path, sizes: Sizes, details: dict[str, Any]
) -> list[Row]:
    began = time.perf_counter()
    return rows_of(look(work, sizes, details), time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
