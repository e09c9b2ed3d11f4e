"""What lies in a run folder under which name, and whether a run can be written there."""

from __future__ import annotations

import os
from pathlib import Path

from faceid.claims import CLAIMS_NAME
from faceid.errors import DataError
from faceid.training.stop import STOP_FILE

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
FOLDERS = ("logs", "checkpoints", "cache", "tensorboard", "validation_base", CLAIMS_NAME)


def check_run_folder(folder: Path) -> None:
    """Raises: DataError when a run cannot be written there, or something else lies in the place of what it writes.

    Nothing is made or changed.
    """
    whole = folder.resolve()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise DataError(f"{folder}: not a folder that can be written (Not a directory); choose another output folder")
    # Asked of the system: for root all folders can be written, but for those of a read-only disk.
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
