"""Name what lies in a run folder, and check that a run can be written there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from faceid.claims import CLAIMS_NAME
from faceid.errors import DataError
from faceid.files.outputs import RUN_FOLDER, refuse_file, refuse_folder, refuse_hidden
from faceid.files.provenance import made_by
from faceid.training.world.checkpoint_names import newest_first
from faceid.training.world.stop import STOP_FILE

FILES = (
    STOP_FILE,
    "config.yaml",
    "provenance.json",
    "metrics.jsonl",
    "attempts.jsonl",
    "face_lora_best.safetensors",
    "face_lora_final.safetensors",
    "face_lora_final.pth",
)
# These hold photos and faces, pictures of validations and their videos.
FOLDERS_WITH_FACES = ("cache", "tensorboard", "validation_base")
FOLDERS = ("logs", "checkpoints", *FOLDERS_WITH_FACES, CLAIMS_NAME)


# Files that may exist before the first run: the cluster's, those of `tools/check_cluster.py`, or an early stop file.
BEFORE = (STOP_FILE, "attempts.jsonl", "logs", CLAIMS_NAME)
LOGS = ("*.log", "*.out", "*.err", ".faceid-*")


def check_run_folder(folder: Path, inputs: Sequence[Path] = ()) -> None:
    """Raises: DataError when a run cannot be written there, or something else is in the place of its files.

    inputs: folders that are read. Nothing is made or changed.
    """
    refuse_hidden(folder, "output_dir")
    whole = folder.resolve()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise DataError(f"{folder}: not a folder that can be written (Not a directory); choose another output folder")
    # The system decides: root can write to every folder except on a read-only disk.
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: not a folder that can be written ({nearest}); choose another output folder")
    for names, is_wrong, found, wanted in (
        (FILES, Path.is_dir, "a folder", "a file"),
        (FOLDERS, Path.is_file, "a file", "a folder"),
    ):
        for name in names:
            if is_wrong(folder / name):
                raise DataError(
                    f"{folder / name}: {found}, where a run has {wanted} of its own; move it away, or choose another "
                    "output folder"
                )
    is_known = made_by(folder, "train.py") or any(newest_first(folder / "checkpoints"))
    logs = [path.name for pattern in LOGS for path in folder.glob(pattern)] if folder.is_dir() else []
    # Links to a larger disk may have been made beforehand.
    empty = [name for name in FOLDERS if (folder / name).is_dir() and not any((folder / name).iterdir())]
    refuse_folder(folder, RUN_FOLDER, inputs, (*BEFORE, *logs, *empty), is_known=is_known)
    for path in sorted(folder.glob("face_lora_*")):
        # Checked now, and not when the run is over and has nowhere to write.
        refuse_file(path, key="output_dir", within=RUN_FOLDER)
