"""Runs of train.py in processes of their own, watched or broken from within."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launching import REPOSITORY, start_function
from module_digest import differences, random_state, state_of_module

from faceid.training.world.launched import read_accelerate_config

TIMEOUT_S = 120


def run(words: list[str], world: str = "single", around: Callable[[], None] | None = None) -> list[int]:
    """Exit codes of train.py's processes, one a rank. world: single, or a config of launch/accelerate.

    around: called in each process before it trains, to watch it or to break it.
    """
    places: list[dict[str, str]] = [{}]
    if world != "single":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= read_accelerate_config(REPOSITORY / "launch" / "accelerate" / f"{world}.yaml")
        places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    null = subprocess.DEVNULL
    processes = [
        start_function(_train, words, around, env={**os.environ, **place}, stdout=null, stderr=null) for place in places
    ]
    try:
        return [process.wait(TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _train(words: list[str], around: Callable[[], None] | None) -> None:
    from faceid.training import validate

    # One clip for the losses at fixed noise: what is looked at here is what a validation leaves, not what it finds.
    validate.SWAP_GAP_CLIPS = 1
    if around is not None:
        around()
    from faceid.config import parse_sections
    from faceid.errors import run_entry_point
    from faceid.training.checks.run_sections import SECTIONS, RunSections
    from faceid.training.training_run import run_training

    sections = RunSections(*parse_sections("train.py", "", SECTIONS, words))
    run_entry_point(lambda: run_training(sections))


class Looking:
    """Writes for each validation what it left behind: one line a validation, one file a rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        from faceid.training.validate import Validation

        validate = Validation.validate

        def watched(validation: Any, epoch: int, done: int) -> bool:
            before = whole_state(validation.run)
            is_best = validate(validation, epoch, done)
            left = differences(before, whole_state(validation.run))
            with (self.folder / f"left_by_validation_{validation.run.world.rank}.jsonl").open("a") as file:
                file.write(json.dumps(left) + "\n")
            return is_best

        Validation.validate = watched  # type: ignore[method-assign]


class DyingInTheFirstRender:
    """SIGKILL in the middle of a validation's first video: what an out-of-memory killer does."""

    def __call__(self) -> None:
        from faceid.training.validation.scenes import SceneRenderer

        SceneRenderer.base = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]


def whole_state(run: Any) -> dict[str, Any]:
    """Of a run: the module, what wraps it, weights, moments and averages, generators and log levels."""
    found = state_of_module(run.wan.transformer, run.adapter) | random_state()
    found["wrapper is training"] = run.transformer.training
    found["mapper is frozen"] = run.gate.is_stage2
    found["level"] = logging.getLogger("faceid").level
    for kind, tensors in run.sharded.gather().items():
        found |= {f"{kind} {name}": tensor.double().sum().item() for name, tensor in tensors.items()}
    return found
