"""Write checkpoints of the trained tensors, whole or not at all.

Their format does not depend on the world size. `checkpoints/step_00001200/` holds trainables, both Adam moments, the
averaged weights and a JSON state. A manifest with sha256 is written last, everything is read back, and only then does
the folder get its name. Pruning comes after that. It keeps at least two valid checkpoints, and those with a file PINNED
(a user's, or the best one's). Nothing is pickled, and the frozen base is never written. Only the main process reads and
writes here.
"""

from __future__ import annotations

import functools
import logging
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceid.data.disk_space import check_space
from faceid.errors import FaceidError
from faceid.files.documents import parse_json, read_bytes, read_text
from faceid.files.outputs import new_folder, set_aside
from faceid.files.provenance import sha256_file
from faceid.files.writing import json_text
from faceid.training.checkpoints.sharded_state import MOMENTS, TRAINABLES
from faceid.training.world.checkpoint_names import is_named_so, name_of, newest_first

log = logging.getLogger(__name__)

STATE_FILE, MANIFEST_FILE = "state.json", "MANIFEST.json"
PIN_FILE = "PINNED"
FEWEST_KEPT = 2
# Every checkpoint has these tensors. A manifest says whether a checkpoint also has averaged weights.
_ALWAYS = (TRAINABLES, *MOMENTS)
# A checkpoint that a killed attempt had half deleted. `faceid.files.writing` sweeps what was half written.
_TRASH = re.compile(r"\.trash_step_\d{8}_[0-9a-f]{8}")


class CheckpointError(FaceidError):
    """A checkpoint that cannot be used: damaged, or from another run."""


def save(
    folder: Path,
    tensors: Mapping[str, dict[str, Tensor]],
    state: dict[str, Any],
    keep: int,
    check_ours: Callable[[], None] = lambda: None,
) -> Path:
    """Publish `folder/step_N` (N = state["step"]) and prune to the newest `keep` (two at least).

    tensors: as `ShardedState.gather` returns them. state: plain types; what a resume needs besides tensors.
    check_ours: called before anything is published or removed; it raises when another attempt has the folder by now.
    Raises: OSError, DataError (no room) or CheckpointError (a tensor that must not be kept). Nothing is changed then.
    """
    final = folder / name_of(state["step"])
    _refuse_empty_or_not_finite(final, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(tensor.numel() * tensor.element_size() for group in tensors.values() for tensor in group.values())
    check_space(folder, size, "the tensors of one checkpoint")
    if final.exists():
        check_ours()
        _make_way(final)
    with new_folder(final) as temporary:
        _write(temporary, tensors, state)
        verify(temporary)
        check_ours()
    check_ours()
    prune(folder, keep)
    return final


def check_room(folder: Path, size: int, keep: int, best: bool) -> None:
    """Check, before a run's first step, that there is room for all checkpoints that it will have at once.

    size: bytes of one. best: one more is pinned. Existing checkpoints are counted. Raises: DataError.
    """
    # While one checkpoint is written, the older ones are still there. They go only when the new one is proven whole.
    most = max(keep, FEWEST_KEPT) + 1 + best
    needed = max(most - len(list(newest_first(folder))), 1)
    check_space(folder, needed * size, f"{needed} checkpoint{'s' if needed > 1 else ''} (keep_checkpoints={keep})")


def find_newest(folder: Path) -> Path | None:
    """The newest valid checkpoint. Messages say which ones were skipped and why.

    None when there is no checkpoint. Raises: CheckpointError when some exist and none can be used.
    """
    skipped = []
    for candidate in newest_first(folder):
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


def to_resume(folder: Path, resume: str) -> Path | None:
    """The checkpoint that --resume means, verified; None for a new run. Raises: CheckpointError."""
    if resume in ("auto", "none"):
        return find_newest(folder) if resume == "auto" else None
    verify(Path(resume))
    return Path(resume)


def state_of_newest(folder: Path, resume: str) -> dict[str, Any] | None:
    """The state that a run would resume, read without looking at the tensors; None for a new run."""
    given = [] if resume == "none" else newest_first(folder) if resume == "auto" else [Path(resume)]
    for candidate in given:
        try:
            state = parse_json(read_bytes(candidate / STATE_FILE), nan=True)
            state["origin"]["recipe"]["batch_size"] + state["origin"]["asked_batch_size"] + 0
            _refuse_other_name(candidate, state["step"])
        except CheckpointError:
            continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # a fault in it is reported when it is verified
        return state
    return None


def verify(checkpoint: Path) -> dict[str, Any]:
    """Read the whole checkpoint and return its state. Raises: CheckpointError naming the first thing wrong."""
    try:
        described = parse_json(read_bytes(checkpoint / MANIFEST_FILE), nan=True)["files"]
        missing = {STATE_FILE, *(f"{name}.safetensors" for name in _ALWAYS)} - described.keys()
        if missing:
            raise CheckpointError(f"{checkpoint}: its manifest does not name {min(missing)}; the checkpoint is damaged")
        for name in described:
            path = checkpoint / name
            if path.name != name:
                raise CheckpointError(f"{checkpoint}: its manifest names {name!r}, no file in it; it is damaged")
            if path.stat().st_size != described[name]["size"] or sha256_file(path) != described[name]["sha256"]:
                raise CheckpointError(f"{path}: not what the manifest says (size or sha256); the file is damaged")
        state = parse_json(read_bytes(checkpoint / STATE_FILE), nan=True)
        if type(state["step"]) is not int or state["step"] < 0:
            raise CheckpointError(f"{checkpoint}: {STATE_FILE} says step={state['step']!r}; it is damaged")
        _refuse_other_name(checkpoint, state["step"])
        return state
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{checkpoint}: incomplete or damaged ({error})") from error


def _refuse_other_name(checkpoint: Path, step: int) -> None:
    """Refuse a copy under a later step's name. It would be taken for the newest again and again."""
    if is_named_so(checkpoint) and checkpoint.name != name_of(step):
        raise CheckpointError(
            f"{checkpoint}: was saved as {name_of(step)}; give it that name, or keep the copy under a name that is no "
            "checkpoint's"
        )


def read_tensors(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a verified checkpoint: trainables, moments and averages, each by adapter file name."""
    try:
        return {path.stem: load_file(path) for path in sorted(checkpoint.glob("*.safetensors"))}
    except (SafetensorError, KeyError, OSError) as error:
        raise CheckpointError(f"{checkpoint}: damaged ({error})") from error


def pin(checkpoint: Path, why: str) -> None:
    """Keep a checkpoint until its file PINNED is removed. why: the file's text. A user's own file stays unchanged."""
    if not (checkpoint / PIN_FILE).exists():
        (checkpoint / PIN_FILE).write_text(why + "\n", encoding="utf-8")


def unpin(folder: Path, why: str) -> None:
    """Remove the pins in `folder` whose text is `why`. Users' pins stay."""
    for path in folder.glob(f"step_*/{PIN_FILE}"):
        # A user may have put anything there.
        with suppress(OSError, ValueError):
            if read_text(path).strip() == why:
                path.unlink()


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` valid ones and the pinned, and what killed attempts left half deleted.

    A checkpoint with files that its manifest does not name, or with an unreadable manifest, stays.
    """
    valid = 0
    for candidate in newest_first(folder):
        if (candidate / PIN_FILE).exists():
            continue
        if valid >= max(keep, FEWEST_KEPT):
            _remove(candidate)
            continue
        try:
            verify(candidate)
            valid += 1
        except CheckpointError as error:
            log.warning("not counted among the %d that are kept: %s", max(keep, FEWEST_KEPT), error)
    for leftover in folder.iterdir():
        if _TRASH.fullmatch(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)


def _make_way(final: Path) -> None:
    """Make way for a checkpoint. A run that resumed an older checkpoint reaches the newer ones' steps again."""
    try:
        verify(final)
        _remove(final)
    except CheckpointError as error:
        log.warning("%s", error)
    if final.exists():
        set_aside(final)


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint, unless it holds anything that its manifest does not name.

    Names and sizes are compared, not sums. Reading a whole checkpoint again at each save would delay training.
    """
    try:
        described = parse_json(read_bytes(checkpoint / MANIFEST_FILE))["files"]
        known = {name: entry["size"] for name, entry in described.items()}
        found = {path.name: path.lstat().st_size for path in checkpoint.iterdir()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s: not removed, for what it holds is not known (%s)", checkpoint, error)
        return
    strangers = {name for name, size in found.items() if known.get(name) != size} - {MANIFEST_FILE, PIN_FILE}
    if strangers:
        _say_kept(checkpoint, min(strangers))
        return
    # First it loses its name, then it is deleted. A kill in between leaves no torn checkpoint under the name.
    trash = checkpoint.with_name(f".trash_{checkpoint.name}_{uuid.uuid4().hex[:8]}")
    checkpoint.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


@functools.lru_cache(maxsize=256)
def _say_kept(checkpoint: Path, name: str) -> None:
    """Warn once in a process, because the checkpoint is met again at every save."""
    log.warning("%s: not removed: %s in it is somebody's, or is not as it was saved", checkpoint, name)


def _refuse_empty_or_not_finite(final: Path, tensors: Mapping[str, dict[str, Tensor]]) -> None:
    for group, members in tensors.items():
        for name, tensor in members.items():
            if tensor.numel() == 0:
                raise CheckpointError(f"{final}: {group} {name} is empty: it was not gathered; not saved")
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{final}: {group} {name} is not finite; not saved")


def _write(folder: Path, tensors: Mapping[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    for name, group in tensors.items():
        save_file(group, folder / f"{name}.safetensors")
    (folder / STATE_FILE).write_text(json_text(state), encoding="utf-8")
    files = sorted(folder.iterdir())
    described = {path.name: {"size": path.stat().st_size, "sha256": sha256_file(path)} for path in files}
    (folder / MANIFEST_FILE).write_text(json_text({"version": 1, "files": described}), encoding="utf-8")
