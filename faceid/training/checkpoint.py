"""Checkpoints of what is trained, in a format no world size shows through, published whole or not at all.

`checkpoints/step_00001200/` holds trainables, both Adam moments and a JSON state; a manifest with sha256 is written
last, everything is read back, and only then is the folder renamed to its name. Pruning comes after that and never
leaves fewer than two. No pickle anywhere; the frozen base is never written. Every rank calls `save` and `restore`:
under ZeRO the tensors are gathered and scattered by collectives.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceid.errors import FaceidError
from faceid.provenance import fsync_folder, sha256_file
from faceid.training.sharded_state import ShardedState

log = logging.getLogger(__name__)

TENSOR_FILES = ("trainables", "exp_avg", "exp_avg_sq")
STATE_FILE, MANIFEST_FILE = "state.json", "MANIFEST.json"
_NAME = re.compile(r"step_(\d{8})")


class CheckpointError(FaceidError):
    """A checkpoint that cannot be used: damaged, or of another run."""


def save(folder: Path, sharded: ShardedState, state: dict[str, Any], keep: int, is_main: bool) -> Path:
    """Publish `folder/step_N` (N = state["step"]) and prune to the newest `keep` (two at least).

    state: plain types; what a resume needs besides tensors. All ranks call; the main one writes.
    """
    tensors = sharded.gather()
    final = folder / f"step_{state['step']:08d}"
    if is_main:
        temporary = folder / f".tmp_{final.name}_{uuid.uuid4().hex[:8]}"
        temporary.mkdir(parents=True)
        try:
            _write(temporary, tensors, state)
            verify(temporary)
            if final.exists():
                shutil.rmtree(final)  # the same step of this run, saved by an attempt before this one
            temporary.rename(final)
            fsync_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _prune(folder, max(keep, 2))
    return final


def find_newest(folder: Path) -> Path | None:
    """The newest valid checkpoint; says what it skipped and why.

    None when there is none at all. Raises: CheckpointError when some exist and none can be used.
    """
    skipped = []
    for candidate in _newest_first(folder):
        try:
            verify(candidate)
        except CheckpointError as error:
            log.warning("skipped a checkpoint: %s", error)
            skipped.append(str(error))
            continue
        return candidate
    if skipped:
        raise CheckpointError(f"{folder}: none of {len(skipped)} checkpoints can be used; the newest: {skipped[0]}")
    return None


def verify(checkpoint: Path) -> dict[str, Any]:
    """Read the whole checkpoint and return its state. Raises: CheckpointError naming the first thing wrong."""
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))
        described = manifest["files"]
        for name in [*(f"{file}.safetensors" for file in TENSOR_FILES), STATE_FILE]:
            path = checkpoint / name
            if path.stat().st_size != described[name]["size"] or sha256_file(path) != described[name]["sha256"]:
                raise CheckpointError(f"{path}: not what the manifest says (size or sha256); the file is damaged")
        return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint}: incomplete or damaged ({error})") from error


def read_tensors(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a verified checkpoint: trainables, exp_avg, exp_avg_sq, each by adapter file name."""
    try:
        return {file: load_file(checkpoint / f"{file}.safetensors") for file in TENSOR_FILES}
    except SafetensorError as error:
        raise CheckpointError(f"{checkpoint}: damaged ({error})") from error


def _write(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    for name, group in tensors.items():
        empty = [key for key, tensor in group.items() if tensor.numel() == 0]
        if empty:
            raise CheckpointError(f"{folder}: {name} {empty[0]} is empty: it was not gathered; not saved")
        save_file(group, folder / f"{name}.safetensors")
    (folder / STATE_FILE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())}
    manifest = folder / MANIFEST_FILE
    manifest.write_text(json.dumps({"version": 1, "files": files}, indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def _newest_first(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` valid ones, and what killed attempts left behind."""
    valid = 0
    for candidate in _newest_first(folder):
        if valid >= keep:
            shutil.rmtree(candidate, ignore_errors=True)
            continue
        try:
            verify(candidate)
            valid += 1
        except CheckpointError as error:
            log.warning("kept aside from counting: %s", error)
    for leftover in folder.glob(".tmp_*"):
        shutil.rmtree(leftover, ignore_errors=True)
