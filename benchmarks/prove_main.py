"""Show, row by row, what the main job promises: run its checks, print figures, write a record.

`make prove-main` runs smaller sizes, `make prove-main FULL=1` the stated ones. Each promise is a few tests; the figures
are what the tests measured. Ends non-zero when a promise falls short.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proof import REPOSITORY, Promise, Row, conclude, judge_tests, run_tests

PROMISES = (
    Promise("end to end on the toy base, 2 ZeRO-2 processes", "under 180 s", ("tests/test_end_to_end.py",), 180),
    Promise("end to end on real clips and photos", "all checks pass", ("tests/test_end_to_end_real.py",)),
    Promise(
        "DDP, ZeRO-2, ZeRO-3 and one process: the same losses",
        "relative 1e-5",
        ("tests/training/test_worlds.py",),
    ),
    Promise(
        "face_scale 0 with a trained adapter is WanVACEPipeline",
        "torch.equal",
        (
            "tests/models/rendering/test_pipeline.py::test_face_scale_zero_with_a_trained_adapter_is_the_base_pipeline",
            "tests/models/adapter/test_face_adapter.py::test_a_trained_adapter_switched_off_is_the_base_bit_for_bit",
        ),
    ),
    Promise(
        "a new adapter changes nothing",
        "torch.equal",
        ("tests/models/adapter/test_face_adapter.py::test_a_new_adapter_changes_nothing",),
    ),
    Promise(
        "every trained tensor gets a gradient within two steps",
        "all tensors",
        (
            "tests/models/adapter/test_face_adapter.py::test_every_adapter_tensor_learns_within_two_steps_and_nothing_else_does",
        ),
    ),
    Promise(
        "only the adapter is in the optimizer",
        "no base tensor",
        ("tests/training/test_build.py::test_only_adapter_parameters_are_in_the_optimizer",),
    ),
    Promise("golden forward", "1e-6", ("tests/models/adapter/test_golden_forward.py",)),
    Promise("control tensor equals WanVACEPipeline's", "torch.equal", ("tests/test_vace.py",)),
    Promise(
        "the loss of one clip falls",
        "factor 1.5 in 200 steps (small: 1.25 in 60)",
        ("tests/training/test_learning.py::test_the_loss_of_one_clip_falls",),
    ),
    Promise(
        "five golden losses",
        "relative 1e-4",
        ("tests/training/test_learning.py::test_the_first_five_losses_are_the_stored_ones",),
    ),
    Promise(
        "stage 2 holds the mapper still, bit for bit",
        "torch.equal",
        ("tests/training/test_learning.py::test_stage_two_holds_the_mapper_still_and_trains_the_rest",),
    ),
    Promise(
        "killed and run again: the same losses and adapter",
        "bit-identical",
        ("tests/training/test_resume.py::test_killed_with_sigkill_and_run_again",),
    ),
    Promise("floors and doors hold; planted violations are seen", "all seen", ("tests/test_house.py",)),
    Promise("bad input: one line, exit code 2, nothing lost", "every case", ("tests/test_bad_input.py",)),
)
ONLY_FULL = (
    Promise(
        "stopped and resumed under ZeRO-2 and ZeRO-3, and in another world",
        "bit-identical (other world: 1e-5)",
        (
            "tests/training/test_resume.py::test_stopped_by_a_file_under_deepspeed_and_resumed",
            "tests/training/test_resume.py::test_a_checkpoint_of_two_zero2_processes_goes_on_in_a_single_one",
            "tests/training/test_resume.py::test_stopped_by_sigterm_saves_and_says_so_by_exit_code_75",
        ),
    ),
)


def main(argv: list[str]) -> int:
    """Run, print and record; 1 when a promise falls short."""
    is_full = "--full" in argv
    promises = (*PROMISES, *ONLY_FULL) if is_full else PROMISES
    began = time.perf_counter()
    cases = run_tests([test for promise in promises for test in promise.tests], is_full)
    rows = [judge_tests(promise, cases) for promise in promises]
    if is_full:
        rows.append(_prove_fresh_clone())
    return conclude("main", rows, is_full, time.perf_counter() - began)


def _prove_fresh_clone() -> Row:
    """`make demo` in a fresh clone without a .venv: set-up and the main job."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "faceid"
        environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS")}
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        done = subprocess.run(["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
        videos = list((clone / "demo_out").rglob("*.mp4"))
    seconds = time.perf_counter() - began
    verdict = "holds" if done.returncode == 0 and videos else "falls short"
    measured = f"exit {done.returncode}, {len(videos)} mp4 files" + ("" if done.returncode == 0 else done.stderr[-300:])
    return Row(
        "make demo in a fresh clone, nothing set up", "exit 0, rendered mp4", measured, verdict, round(seconds, 1)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
