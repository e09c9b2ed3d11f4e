"""What training promises: kills, crashes, worlds, operations and speed, each beside its control."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks import RECORDS
from benchmarks.faults.checkpoint_crashes import sweep_accelerate, sweep_ours
from benchmarks.faults.training_faults import WORLD_FLAGS, change_processes, kill_and_resume
from benchmarks.prepared_world import prepare_world
from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Seen
from benchmarks.speed.training_speed import compare_checkpointing, compare_vace_graph

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


def _speed(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
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


def _crashes(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    points, good, failures = sweep_ours(work.shared, sizes.crash_points)
    theirs, loaded = sweep_accelerate(work.shared, sizes.crash_points)
    work.details["crash_failures"] = failures
    control = f"Accelerate's save_state with total_limit: {loaded} of {theirs} load"
    return [
        (
            "SIGKILL before each system call of a save: a valid checkpoint is found, and the next save is clean",
            "all points; the control fails at most of its own",
            f"{good} of {points} ({control})",
            good == points and loaded < theirs / 2,
        )
    ]


def _kills(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    prepare_world(work.shared, WORLD_FLAGS)
    killed = kill_and_resume(work.shared, sizes.kills, sizes.kill_epochs, KILL_SEED)
    work.details["killed"] = asdict(killed)
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


def _elastic(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    changed = change_processes(work.shared, list(sizes.processes), sizes.elastic_epochs)
    work.details["elastic"] = asdict(changed)
    return [
        (
            f"{' -> '.join(map(str, sizes.processes))} processes in one run: losses beside one process",
            "1e-6 relative, the same samples in each step",
            f"{changed.largest_difference:.1e} over {changed.steps} steps; samples "
            + ("the same" if changed.same_samples else "differ"),
            changed.largest_difference <= 1e-6 and changed.same_samples,
        )
    ]


def _toy_proof(work: Work) -> list[Seen]:
    """prove-identity runs the whole recipe with two processes; here its newest record is read, full or small."""
    records = {file: json.loads(file.read_text(encoding="utf-8")) for file in RECORDS.glob("prove_identity*.json")}
    file, record = max(records.items(), key=lambda entry: entry[1]["time"])
    short = [row["promise"] for row in record["rows"] if row["verdict"] != "holds"]
    measured = (
        f"{len(record['rows']) - len(short)} of {len(record['rows'])} rows of {file.name}, commit {record['commit']}"
    )
    return [("the toy proof, with the whole recipe and two processes", "all rows", measured, not short)]


PROOF = Proof("training", (_speed, _crashes, _kills, _elastic, _toy_proof), details={"kill_seed": KILL_SEED})
